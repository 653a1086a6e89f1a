"""Whether UDP passes. Ours: docs/protocol.md section 3."""

from dataclasses import dataclass, field
from random import Random

import hypothesis.strategies as st
from hypothesis import given
from tests.proto.parts import DC, DC6, HERE, T0, drain

from ntmobile.proto.io import Transmit
from ntmobile.proto.node.events import CloseWeb, OpenWeb, WebCommand
from ntmobile.proto.node.fallback import (
    BLOCKED_BEFORE_NS,
    FIRST_AGAIN_NS,
    PASSED_BEFORE_NS,
    PATIENCE_NS,
    SPREAD_NS,
    Fallback,
)
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.stun import BindingRequest, BindingResponse
from ntmobile.wire.web import WebPlace

PLACE = WebPlace("dc.example.org", bytes(32))
OPEN = OpenWeb(DC, PLACE, relay=False)


@dataclass
class Rig:
    """The machine, and what it did."""

    fallback: Fallback = field(default_factory=lambda: Fallback(Random(1)))
    now: Instant = T0
    commands: list[WebCommand] = field(default_factory=list)
    switched: list[Endpoint | None] = field(default_factory=list)
    probes: list[Transmit] = field(default_factory=list)
    silent_since: Instant | None = None

    def __post_init__(self) -> None:
        self.fallback.begin(PLACE, (DC, DC6))

    def settle(self, *, standing: bool = False) -> None:
        self.fallback.follow(self.silent_since, standing=standing)
        self.commands += drain(self.fallback.poll_command)
        self.switched += [event.web for event in drain(self.fallback.poll_event)]
        self.probes += drain(self.fallback.poll_transmit)

    def ask(self) -> None:
        """A registration begins, and the DC is silent."""
        self.silent_since = self.now
        self.settle()

    def hear(self) -> None:
        """The DC answers it."""
        self.silent_since = None
        self.settle(standing=True)

    def pass_time(self, nanoseconds: int) -> None:
        until = Instant(self.now + nanoseconds)
        while (due := self.fallback.poll_timeout()) is not None and due.at <= until:
            self.now = max(self.now, due.at)
            self.fallback.handle_timeout(self.now)
            self.settle()
            following = self.fallback.poll_timeout()
            assert following is None or following.at > self.now, f"spins: {due.reason}"
        self.now = until

    def web(self, *, stands: bool) -> None:
        self.fallback.handle_web(DC, stands=stands, now=self.now)
        self.settle(standing=stands)

    def blocked(self) -> "Rig":
        """Return it where UDP was given up and the WebSocket stands."""
        self.ask()
        self.pass_time(PATIENCE_NS)
        self.web(stands=True)
        self.hear()
        return self

    def stun(self, place: int = -1) -> None:
        """Let the answer to a probe come."""
        asked = BindingRequest.decode(self.probes[place].payload)
        answer = BindingResponse(asked.transaction, HERE).encode()
        self.fallback.handle_stun(answer, self.now)
        self.settle(standing=True)


def test_a_silent_dc_makes_it_open_a_websocket_after_a_moment_and_not_before() -> None:
    rig = Rig()
    rig.ask()

    rig.pass_time(PATIENCE_NS - 1)
    assert rig.commands == []
    rig.pass_time(1)

    assert rig.commands == [OPEN]
    assert rig.switched == [], "nothing goes there before it stands"


def test_a_dc_that_answers_in_time_needs_no_websocket() -> None:
    rig = Rig()
    rig.ask()
    rig.pass_time(PATIENCE_NS // 2)

    rig.hear()
    rig.pass_time(600 * SECOND)

    assert rig.commands == rig.switched == []


def test_all_goes_by_websocket_once_it_stands() -> None:
    rig = Rig().blocked()

    assert rig.switched == [DC]
    assert rig.fallback.is_web


def test_udp_that_answers_while_the_websocket_is_on_its_way_wins() -> None:
    rig = Rig()
    rig.ask()
    rig.pass_time(PATIENCE_NS)

    rig.hear()
    rig.web(stands=True)

    assert rig.commands == [OPEN, CloseWeb(DC)]
    assert rig.switched == []


def test_a_refused_websocket_is_tried_again_and_later_each_time() -> None:
    rig = Rig()
    rig.ask()
    rig.pass_time(PATIENCE_NS)
    gaps = []
    for _ in range(4):
        rig.web(stands=False)
        assert rig.fallback.is_refused
        due = rig.fallback.poll_timeout()
        assert due is not None
        gaps.append(due.at - rig.now)
        rig.pass_time(due.at - rig.now)

    for number, gap in enumerate(gaps):
        least = FIRST_AGAIN_NS << number
        assert least <= gap < least * 3 // 2


def test_udp_is_asked_for_at_both_families_until_an_answer_brings_it_back() -> None:
    rig = Rig().blocked()

    rig.pass_time(30 * SECOND)
    assert {probe.destination for probe in rig.probes} == {DC, DC6}
    assert len(rig.probes) >= 6
    rig.stun()

    assert rig.switched == [DC, None]
    assert rig.commands[-1] == CloseWeb(DC)
    assert not rig.fallback.is_web


def test_an_answer_to_nothing_that_was_asked_changes_nothing() -> None:
    rig = Rig().blocked()
    rig.pass_time(5 * SECOND)

    rig.fallback.handle_stun(BindingResponse(bytes(12), HERE).encode(), rig.now)
    rig.fallback.handle_stun(b"\x01\x01\x00\x00!\x12\xa4B" + bytes(12), rig.now)
    rig.settle(standing=True)

    assert rig.fallback.is_web


def test_where_stun_passes_and_nothing_else_does_it_comes_back_to_udp_more_and_more_seldom() -> (
    None
):
    rig, gaps = Rig().blocked(), []
    for _ in range(4):
        began = rig.now
        seen = len(rig.probes)
        while len(rig.probes) == seen:
            rig.pass_time(SECOND)
        gaps.append(rig.now - began)
        rig.stun()
        rig.blocked()

    assert gaps == sorted(gaps)
    assert gaps[-1] > 4 * gaps[0]


def test_a_websocket_that_breaks_is_opened_again_soon_and_the_next_time_later() -> None:
    rig = Rig().blocked()
    rig.pass_time(20 * SECOND)

    rig.ask()
    rig.web(stands=False)
    rig.pass_time(SPREAD_NS)
    assert rig.commands == [OPEN, CloseWeb(DC), OPEN]
    rig.web(stands=True)
    rig.web(stands=False)
    rig.pass_time(FIRST_AGAIN_NS - 1)

    assert rig.commands[3:] == [CloseWeb(DC)]
    rig.pass_time(FIRST_AGAIN_NS)
    assert rig.commands[-1] == OPEN


def test_after_a_restart_of_the_dc_not_all_nodes_come_at_the_same_time() -> None:
    waits = set()
    for seed in range(20):
        rig = Rig(Fallback(Random(seed))).blocked()
        rig.web(stands=False)
        due = rig.fallback.poll_timeout()
        assert due is not None
        waits.add(due.at - rig.now)

    assert len(waits) > 15


def test_after_a_move_udp_is_tried_first_and_not_for_long_where_it_was_blocked_before() -> None:
    rig = Rig().blocked()

    rig.fallback.move((DC,))
    rig.ask()
    assert (rig.switched[-1], rig.commands[-1]) == (None, CloseWeb(DC))
    rig.pass_time(BLOCKED_BEFORE_NS)

    assert rig.commands[-1] == OPEN


def test_where_udp_passed_a_dc_that_restarts_is_given_time_and_not_a_storm_of_websockets() -> None:
    began = []
    for seed in range(20):
        rig = Rig(Fallback(Random(seed)))
        rig.ask()
        rig.hear()
        rig.pass_time(100 * SECOND)
        rig.ask()
        due = rig.fallback.poll_timeout()
        assert due is not None
        began.append(due.at - rig.now)

    assert min(began) >= PASSED_BEFORE_NS
    assert len(set(began)) > 15, "not all at the same time"


def test_without_a_dc_of_our_families_nothing_is_opened() -> None:
    rig = Rig()
    rig.fallback.move(())
    rig.ask()

    rig.pass_time(600 * SECOND)

    assert rig.commands == []


ACTS = st.sampled_from(["ask", "hear", "stands", "breaks", "wait", "long", "move", "stun", "stop"])


@given(st.lists(ACTS, max_size=60))
def test_whatever_happens_at_most_one_websocket_is_open_and_it_is_known_which(
    acts: list[str],
) -> None:
    rig, is_open = Rig(), False
    for act in acts:
        before = len(rig.commands)
        match act:
            case "ask":
                rig.ask()
            case "hear":
                rig.hear()
            case "stands" | "breaks":
                rig.web(stands=act == "stands")
            case "wait" | "long":
                rig.pass_time(SECOND if act == "wait" else 100 * SECOND)
            case "move":
                rig.fallback.move((DC,))
            case "stop":
                rig.fallback.stop()
            case "stun" if rig.probes:
                rig.stun()
            case _:
                pass
        rig.settle()
        for command in rig.commands[before:]:
            assert isinstance(command, OpenWeb) is not is_open
            is_open = isinstance(command, OpenWeb)
        used = rig.switched[-1] if rig.switched else None
        assert (used is not None) == rig.fallback.is_web
        assert used is None or is_open
