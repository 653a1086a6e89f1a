"""Turns what the node's machine and the packet loops know into what `ntm` shows; reads only."""

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from ntmobile import __version__
from ntmobile.agent.certificates import (
    authority_views,
    certificate_troubles,
    certificate_view,
    refused_views,
)
from ntmobile.agent.failures import (
    login_failure,
    reach_troubles,
    reason_text,
    standstill,
)
from ntmobile.agent.history import Trace
from ntmobile.agent.names import owner_of
from ntmobile.agent.session import Session
from ntmobile.agent.state import State
from ntmobile.agent.views import (
    CertificateView,
    HandoversView,
    KeepAliveView,
    KeyActView,
    KeysView,
    KeyView,
    KnownPeer,
    PathView,
    PeerStatus,
    PeersView,
    ServerView,
    StatusView,
    StepView,
    TraceView,
    WhoisView,
)
from ntmobile.keys.identity import fingerprint
from ntmobile.keys.table import CommonKey
from ntmobile.proto.journal import Step
from ntmobile.proto.node.distances import Distance
from ntmobile.proto.node.settings import NodeView, PeerView
from ntmobile.proto.sequence import is_negotiation
from ntmobile.runtime.clock import Clock, iso
from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint, Host
from ntmobile.wire.login import LoginRefused
from ntmobile.wire.registration import KeepAliveChoice, Reason

_MILLISECOND = 1_000_000


def down_view(state: State, troubles: Iterable[str]) -> StatusView:
    """The status of an agent whose node is not up."""
    account, addresses = state.account, state.addresses
    return StatusView(
        fqdn=account.fqdn if account else None,
        state="down",
        reasons=tuple(troubles),
        virtual_ipv4=str(addresses.ipv4) if addresses else None,
        virtual_ipv6=str(addresses.ipv6) if addresses else None,
        servers=(),
        peers=(),
        model=account.model.value if account else "system",
        device_key=fingerprint(state.identity.public.device),
        version=__version__,
        identity=account.who if account else None,
    )


def status_view(session: Session, state: State, troubles: Iterable[str]) -> StatusView:
    """`ntm status` of a running node; troubles are what the agent itself suffers from."""
    view = session.node.view()
    wall_s = session.clock.wall()
    reasons = [*_reasons(session, view.reason), *certificate_troubles(state, wall_s), *troubles]
    reasons += reach_troubles(view.reached.problem)
    standing: Literal["up", "down", "degraded"] = "degraded" if reasons else "up"
    return StatusView(
        fqdn=view.fqdn,
        state="down" if view.state == "down" else standing,
        reasons=tuple(reasons),
        notices=tuple(_notices(session)),
        virtual_ipv4=str(view.virtual_ipv4) if view.virtual_ipv4 else None,
        virtual_ipv6=str(view.virtual_ipv6) if view.virtual_ipv6 else None,
        servers=_servers(session),
        peers=tuple(peer_status(session, peer) for peer in session.node.peers()),
        model=session.account.model.value,
        device_key=fingerprint(state.identity.public.device),
        version=__version__,
        identity=session.account.who,
        certificate=_certificate(session, state, wall_s),
        refused=refused_views(session),
        keepalive=None if _stands_still(session) else _keepalive(session, view),
    )


def _stands_still(session: Session) -> bool:
    reason = session.node.view().reason
    return standstill(session.account, reason, session.login_failure) is not None


def _certificate(session: Session, state: State, wall_s: float) -> CertificateView | None:
    view = certificate_view(state, wall_s)
    if view is None or not _is_revoked(session):
        return view
    return msgspec.structs.replace(view, renewed=False)


def _keepalive(session: Session, view: NodeView) -> KeepAliveView:
    reached, found = view.reached, session.tuner.found
    return KeepAliveView(
        chosen=session.tuner.choice.value,
        now=reached.keepalive.value,
        server=reached.server or None,
        interval_s=view.keepalive_s,
        problem=_unreached(session, reached.problem),
        mapping_s=None if found is None else found.alive_s,
        mapping_dead_s=None if found is None else found.dead_s,
    )


def _unreached(session: Session, reason: Reason | None) -> str | None:
    """Why the node is not reached as its user chose; with what the way to NS said, if anything."""
    if reason is None:
        return None
    why = session.connector.trouble if reason is Reason.NO_NOTIFICATION else None
    return reason_text(reason) if why is None else f"{reason_text(reason)} ({why})"


def _notices(session: Session) -> Iterator[str]:
    if session.node.view().udp_blocked:
        yield "UDP is blocked here: signalling and relay by WebSocket"
    if (age_s := session.node.view().mapping_age_s) is not None:
        never = session.node.settings.mapping_age_s == 0
        cure = "mended at once" if never else "the node changes its port before that"
        yield f"the NAT here drops UDP mappings after {age_s} s, busy or not: {cure}"
    if (prefix := session.detours.prefix) is not None:
        yield f"this network has IPv6 only: IPv4 addresses are reached by NAT64 ({prefix.network})"


def _silence(session: Session, text: str) -> str:
    """Say more of a DC that does not answer: perhaps the network lets nothing out."""
    if not session.node.view().web_refused:
        return text
    why = session.webs.trouble or "no WebSocket stands"
    return (
        f"{text}; no UDP passes to the DC and no WebSocket either ({why}); "
        "where an HTTP proxy leads out: ntm set proxy=http://HOST:PORT"
    )


def _reasons(session: Session, reason: str) -> list[str]:
    ended = standstill(session.account, reason, session.login_failure)
    if session.login_failure is not None:
        failed = login_failure(session.account, session.login_failure)
        # The agent's own next try needs nobody.
        ended = failed if session.login_failure.retry_at is None else ended
        if ended is None:
            return [failed.problem]
    if ended is not None:
        return [f"{ended.problem}; next: {ended.remedy}"]
    if reason in set(Reason):
        told = f"not registered: {reason_text(Reason(reason))}"
        return [f"{_silence(session, told)}; tunnels that stand go on"]
    if session.registered is None:
        return [_silence(session, "not registered yet")]
    return [reason] if reason else []


def _servers(session: Session) -> tuple[ServerView, ...]:
    account, view = _account_server(session), session.node.view()
    if not view.coordinator:
        return (account,)
    healthy = session.registered is not None and not view.reason
    seen = ", ".join(str(endpoint) for endpoint in view.mapped if not endpoint.is_web)
    good = f"sees this node at {seen}" if seen else "talks to this node by WebSocket"
    coordinator = ServerView(
        role="DC",
        name=view.coordinator,
        address=_first(session.coordinator_endpoints),
        healthy=healthy,
        detail=good if healthy else view.reason or "not registered",
    )
    # Where UDP is blocked RS are reached by WebSocket, and how far they are is not known.
    measured = () if view.udp_blocked else view.relays
    relays = tuple(_relay(session, each) for each in measured)
    if view.reached.keepalive is not KeepAliveChoice.TCP:
        return (account, coordinator, *relays)
    notifier = ServerView(
        role="NS",
        name=view.reached.server,
        address=None,
        healthy=True,
        detail=f"holds this node's connection, one keep-alive in {view.keepalive_s} s",
    )
    return (account, coordinator, notifier, *relays)


def _account_server(session: Session) -> ServerView:
    asked = session.account_server
    refuses = _is_revoked(session)
    answered = "refuses this node: it was revoked" if refuses else "answered at the last login"
    return ServerView(
        role="AS",
        name=asked.place.name if asked.place else session.account.server or session.account.domain,
        address=_first(asked.place.endpoints) if asked.place else None,
        healthy=asked.place is not None and asked.trouble is None and not refuses,
        detail=asked.trouble or answered,
    )


def _is_revoked(session: Session) -> bool:
    failure = session.login_failure
    refused = failure is not None and failure.code == LoginRefused.REVOKED
    return refused or session.node.view().reason == Reason.REVOKED


def _relay(session: Session, distance: Distance) -> ServerView:
    """One of several RS: the DC chooses the one nearest to both ends."""
    place, rtt_ns = distance.relay[0], distance.rtt_ns
    named = (each.name for each in session.relays or () if place in each.endpoints)
    answered = f"round trip {(rtt_ns or 0) / _MILLISECOND:.1f} ms"
    return ServerView(
        role="RS",
        name=next(named, str(place.host)),
        address=str(place),
        healthy=rtt_ns is not None,
        detail=answered if rtt_ns is not None else "did not answer when last asked",
    )


def _first(endpoints: tuple[Endpoint, ...]) -> str | None:
    return str(endpoints[0]) if endpoints else None


def peer_status(session: Session, peer: PeerView) -> PeerStatus:
    """One peer with its path."""
    return PeerStatus(
        fqdn=peer.fqdn,
        virtual_ipv4=str(peer.virtual_ipv4),
        virtual_ipv6=str(peer.virtual_ipv6),
        authenticated=peer.authenticated.value,
        cipher=peer.cipher,
        peer_key=fingerprint(peer.peer_key),
        path=_path(session, peer),
        tx_bytes=peer.tx_bytes,
        rx_bytes=peer.rx_bytes,
        established_ms=peer.negotiated_ns / _MILLISECOND,
        last_handover=session.handovers.last(peer.fqdn),
    )


def _path(session: Session, peer: PeerView) -> PathView | None:
    if peer.remote is None:
        return None
    local = session.local(peer.fqdn, peer.remote)
    return PathView(
        kind="relay" if peer.relayed else "direct",
        local=str(local) if local else None,
        remote=str(peer.remote),
        family="ipv6" if peer.remote.version == 6 else "ipv4",
        rtt_ms=None if peer.rtt_ns is None else peer.rtt_ns / _MILLISECOND,
        mtu=peer.mtu,
        websocket=peer.web,
    )


def handovers_view(session: Session) -> HandoversView:
    """`ntm handovers`."""
    handovers = session.handovers
    return HandoversView(handovers=tuple(handovers.kept), trouble=handovers.trouble)


def peers_view(session: Session | None, state: State) -> PeersView:
    """`ntm peers`."""
    connected = {peer.fqdn for peer in session.node.peers()} if session else set()
    return PeersView(
        peers=tuple(
            KnownPeer(
                fqdn=fqdn,
                virtual_ipv4=str(peer.ipv4),
                virtual_ipv6=str(peer.ipv6),
                peer_key=fingerprint(peer.device),
                connected=fqdn in connected,
                certified=peer.certified,
            )
            for fqdn, peer in sorted(state.peers.items())
        )
    )


def keys_view(session: Session, state: State) -> KeysView:
    """`ntm keys`."""
    held = sorted(session.node.keyring, key=lambda key: (key.name, key.identifier))
    return KeysView(
        keys=tuple(_key_view(key, session.clock) for key in held),
        history=tuple(
            KeyActView(
                at=session.clock.iso(record.at),
                act=str(record.act),
                key=record.key,
                identifier=record.identifier,
            )
            for record in session.history.key_records
        ),
        certificate=certificate_view(state, session.clock.wall()),
        authorities=authority_views(state),
    )


def _key_view(key: CommonKey, clock: Clock) -> KeyView:
    return KeyView(
        key=key.name,
        identifier=key.identifier.hex(),
        owners=tuple(sorted(key.owners)),
        created_by=tuple(sorted(key.creator)),
        expires=clock.iso(key.expires),
    )


def trace_view(own: str, trace: Trace, clock: Clock) -> TraceView:
    """`ntm trace`."""
    began = trace.steps[0].at if trace.steps else trace.at
    details = (step.detail for step in trace.steps if is_negotiation(step.detail))
    return TraceView(
        fqdn=trace.fqdn,
        own=own,
        at=clock.iso(trace.at),
        negotiation=next(details, ""),
        steps=tuple(
            _step_view(step, began, wall)
            for step, wall in zip(
                trace.steps, clock.walls_of(step.at for step in trace.steps), strict=True
            )
        ),
    )


def _step_view(step: Step, began: Instant, wall: float) -> StepView:
    return StepView(
        at=iso(wall, "microseconds"),
        ms=(step.at - began) / _MILLISECOND,
        message=step.message,
        here=step.here,
        there=step.there,
        sent=step.sent,
        detail="" if is_negotiation(step.detail) else step.detail,
        names=step.names,
    )


def whois_view(address: Host, state: State) -> WhoisView | None:
    """`ntm whois`; None when the address is nobody's."""
    own = state.account.fqdn if state.account else ""
    fqdn = owner_of(address, own, state.addresses, state.peers)
    if fqdn is None:
        return None
    peer = state.peers.get(fqdn)
    key = fingerprint(peer.device) if peer else None
    return WhoisView(address=str(address), fqdn=fqdn, peer_key=key)
