import select
from collections.abc import Iterator
from errno import EPERM
from ipaddress import IPv4Address, IPv6Address

import pytest

from ntmobile._core import Engine, SendFailed
from ntmobile.agent.detours import Detours
from ntmobile.agent.engine import PacketLoops
from ntmobile.proto.io import Transmit
from ntmobile.proto.node.events import (
    OTHER_PORT,
    ActivateKeys,
    ChangePort,
    ClearPath,
    CloseSockets,
    CloseTunnel,
    Command,
    InstallKeys,
    OpenSockets,
    OpenTunnel,
    RefuseAddress,
    Resend,
    RetireKeys,
    SendControl,
    SetPath,
    Traffic,
)
from ntmobile.runtime.clock import Clock
from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint, Host
from ntmobile.wire.tunnel import ReceiveState

KEY_A, KEY_B = bytes(range(32)), bytes(range(32, 64))
CIPHER = "aes-256-gcm"
HERE, THERE = 7, 9
GUARD_S = 60.0
OWN = (IPv4Address("100.64.0.2"), IPv6Address("fd00::2"))
PEER = (IPv4Address("100.64.0.3"), IPv6Address("fd00::3"))


class End:
    """A node's machine, as far as the packet loops see it: it notes what it is told."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.protected: list[int] = []
        self.refuses = False
        """The system protects no further socket."""
        self.loops = PacketLoops(self.engine, Clock(), Detours(), protect=self.protect)
        self.heard: list[tuple[object, ...]] = []
        self.sockets: list[int] = []
        """Which each control message came to."""
        self.endpoint = Endpoint("127.0.0.1", self.engine.port)

    def protect(self, descriptor: int) -> None:
        if self.refuses:
            raise OSError(EPERM, "the system does not protect a socket of the node")
        self.protected.append(descriptor)

    def handle_datagram(
        self, source: Endpoint, data: bytes, now: Instant, *, interface: int = 0
    ) -> None:
        self.heard.append(("datagram", source, data))

    def handle_control(
        self,
        index: int,
        epoch: int,
        source: Endpoint,
        interface: int,
        payload: bytes,
        now: Instant,
        socket: int = 0,
    ) -> None:
        self.sockets.append(socket)
        self.heard.append(("control", index, epoch, source, payload))

    def handle_moved(
        self, index: int, source: Endpoint, interface: int, now: Instant, socket: int = 0
    ) -> None:
        self.heard.append(("moved", index, source))

    def handle_wanted(self, address: Host, now: Instant) -> None:
        self.heard.append(("wanted", address))

    def handle_woken(self, index: int, now: Instant) -> None:
        self.heard.append(("woken", index))

    def handle_rekey_due(self, index: int, now: Instant) -> None:
        self.heard.append(("rekey", index))

    def do(self, *commands: Command) -> None:
        for command in commands:
            self.loops.carry_out(command)

    def listen(self) -> tuple[object, ...]:
        """Return the next thing the machine is told."""
        while not self.heard:
            assert select.select([self.engine], [], [], GUARD_S)[0], "nothing came"
            self.loops.deliver(self, Instant(0))
        return self.heard.pop(0)


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    here, there = End(), End()
    yield here, there
    here.engine.close()
    there.engine.close()


def tunnel(here: End, there: End) -> None:
    """Keys and a path at both ends, as after a negotiation."""
    here.do(
        OpenTunnel(HERE, "pc.bob.ntm.example.net", *OWN, *PEER),
        InstallKeys(HERE, 0, CIPHER, KEY_A, KEY_B, THERE),
        ActivateKeys(HERE, 0),
        SetPath(HERE, there.endpoint, 0, 1400),
    )
    there.do(
        OpenTunnel(THERE, "laptop.alice.ntm.example.org", *PEER, *OWN),
        InstallKeys(THERE, 0, CIPHER, KEY_B, KEY_A, HERE),
        ActivateKeys(THERE, 0),
        SetPath(THERE, here.endpoint, 0, 1400),
    )


def heard_control(end: End) -> tuple[object, ...]:
    """The next control message, whatever comes before it."""
    while (heard := end.listen())[0] != "control":
        pass
    return heard


def test_a_datagram_reaches_the_machine_with_its_source(ends: tuple[End, End]) -> None:
    here, there = ends

    here.loops.transmit(Transmit(there.endpoint, b"\x05hello"))

    assert there.listen() == ("datagram", here.endpoint, b"\x05hello")


def test_a_control_message_crosses_the_tunnel(ends: tuple[End, End]) -> None:
    here, there = ends
    tunnel(here, there)

    here.do(SendControl(HERE, b"path update"))

    assert there.listen() == ("control", THERE, 0, here.endpoint, b"path update")
    [state] = there.loops.receive_state(THERE)
    assert (state.epoch, state.highest) == (0, 0)
    assert there.loops.traffic(THERE).last_rx is not None


def test_nothing_arrived_means_no_receive_state_and_no_traffic(ends: tuple[End, End]) -> None:
    here, there = ends
    tunnel(here, there)

    assert here.loops.receive_state(HERE) == ()
    assert here.loops.traffic(HERE).last_rx is None


def test_a_tunnel_that_is_not_open_yet_or_no_more_has_seen_nothing(ends: tuple[End, End]) -> None:
    here, there = ends
    nothing = ((), Traffic(0, 0, None, None))
    assert (there.loops.receive_state(THERE), there.loops.traffic(THERE)) == nothing
    tunnel(here, there)
    here.do(SendControl(HERE, b"path update"))
    there.listen()
    assert there.loops.receive_state(THERE) != ()

    there.do(CloseTunnel(THERE))

    assert (there.loops.receive_state(THERE), there.loops.traffic(THERE)) == nothing


def test_a_control_message_may_go_to_an_explicit_address(ends: tuple[End, End]) -> None:
    here, there = ends
    tunnel(here, there)
    here.do(ClearPath(HERE), SendControl(HERE, b"lost"), SendControl(HERE, b"x", there.endpoint))

    assert there.listen()[-1] == b"x"
    assert here.loops.counters["controls_not_sent"] == 1


def test_a_tunnel_talks_through_a_protected_socket_of_its_own(ends: tuple[End, End]) -> None:
    here, there = ends
    tunnel(here, there)
    here.do(
        OpenSockets(HERE, 5, 3),
        SendControl(HERE, b"probe", there.endpoint, 0, 6),
        CloseSockets(HERE, (6,)),
    )

    *_, source, payload = heard_control(there)
    assert (payload, len(here.protected)) == (b"probe", 3)
    assert isinstance(source, Endpoint)
    assert source.port != here.endpoint.port
    there.do(SendControl(THERE, b"answer", source))
    assert (heard_control(here)[-1], here.sockets) == (b"answer", [6])

    here.do(SetPath(HERE, there.endpoint, 0, 1400, 6), SendControl(HERE, b"along the path"))
    assert heard_control(there)[-2:] == (source, b"along the path")


def test_the_port_of_a_path_is_that_of_the_socket_that_carries_it(ends: tuple[End, End]) -> None:
    here, there = ends
    tunnel(here, there)
    by_the_node = here.loops.own_port("pc.bob.ntm.example.net")
    here.do(OpenSockets(HERE, 5, 3), SetPath(HERE, there.endpoint, 0, 1400, 6))
    here.do(CloseSockets(HERE, (6,)), SendControl(HERE, b"along the path"))

    *_, source, _ = heard_control(there)

    assert isinstance(source, Endpoint)
    assert (by_the_node, here.loops.own_port("pc.bob.ntm.example.net")) == (None, source.port)
    here.do(SetPath(HERE, there.endpoint, 0, 1400), CloseSockets(HERE, ()))
    assert here.loops.own_port("pc.bob.ntm.example.net") is None


def test_after_a_change_of_ports_what_was_proven_goes_as_before_and_the_rest_by_the_other(
    ends: tuple[End, End],
) -> None:
    here, there = ends
    tunnel(here, there)
    here.do(ChangePort(), SendControl(HERE, b"along the path"))
    *_, before, payload = heard_control(there)
    assert (before, payload) == (here.endpoint, b"along the path")

    here.do(SendControl(HERE, b"challenge", there.endpoint))
    *_, second, payload = heard_control(there)
    assert isinstance(second, Endpoint)
    assert payload == b"challenge"
    assert second.port != here.endpoint.port
    assert len(here.protected) == 1

    there.do(SendControl(THERE, b"answer", second), SendControl(THERE, b"late", before))
    assert {heard_control(here)[-1], heard_control(here)[-1]} == {b"answer", b"late"}
    assert sorted(here.sockets) == [0, OTHER_PORT]

    here.do(SetPath(HERE, there.endpoint, 0, 1400), SendControl(HERE, b"along the new one"))
    assert heard_control(there)[-2:] == (second, b"along the new one")
    assert here.loops.own_port("pc.bob.ntm.example.net") == second.port
    here.do(ChangePort(), SetPath(HERE, there.endpoint, 0, 1400), SendControl(HERE, b"and back"))
    assert heard_control(there)[-2:] == (before, b"and back")


def test_signalling_leaves_from_the_port_that_sends_and_is_taken_at_both(
    ends: tuple[End, End],
) -> None:
    here, there = ends
    here.do(ChangePort())
    here.loops.transmit(Transmit(there.endpoint, b"\x01request"))
    _, second, _ = there.listen()
    assert isinstance(second, Endpoint)
    assert second.port != here.endpoint.port

    for to in (second, here.endpoint):
        there.loops.transmit(Transmit(to, b"\x01answer"))
        assert here.listen()[-1] == b"\x01answer"


def test_a_node_that_gets_no_second_port_goes_on_with_its_first(ends: tuple[End, End]) -> None:
    """The negative twin."""
    here, there = ends
    tunnel(here, there)
    here.refuses = True
    here.do(ChangePort())
    here.do(SendControl(HERE, b"challenge", there.endpoint, 0, OTHER_PORT))
    assert heard_control(there)[-2:] == (here.endpoint, b"challenge")
    here.loops.transmit(Transmit(there.endpoint, b"\x01request"))
    here.do(ChangePort())
    here.loops.transmit(Transmit(there.endpoint, b"\x01request"))

    for _ in range(2):
        assert there.listen()[1:] == (here.endpoint, b"\x01request")


def test_sockets_that_are_not_protected_are_closed_again(ends: tuple[End, End]) -> None:
    """The negative twin: what they sent would go into the device."""
    here, there = ends
    tunnel(here, there)

    def refuse(descriptor: int) -> None:
        raise OSError(EPERM, "the system does not protect a socket of the node")

    here.loops = PacketLoops(here.engine, Clock(), Detours(), protect=refuse)
    here.do(OpenSockets(HERE, 5, 3))

    here.engine.send_control(HERE, b"x", host=bytes((127, 0, 0, 1)), port=1, socket=6)
    assert select.select([here.engine], [], [], GUARD_S)[0]
    assert [type(signal) for signal in here.engine.drain()] == [SendFailed]


def test_the_path_of_a_peer_is_known_until_it_is_cleared_or_closed(ends: tuple[End, End]) -> None:
    here, there = ends
    told: list[tuple[tuple[Host, Host], int]] = []
    here.loops.on_path = lambda hosts, mtu: told.append((hosts, mtu))
    tunnel(here, there)

    path = here.loops.path("pc.bob.ntm.example.net")
    here.do(ClearPath(HERE))

    assert path == SetPath(HERE, there.endpoint, 0, 1400)
    assert told == [(PEER, 1400)]
    assert here.loops.path("pc.bob.ntm.example.net") is None


def test_a_peers_addresses_are_told_before_anything_from_it_can_arrive(
    ends: tuple[End, End],
) -> None:
    here, _ = ends
    told: list[tuple[Host, Host]] = []
    here.loops.on_open = told.append

    here.do(OpenTunnel(HERE, "pc.bob.ntm.example.net", *OWN, *PEER))

    assert told == [PEER]


def test_a_newer_tunnel_to_a_peer_keeps_its_path_when_the_older_closes(
    ends: tuple[End, End],
) -> None:
    here, there = ends
    tunnel(here, there)
    here.do(CloseTunnel(HERE))
    newer = HERE + 1
    here.do(
        OpenTunnel(newer, "pc.bob.ntm.example.net", *OWN, *PEER),
        SetPath(newer, there.endpoint, 0, 1300),
        RetireKeys(newer, 0),
    )

    assert here.loops.path("pc.bob.ntm.example.net") == SetPath(newer, there.endpoint, 0, 1300)


def test_nothing_is_resent_to_a_peer_that_lacks_nothing(ends: tuple[End, End]) -> None:
    here, there = ends
    tunnel(here, there)

    here.do(Resend(HERE, (ReceiveState(0, 0, b"\x01"),)), RefuseAddress(PEER[0]))

    assert here.loops.counters["resent"] == 0


def test_a_signal_that_breaks_the_machine_costs_only_itself(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = ends

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(there, "handle_datagram", broken)
        here.loops.transmit(Transmit(there.endpoint, b"\x05first"))
        assert select.select([there.engine], [], [], GUARD_S)[0]
        there.loops.deliver(there, Instant(0))
    here.loops.transmit(Transmit(there.endpoint, b"\x05second"))

    assert there.listen() == ("datagram", here.endpoint, b"\x05second")
    assert there.loops.counters["bugs"] == 1


def test_a_new_peer_is_announced_before_its_tunnel_opens(ends: tuple[End, End]) -> None:
    """Its first packet may be answered at once, and the answer must find its route."""
    here, there = ends
    known: list[tuple[Host, Host]] = []

    def announce(hosts: tuple[Host, Host]) -> None:
        with pytest.raises(KeyError, match="no tunnel"):
            here.engine.statistics(HERE)
        known.append(hosts)

    here.loops.on_open = announce
    tunnel(here, there)

    assert known == [PEER]
    assert here.engine.statistics(HERE).tx_packets == 0
