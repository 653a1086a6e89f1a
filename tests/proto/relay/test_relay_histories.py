"""Whatever honest ends and an attacker do: what RS promises holds after every step.

Three paths: 1 and 2 of different pairs that share a node, 3 of the same pair as 1. All ends choose
their receiver index from the same few, so clashes are the rule. The attacker replays anything ever
sent from any address, and honest ends send from addresses that their answers do not come back to.

Ours: docs/protocol.md section 7.
"""

from collections import Counter
from dataclasses import dataclass

import hypothesis.strategies as st
from hypothesis import given, settings
from tests.proto.parts import HERE, HERE6, STRANGER, THERE, after
from tests.proto.relay.rig import End, Rig

from ntmobile.proto.relay.relay import Bind
from ntmobile.wire.direction import Role
from ntmobile.wire.endpoint import Endpoint

PLACES = (HERE, THERE, HERE6, Endpoint("198.51.100.50", 50), Endpoint("203.0.113.51", 51))
SPOOFED = (STRANGER, Endpoint("203.0.113.67", 67), *PLACES[:2])
PAIRS = {1: 1, 2: 2, 3: 1}


@dataclass(frozen=True)
class Speak:
    """An honest end sends, and brings back the token if it is asked for one."""

    path: int
    role: Role
    what: str
    step: int
    """Added to the sequence: 1 grows, 0 and less do not."""


@dataclass(frozen=True)
class Stray:
    """An honest end's datagram leaves from an address where no answer reaches it."""

    path: int
    role: Role
    what: str
    source: Endpoint


@dataclass(frozen=True)
class Move:
    path: int
    role: Role
    place: Endpoint


@dataclass(frozen=True)
class Reindex:
    path: int
    role: Role
    index: int


@dataclass(frozen=True)
class Replay:
    which: int
    source: Endpoint


@dataclass(frozen=True)
class Wait:
    seconds: float


@dataclass(frozen=True)
class Redirect:
    path: int


@dataclass(frozen=True)
class Restart:
    """RS dies and goes on with what it kept."""


@dataclass(frozen=True)
class Meet:
    """Both ends of a path show themselves, in either order."""

    path: int
    first: Role


paths, roles = st.sampled_from(sorted(PAIRS)), st.sampled_from(Role)
whats = st.sampled_from(("punching", "request", "response"))
acts = st.one_of(
    st.builds(Speak, paths, roles, whats, st.sampled_from((1, 1, 1, 1, 0, -2))),
    st.builds(Speak, st.just(1), roles, st.just("request"), st.just(1)),
    st.builds(Stray, paths, roles, whats, st.sampled_from(SPOOFED)),
    st.builds(Move, paths, roles, st.sampled_from(PLACES)),
    st.builds(Reindex, paths, roles, st.integers(1, 3)),
    st.builds(Replay, st.integers(0, 60), st.sampled_from(SPOOFED)),
    st.builds(Wait, st.sampled_from((0.5, 40.0, 200.0))),
    st.builds(Redirect, paths),
    st.just(Restart()),
    st.builds(Meet, paths, roles),
    st.builds(Meet, paths, roles),
)


class History(Rig):
    """The rig, with the ends of all paths."""

    def __init__(self) -> None:
        super().__init__()
        self.share_key()
        self.of: dict[tuple[int, Role], End] = {}
        for number, pair in PAIRS.items():
            self.direct(number, pair)
            self.of[number, Role.MN] = self.end(number, Role.MN, HERE, 1)
            self.of[number, Role.CN] = self.end(number, Role.CN, PLACES[number], 1)

    def do(self, act: object) -> None:
        match act:
            case Speak(path, role, what, step):
                end = self.of[path, role]
                sequence = max(end.sequence + step, 0)
                end.sequence = max(end.sequence, sequence)
                self.send(end, getattr(end, what)(sequence))
            case Stray(path, role, what, source):
                end = self.of[path, role]
                self.send(end, getattr(end, what)(), source)
            case Move(path, role, place):
                self.of[path, role].place = place
            case Reindex(path, role, index):
                self.of[path, role].index = index
            case Replay(which, source):
                if self.recorded:
                    self.inject(self.recorded[which % len(self.recorded)], source)
            case Wait(seconds):
                self.pass_time(after(self.now, seconds))
            case Meet(path, first):
                for role in (first, *(role for role in Role if role is not first)):
                    self.send(self.of[path, role], self.of[path, role].punching())
            case Restart():
                self.restart()
            case Redirect(path):
                self.direct(path, PAIRS[path])


def firm(bound: dict[tuple[Endpoint, int], Bind]) -> dict[tuple[Endpoint, int], Bind]:
    """What is bound both ways: all but who is led in before its proof."""
    ways = {(bind.path, bind.destination) for bind in bound.values()}
    return {place: bind for place, bind in bound.items() if (bind.path, place[0]) in ways}


@given(st.lists(acts, max_size=50))
@settings(max_examples=300, deadline=None)
def test_after_every_step_of_any_history_rs_keeps_its_promises(history: list[object]) -> None:
    rig = History()
    for act in history:
        before = dict(rig.bound)
        rig.do(act)

        unproven = rig.sent.keys() - rig.proven
        assert [p for p in unproven if rig.sent[p] > 3 * rig.received[p]] == [], "amplifies"
        for bind in rig.bound.values():
            assert bind.destination in rig.proven, "capsules go to an unproven address"
        for source, _ in firm(rig.bound):
            assert source in rig.proven, "bound to an unproven address"
        for path, led_in in Counter(b.path for b in rig.bound.values()).items():
            assert led_in <= 4, f"more than each end's new place is led in on {path!r}"
        for place, old in before.items():
            new = rig.bound.get(place)
            if new is not None and new.path != old.path:
                pairs = {PAIRS[old.path[0]], PAIRS[new.path[0]]}
                assert len(pairs) == 1, "another pair took a binding over"
        if isinstance(act, Replay):
            assert firm(rig.bound) == firm(before), "a replay moved a path"


@given(st.lists(acts, max_size=40))
@settings(max_examples=150, deadline=None)
def test_after_any_history_a_restart_forgets_nothing_that_carried(history: list[object]) -> None:
    rig = History()
    for act in history:
        rig.do(act)
    before = firm(rig.bound)

    rig.restart()

    assert rig.bound == before
    assert rig.relay.paths == len({bind.path for bind in before.values()})


@given(st.lists(acts, max_size=25))
@settings(max_examples=80, deadline=None)
def test_after_any_history_two_ends_with_free_indexes_meet(history: list[object]) -> None:
    """The negative twin: RS is not safe because it is dead."""
    rig = History()
    for act in history:
        rig.do(act)
    number = 9
    rig.direct(number, pair=9)
    mn = rig.end(number, Role.MN, HERE, 90)
    cn = rig.end(number, Role.CN, THERE, 91)

    rig.send(cn, cn.punching())
    rig.send(mn, mn.request())
    rig.send(cn, cn.response())

    assert rig.forwards(HERE, 91) == THERE
    assert rig.forwards(THERE, 90) == HERE
