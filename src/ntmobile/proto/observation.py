"""What DC and RS answer to STUN: the observation points from which a node examines its NAT.

RS has a second port, so that a node can ask two ports of one address and be answered from a port
that it never sent to. An answer never goes to another address than the question came from, only
to another port of it. Source: RFC 5780, section 6. Ours: docs/protocol.md section 3.
"""

from dataclasses import dataclass

from ntmobile.proto.io import Transmit
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.stun import CHANGE_REQUEST, BindingRequest, BindingResponse, UnknownAttributes


@dataclass(frozen=True, slots=True)
class Observation:
    """One answer, and which of the two ports it leaves from."""

    transmit: Transmit
    from_other_port: bool = False


def observe(request: BindingRequest, source: Endpoint, other_port: int | None) -> Observation:
    """Answer a Binding Request; other_port None is a server that has only one."""
    unknown = request.unknown
    if request.from_other_port and other_port is None:
        unknown = (*unknown, CHANGE_REQUEST)
    if unknown:
        refusal = UnknownAttributes(request.transaction, unknown)
        return Observation(Transmit(source, refusal.encode()))
    told = other_port if request.asks_other_port else None
    response = BindingResponse(request.transaction, source, told)
    destination = source
    if request.response_port is not None:
        destination = Endpoint(source.host, request.response_port)
    return Observation(Transmit(destination, response.encode()), request.from_other_port)
