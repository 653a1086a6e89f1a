"""How a node stands, put together from its parts for `ntm status`; reads only."""

from ntmobile.proto.node.fallback import Fallback
from ntmobile.proto.node.login import Login
from ntmobile.proto.node.peers import Peers
from ntmobile.proto.node.reach import Reach
from ntmobile.proto.node.registration import Registration
from ntmobile.proto.node.settings import NodeView
from ntmobile.wire.registration import Reason


def node_view(
    fqdn: str,
    trouble: str,
    coordinator: str,
    login: Login,
    registration: Registration,
    peers: Peers,
    reach: Reach,
    fallback: Fallback,
) -> NodeView:
    """Return what `ntm status` says of this node; trouble is why it cannot go on."""
    responses = registration.responses
    if fallback.is_refused:
        trouble = trouble or str(Reason.TIMED_OUT)
    at_fault = bool(trouble) or not (responses or login.is_over)
    own = peers.addresses.own
    return NodeView(
        fqdn,
        "degraded" if at_fault else "up" if responses else "down",
        trouble,
        None if own is None else own[0],
        None if own is None else own[1],
        tuple(response.mapped for response in responses.values()),
        coordinator,
        reach.choice,
        reach.reached,
        reach.interval_s,
        fallback.is_web,
        fallback.is_refused,
        tuple(registration.distances),
        registration.mapping_age_s,
    )
