"""Ours: docs/protocol.md section 8."""

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.proto.node.test_registration import BOOT, Rig
from tests.proto.parts import HERE, T0, THERE, after, drain

from ntmobile.proto.node.registration import RegistrationStood
from ntmobile.proto.node.rotation import PROOF_NS, Rotation, Turn, lead_ns
from ntmobile.proto.node.tags import KeptAlive
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import KeepAliveAnswer

DUE = after(T0, 100)


def turns(rotation: Rotation) -> list[Turn]:
    return drain(rotation.poll_turn)


def run(rotation: Rotation, until: Instant) -> list[Turn]:
    """Call it whenever it wants to be, until then."""
    seen: list[Turn] = []
    while (due := rotation.poll_timeout()) is not None and due.at <= until:
        rotation.handle_timeout(due.at)
        seen += turns(rotation)
        following = rotation.poll_timeout()
        assert following is None or following.at > due.at, "spins"
    return seen


def test_ports_change_when_that_is_due_and_are_shown_a_moment_later() -> None:
    rotation = Rotation()
    rotation.plan(DUE)

    early = run(rotation, Instant(DUE - 1))
    seen = run(rotation, after(DUE, 1))
    under_way = rotation.is_under_way
    rotation.prove(elsewhere=True)

    assert (early, seen) == ([], [Turn.CHANGE, Turn.SHOW])
    assert under_way
    assert not rotation.is_under_way
    assert rotation.poll_timeout() is None


def test_who_expects_no_death_changes_nothing() -> None:
    """The negative twin."""
    rotation = Rotation()
    rotation.plan(DUE)
    rotation.plan(None)

    assert run(rotation, after(DUE, 1000)) == []


def test_a_port_that_gets_no_answer_is_left_and_not_tried_again_in_this_network() -> None:
    rotation = Rotation()
    rotation.plan(DUE)

    seen = run(rotation, Instant(DUE + 2 * PROOF_NS))
    rotation.plan(after(DUE, 100))
    again = run(rotation, after(DUE, 1000))
    rotation.move()
    rotation.plan(after(DUE, 2000))
    elsewhere = run(rotation, after(DUE, 2001))

    assert seen == [Turn.CHANGE, Turn.SHOW] * 2
    assert again == []
    assert elsewhere == [Turn.CHANGE, Turn.SHOW]


def test_a_port_that_is_seen_where_the_other_was_is_not_changed_for_it_again() -> None:
    rotation = Rotation()
    rotation.plan(DUE)
    run(rotation, after(DUE, 1))
    rotation.prove(elsewhere=False)

    rotation.plan(after(DUE, 100))

    assert run(rotation, after(DUE, 1000)) == []


@pytest.mark.parametrize(("age_s", "ahead_s"), [(300, 10), (45, 10), (4, 1)])
def test_a_mapping_is_left_ten_seconds_before_its_death_or_a_quarter_of_a_short_life(
    age_s: int, ahead_s: int
) -> None:
    assert lead_ns(age_s * SECOND) == ahead_s * SECOND


class Ports(RuleBasedStateMachine):
    """Whatever happens in whatever order: two ports, and what was proven carries on."""

    def __init__(self) -> None:
        super().__init__()
        self.rotation = Rotation()
        self.now = T0
        self.sends, self.proven = 0, {0}
        """Which of the two sends what is new, and which the DC has answered."""
        self.shown = True

    @rule(seconds=st.floats(0.1, 400))
    def plan(self, seconds: float) -> None:
        self.rotation.plan(after(self.now, seconds))

    @rule()
    def forget(self) -> None:
        self.rotation.plan(None)

    @rule(seconds=st.floats(0.01, 400))
    def wait(self, seconds: float) -> None:
        until = after(self.now, seconds)
        while (due := self.rotation.poll_timeout()) is not None and due.at <= until:
            self.now = max(self.now, due.at)
            self.rotation.handle_timeout(self.now)
            for turn in turns(self.rotation):
                self.take(turn)
        self.now = until

    @precondition(lambda self: self.shown)
    @rule(elsewhere=st.booleans())
    def answer(self, elsewhere: bool) -> None:
        if self.rotation.is_under_way:
            self.proven = {self.sends}
        self.rotation.prove(elsewhere=elsewhere)

    @rule()
    def move(self) -> None:
        """Whichever port sends then is as good as the other one."""
        self.rotation.move()
        self.proven, self.shown = {self.sends}, True

    def take(self, turn: Turn) -> None:
        assert self.shown is (turn is Turn.CHANGE), "each change is shown, once"
        self.shown = turn is Turn.SHOW
        if turn is Turn.CHANGE:
            self.sends = 1 - self.sends

    @invariant()
    def there_is_one_proven_port_and_it_sends_or_another_is_being_proven(self) -> None:
        assert len(self.proven) == 1
        assert self.sends in (0, 1)
        assert self.sends in self.proven or self.rotation.poll_timeout() is not None


TestPorts = Ports.TestCase


def ageing(age_s: int | None = 100) -> Rig:
    rig = Rig(age_s=age_s)
    rig.register()
    rig.serve()
    rig.events()
    rig.heard.clear()
    return rig


def told(rig: Rig) -> list[Turn]:
    return [event for event in rig.events() if isinstance(event, Turn)]


def rotate(rig: Rig, seen: Endpoint, *, heard: bool = True) -> None:
    """Let the mapping become old; what is shown then is seen there, if it is heard."""
    rig.pass_time(90)
    assert told(rig) == [Turn.CHANGE]
    rig.seen[4] = seen
    rig.silent = set() if heard else {4}
    rig.pass_time(0.01)
    assert told(rig) == [Turn.SHOW]
    rig.registration.show_port(rig.now)
    rig.serve()


def test_before_the_mapping_dies_the_dc_is_shown_the_next_one() -> None:
    rig = ageing()

    for port in (1, 2, 3):
        seen = Endpoint(HERE.host, 50000 + port)
        rotate(rig, seen)
        assert rig.registration.mapped == (seen,)


def test_a_node_that_is_told_to_mind_no_age_keeps_its_port() -> None:
    """The negative twin."""
    rig = ageing(0)

    rig.pass_time(1000)

    assert not [event for event in rig.events() if isinstance(event, Turn)]


def test_where_the_router_lets_others_in_the_port_is_kept() -> None:
    rig = Rig(age_s=100)
    rig.opened = (THERE,)
    rig.register()
    rig.serve()

    rig.pass_time(1000)

    assert not [event for event in rig.events() if isinstance(event, Turn)]


def test_a_port_from_which_the_dc_is_not_reached_is_left_before_the_registration_is_lost() -> None:
    rig = ageing()
    rotate(rig, HERE, heard=False)

    rig.pass_time(2.1)
    went_back = told(rig)
    rig.silent.clear()
    rig.registration.show_port(rig.now)
    rig.serve()
    stands = [event for event in rig.events() if isinstance(event, RegistrationStood)]
    rig.pass_time(1000)

    assert went_back == [Turn.CHANGE, Turn.SHOW]
    assert stands
    assert rig.registration.responses[4].mapped == HERE
    assert told(rig) == []


def test_what_the_dc_said_of_the_port_before_proves_nothing_of_this_one() -> None:
    """An answer to a keep-alive that was under way."""
    rig = ageing()
    rotate(rig, HERE, heard=False)

    rig.registration.handle_answer(KeptAlive(4), KeepAliveAnswer(HERE, BOOT), rig.now)
    rig.silent, rig.seen[4] = set(), Endpoint(HERE.host, 50001)
    rig.pass_time(1)
    turned = told(rig)
    rig.pass_time(95)

    assert turned == []
    assert rig.registration.mapped == (Endpoint(HERE.host, 50001),)
    assert told(rig)[:2] == [Turn.CHANGE, Turn.SHOW], "the next one is left in its time"
