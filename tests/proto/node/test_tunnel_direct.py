"""One end of a relayed tunnel that searches a direct path; its peer played by hand."""

from random import Random

import pytest
from tests.proto.node.link import Loops
from tests.proto.parts import ALICE, BOB, HERE, T0, THERE, drain, identity, information

from ntmobile.keys.table import Keyring, Party
from ntmobile.proto.journal import Journal
from ntmobile.proto.node.ends import Ends
from ntmobile.proto.node.events import SendControl, SetPath
from ntmobile.proto.node.handshake import Secrets
from ntmobile.proto.node.negotiation import Agreed
from ntmobile.proto.node.optimisation import Offer
from ntmobile.proto.node.tunnel import Tunnel
from ntmobile.proto.node.tunnel_parts import TunnelParts
from ntmobile.proto.node.whereabouts import Surroundings
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import decode_control, encode_control
from ntmobile.wire.direction import Cipher
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.tunnel import Candidates, Control, PathChallenge, PathResponse, PathUpdate

RELAY = Endpoint("192.0.2.9", 4330)
ELSEWHERE = Endpoint("198.51.100.66", 40000)
VIRTUAL = Endpoint("100.64.0.9", 40000)
SOON = Instant(T0 + SECOND // 100)


class End:
    """ALICE's end; what it wants sent, decoded."""

    def __init__(self, own: tuple[Endpoint, ...] = (HERE,)) -> None:
        self.loops = Loops()
        here, there = information(ALICE, number=1), information(BOB, number=2)
        ends = Ends(
            ALICE,
            identity(ALICE),
            here.virtual_ipv6,
            there,
            Cipher.AES_256_GCM,
            (here.virtual_ipv4, here.virtual_ipv6),
            (there.virtual_ipv4, there.virtual_ipv6),
        )
        around = Surroundings(
            lambda: Offer(own) if own else None, lambda host: host == VIRTUAL.host
        )
        keyring, journal = Keyring(Party.NODE), Journal(ALICE)
        parts = TunnelParts(
            self.loops, Random(1), keyring, journal, lambda _: 1400, 600 * SECOND, around
        )
        self.tunnel = Tunnel(ends, 11, parts, T0)
        self.tunnel.relays.meet((RELAY,))
        secrets = Secrets(b"\x01" * 32, b"\x02" * 32, bytes(32))
        self.tunnel.adopt(Agreed(bytes(16), 0, secrets, 22, RELAY, True, True), T0)

    def hears(self, message: Control, source: Endpoint, now: Instant = SOON) -> None:
        """A control capsule comes; from elsewhere than the path the loops say so first."""
        if source != self.remote():
            self.tunnel.handle_moved(source, 0, now)
        self.tunnel.handle_control(0, source, 0, encode_control(message), now)

    def sent(self) -> list[tuple[Control, Endpoint | None]]:
        """What was sent since the last call, and where to when not to the path."""
        wanted = []
        for command in drain(self.tunnel.poll_command):
            self.loops.obey(command)
            if isinstance(command, SendControl):
                wanted.append((decode_control(command.payload), command.destination))
        return wanted

    def probes(self, now: Instant = SOON) -> dict[Endpoint, int]:
        """The first round of probes, by where they go."""
        self.sent()
        self.tunnel.handle_timeout(now)
        challenges = [(m, to) for m, to in self.sent() if isinstance(m, PathChallenge)]
        return {to: m.challenge for m, to in challenges if to is not None}

    def remote(self) -> Endpoint | None:
        for command in drain(self.tunnel.poll_command):
            self.loops.obey(command)
        path: SetPath | None = self.loops.path
        return None if path is None else path.remote


def test_behind_a_relay_the_peer_is_told_where_this_end_may_be_reached() -> None:
    told = [m for m, to in End().sent() if isinstance(m, Candidates)]

    assert [message.endpoints for message in told] == [(HERE,)]


def test_who_tells_nothing_neither_offers_nor_probes() -> None:
    end = End(own=())
    end.hears(Candidates(5, (THERE,), 1), RELAY)

    assert not [m for m, _ in end.sent() if isinstance(m, Candidates)]
    assert end.probes() == {}


def test_only_what_can_be_an_uplinks_address_is_probed() -> None:
    end = End()
    refused = ["127.0.0.1", "::1", "224.0.0.1", "169.254.1.1", "0.0.0.0"]
    offered = (VIRTUAL, *(Endpoint(host, 40000) for host in refused), THERE)
    end.hears(Candidates(5, offered, 1), RELAY)

    assert list(end.probes()) == [THERE]


def test_a_probe_that_gets_in_is_answered_and_moves_nothing() -> None:
    end = End()
    end.hears(Candidates(5, (THERE,), 1), RELAY)
    end.sent()

    end.hears(PathChallenge(7), ELSEWHERE)

    answers = [(m, to) for m, to in end.sent() if isinstance(m, PathResponse)]
    assert [(m.challenge, to) for m, to in answers] == [(7, ELSEWHERE)]
    assert end.remote() == RELAY


def test_an_answered_probe_becomes_the_path_and_the_peer_hears_of_it_there() -> None:
    end = End()
    end.hears(Candidates(5, (THERE,), 1), RELAY)
    number = end.probes()[THERE]

    end.hears(PathResponse(number, HERE), THERE, Instant(SOON + 1))
    end.tunnel.handle_timeout(Instant(SOON + SECOND))

    updates = [to for m, to in end.sent() if isinstance(m, PathUpdate)]
    assert end.remote() == THERE
    assert set(updates) == {None}, "to the path, which is the new one"


def test_a_path_whose_last_check_is_not_answered_is_left_for_the_relay() -> None:
    end = End()
    end.hears(Candidates(5, (THERE,), 1), RELAY)
    end.hears(PathResponse(end.probes()[THERE], HERE), THERE, Instant(SOON + 1))
    now = Instant(SOON + SECOND)
    end.tunnel.handle_timeout(now)
    assert end.remote() == THERE

    while end.remote() == THERE and now < SOON + 30 * SECOND:
        due = end.tunnel.poll_timeout()
        assert due is not None
        now = due.at
        end.tunnel.handle_timeout(now)

    assert end.remote() == RELAY


@pytest.mark.parametrize("source", [ELSEWHERE, THERE])
def test_forged_answers_choose_no_path(source: Endpoint) -> None:
    end = End()
    end.hears(Candidates(5, (THERE,), 1), RELAY)
    number = end.probes()[THERE]

    end.hears(PathResponse(number ^ 1, HERE), source, Instant(SOON + 1))
    end.tunnel.handle_timeout(Instant(SOON + SECOND // 5))

    assert end.remote() == RELAY


def found_directly() -> End:
    end = End()
    end.hears(Candidates(5, (THERE,), 1), RELAY)
    end.hears(PathResponse(end.probes()[THERE], HERE), THERE, Instant(SOON + 1))
    end.tunnel.handle_timeout(Instant(SOON + SECOND))
    assert end.remote() == THERE
    return end


def test_a_mover_goes_back_through_rs_for_its_peers_nat_may_let_nothing_in() -> None:
    end = found_directly()

    end.tunnel.move({4}, Instant(SOON + 2 * SECOND))

    assert end.remote() == RELAY


def test_a_mover_that_was_never_relayed_stays_on_the_direct_path() -> None:
    """The negative twin."""
    end = End()
    secrets = Secrets(b"\x01" * 32, b"\x02" * 32, b"\x01" * 32)
    end.tunnel.adopt(Agreed(bytes(16), 1, secrets, 22, THERE, False, True), SOON)

    end.tunnel.move({4}, Instant(SOON + 2 * SECOND))

    assert end.remote() == THERE


def test_a_better_uplink_that_only_rs_answers_by_is_taken_through_rs() -> None:
    end = found_directly()
    end.tunnel.cross(7, Instant(SOON + 2 * SECOND))
    end.sent()
    assert end.loops.path is not None
    assert (end.loops.path.remote, end.loops.path.interface) == (THERE, 7)

    end.tunnel.update(RELAY, Instant(SOON + 3 * SECOND))

    end.sent()
    assert (end.loops.path.remote, end.loops.path.interface) == (RELAY, 0)
