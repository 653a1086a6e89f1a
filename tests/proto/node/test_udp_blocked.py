"""A node whose network lets no UDP pass. Ours: docs/protocol.md sections 3, 7 and 8."""

from msgspec.structs import replace
from tests.proto.node.rig import ELSEWHERE, V4, V6, Peer, Rig, connected
from tests.proto.parts import BOB, DC, DC6, HERE, RS, THERE, drain

from ntmobile.proto.io import StreamOpen, Transmit
from ntmobile.proto.node.events import CloseWeb, OpenWeb, Registered, SetPath, WebCommand
from ntmobile.proto.node.fallback import PATIENCE_NS
from ntmobile.time import SECOND
from ntmobile.wire.datagram import Signal
from ntmobile.wire.direction import RouteDirection
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.notification import NotificationPlace
from ntmobile.wire.registration import (
    KeepAliveChoice,
    RegistrationRequest,
    RegistrationResponse,
    Superseded,
)
from ntmobile.wire.stun import BindingRequest, BindingResponse, is_stun
from ntmobile.wire.web import WebPlace

PATIENCE_S = PATIENCE_NS / SECOND
RS6 = Endpoint("2001:db8::9", 4330)
RS_WEB = WebPlace("rs.example.org", b"\x09" * 32, 8443)
DC_WEB = WebPlace("dc.example.org", b"\x07" * 32)


class Blocked(Rig):
    """The DC hears the node only while a WebSocket stands."""

    def __init__(self, *local: object) -> None:
        super().__init__(local or (V4,))  # type: ignore[arg-type]
        self.silent = True
        self.webs: list[WebCommand] = []
        self.probes: list[bytes] = []

    def _take(self, transmit: Transmit) -> None:
        if is_stun(transmit.payload):
            self.probes.append(transmit.payload)
        super()._take(transmit)

    def pass_time(self, seconds: float) -> None:
        super().pass_time(seconds)
        self.webs += drain(self.node.poll_web)

    def web(self, remote: Endpoint, *, stands: bool) -> None:
        if remote in (DC, DC6):
            self.silent = not stands
        self.node.handle_web(remote, self.now, stands=stands)
        self.settle()
        self.webs += drain(self.node.poll_web)

    def opened(self) -> "Blocked":
        """Log in and register through a WebSocket."""
        self.start()
        self.pass_time(PATIENCE_S)
        (wanted,) = self.webs
        assert isinstance(wanted, OpenWeb)
        self.web(wanted.remote, stands=True)
        return self


def relayed(rig: Blocked, **changes: object) -> Peer:
    """Return BOB, to whom a tunnel through RS was directed."""
    rig.node.resolve(BOB, rig.now)
    rig.settle()
    peer = Peer(rig, rig.direction().negotiation, relay=(RS, RS6))
    rig.tell(peer.route(relay_web=RS_WEB, **changes))
    rig.webs += drain(rig.node.poll_web)
    return peer


def test_a_node_that_no_dc_answers_registers_by_websocket() -> None:
    rig = Blocked().start()
    assert rig.webs == []

    rig.pass_time(PATIENCE_S)
    assert rig.webs == [OpenWeb(DC, DC_WEB, relay=False)]
    assert rig.of(Registered) == []
    rig.web(DC, stands=True)

    assert len(rig.of(Registered)) == 1
    view = rig.node.view()
    assert (view.state, view.udp_blocked) == ("up", True)


def test_a_node_where_neither_gets_through_says_so_and_goes_on_trying() -> None:
    rig = Blocked().start()
    rig.pass_time(PATIENCE_S)

    rig.web(DC, stands=False)

    assert rig.node.view().web_refused
    rig.pass_time(60)
    assert rig.webs[1:3] == [CloseWeb(DC), OpenWeb(DC, DC_WEB, relay=False)]


NS = (Endpoint("192.0.2.40", 4434), Endpoint("2001:db8::40", 4434))


class Held(Blocked):
    """Its DC gives the node, which chose TCP, an NS."""

    def _dc_answer(self, message: Signal, place: Endpoint) -> Signal | None:
        answer = super()._dc_answer(message, place)
        if not isinstance(answer, RegistrationResponse):
            return answer
        told = NotificationPlace("ns.example.org", NS, b"\x01" * 8, b"\x02" * 32, 86400)
        return replace(answer, keepalive=KeepAliveChoice.TCP, notification=told)


def test_the_connection_to_ns_needs_no_websocket_only_an_address_of_its_family() -> None:
    """And its name, should an HTTP proxy be all that leads out."""
    rig = Held(V4)
    rig.node.reach.choose(KeepAliveChoice.TCP, 0, rig.now)
    rig.opened()

    assert drain(rig.node.poll_stream) == [StreamOpen(1, NS[0], "ns.example.org")]


def test_of_two_families_the_registration_by_websocket_is_one() -> None:
    rig = Blocked(V4, V6).opened()
    asked = len(rig.sent(RegistrationRequest))

    rig.node.handle_links((V4,), rig.now)
    rig.silent = True
    rig.pass_time(PATIENCE_S)
    rig.web(DC, stands=True)

    by_web = rig.heard[-1][0].destination
    assert by_web == DC
    assert len(rig.sent(RegistrationRequest)) > asked


def test_a_tunnel_goes_through_a_websocket_to_rs_whose_name_and_key_the_dc_told() -> None:
    rig = Blocked().opened()

    peer = relayed(rig)
    peer.exchange()

    assert rig.webs[-1] == OpenWeb(RS, RS_WEB, relay=True)
    assert rig.told(SetPath)[-1].remote == RS
    (view,) = rig.node.peers()
    assert (view.relayed, view.web) == (True, True)


def test_no_datagram_goes_where_no_websocket_leads() -> None:
    rig = Blocked().opened()
    rig.elsewhere.clear()

    relayed(rig, targets=(THERE,))

    assert {sent.destination for sent in rig.elsewhere} == {RS}


def test_a_second_tunnel_through_the_same_rs_shares_its_websocket() -> None:
    rig = Blocked().opened()
    peer = relayed(rig)
    peer.exchange()
    before = list(rig.webs)

    rig.tell(Peer(rig, bytes(range(16)), relay=(RS6, RS)).route(relay_web=RS_WEB))
    rig.webs += drain(rig.node.poll_web)

    assert rig.webs == before


def test_a_websocket_to_rs_that_stands_anew_is_shown_to_rs() -> None:
    rig = Blocked().opened()
    relayed(rig).exchange()
    rig.elsewhere.clear()

    rig.web(RS, stands=False)
    rig.web(RS, stands=True)

    assert {sent.destination for sent in rig.elsewhere} == {RS}, "Hole Punching"


def test_when_udp_passes_again_tunnel_and_registration_go_by_udp() -> None:
    rig = Blocked().opened()
    relayed(rig).exchange()
    asked = len(rig.sent(RegistrationRequest))
    rig.pass_time(5)
    (probe, *_) = [sent for sent in rig.probes if is_stun(sent)]

    rig.node.handle_datagram(
        DC, BindingResponse(BindingRequest.decode(probe).transaction, HERE).encode(), rig.now
    )
    rig.settle()
    rig.webs += drain(rig.node.poll_web)

    assert set(rig.webs[-2:]) == {CloseWeb(DC), CloseWeb(RS)}
    assert len(rig.sent(RegistrationRequest)) > asked
    assert not rig.node.view().udp_blocked
    (view,) = rig.node.peers()
    assert not view.web


def test_a_tunnel_that_stands_moves_into_a_network_without_udp() -> None:
    rig, _ = connected(blocked_later(), relay=(RS,))
    rig.silent = True
    rig.node.handle_links((ELSEWHERE,), rig.now)

    rig.pass_time(PATIENCE_S)
    assert isinstance(rig, Blocked)
    assert rig.webs == [OpenWeb(DC, DC_WEB, relay=False)]
    rig.web(DC, stands=True)
    peer = Peer(rig, rig.direction().negotiation, relay=(RS,), index=78)
    assert isinstance(peer.route(), RouteDirection)
    rig.tell(peer.route(relay_web=RS_WEB))
    peer.exchange()

    assert rig.told(SetPath)[-1].remote == RS
    (view,) = rig.node.peers()
    assert view.web


def blocked_later() -> Blocked:
    """A node that registered over UDP, to be blocked later."""
    rig = Blocked()
    rig.silent = False
    rig.start()
    return rig


def test_a_move_closes_every_websocket_and_tries_udp_first() -> None:
    rig = Blocked().opened()
    relayed(rig).exchange()

    rig.node.handle_links((ELSEWHERE,), rig.now)
    rig.settle()
    rig.webs += drain(rig.node.poll_web)

    assert set(rig.webs[-2:]) == {CloseWeb(RS), CloseWeb(DC)}
    assert not rig.node.view().udp_blocked


def test_a_node_that_gives_way_to_a_newer_copy_closes_its_websockets() -> None:
    rig = Blocked().opened()
    relayed(rig).exchange()

    rig.tell(Superseded(rig.node.settings.instance))
    rig.webs += drain(rig.node.poll_web)

    assert set(rig.webs[-2:]) == {CloseWeb(RS), CloseWeb(DC)}


def test_a_node_that_leaves_keeps_them_for_its_last_words() -> None:
    rig = Blocked().opened()
    relayed(rig).exchange()
    before = list(rig.webs)

    rig.node.leave(rig.now)
    rig.settle()
    rig.webs += drain(rig.node.poll_web)

    assert rig.webs == before
    assert rig.sent(RegistrationRequest)[-1].endpoints == ()
