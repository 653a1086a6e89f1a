"""Ours: docs/protocol.md section 8."""

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.proto.parts import HERE, STRANGER, T0, after

from ntmobile.proto.node.mapping_age import LONGEST_WATCH_NS, MappingAge
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint

KEEPALIVE_S = 20


class Nat:
    """A node that asks every 20 s, and when it is told to; what is asked makes a mapping."""

    def __init__(self, lives_s: Callable[[int], float], rtt_s: float = 0.1) -> None:
        """lives_s gives the age at which the mapping of that number dies."""
        self.now = T0
        self.age = MappingAge()
        self.asked = 0
        self.late_s: list[float] = []
        """How long after its death each mapping was missed."""
        self._lives_s, self._rtt_s = lives_s, rtt_s
        self._number = 0
        self._born = self.now
        self._keepalive_at = after(self.now, KEEPALIVE_S)
        self.ask()

    def ask(self) -> None:
        self.asked += 1
        dies = after(self._born, self._lives_s(self._number))
        if self.now >= dies:
            self.late_s.append((self.now - dies) / SECOND)
            self._number, self._born = self._number + 1, self.now
        seen = Endpoint(HERE.host, 40000 + self._number)
        self.now = after(self.now, self._rtt_s)
        self.age.see(seen, self.now)

    def run(self, deaths: int, most: int = 20_000) -> None:
        while len(self.late_s) < deaths and self.asked < most:
            self.step()

    def step(self) -> None:
        wanted = self.age.next_at(self.now)
        if wanted is not None and wanted < self._keepalive_at:
            assert wanted > self.now, "spins"
            self.now = wanted
        else:
            self.now = max(self.now, self._keepalive_at)
            self._keepalive_at = after(self._keepalive_at, KEEPALIVE_S)
        self.ask()


@pytest.mark.parametrize("age_s", [120, 150, 300, 600])
def test_from_the_third_death_on_a_mapping_is_missed_within_half_a_second(age_s: int) -> None:
    nat = Nat(lambda _: age_s)

    nat.run(8)

    assert nat.age.age is not None
    assert nat.age.age.least <= age_s * SECOND <= nat.age.age.most
    assert max(nat.late_s[2:]) < 0.5


def test_a_nat_that_drops_nothing_is_asked_no_more_than_usual() -> None:
    """The negative twin."""
    nat = Nat(lambda _: 1e9)

    nat.run(1, most=500)

    assert nat.age.next_at(nat.now) is None
    assert (nat.now - T0) // SECOND >= 499 * KEEPALIVE_S


def test_one_that_restarts_now_and_then_is_not_taken_for_one_that_counts_ages() -> None:
    nat = Nat(lambda number: 200 + 333 * (number % 3))

    nat.run(9)

    assert nat.age.age is None
    assert nat.late_s


def test_a_restart_in_between_changes_nothing_that_is_known() -> None:
    nat = Nat(lambda number: 70 if number == 5 else 150)
    nat.run(5)
    known = nat.age.age

    nat.run(9)

    assert known is not None
    assert nat.age.age is not None
    assert max(nat.late_s[6:]) < 0.5


def test_a_nat_that_was_exchanged_for_one_that_keeps_is_asked_as_usual_again() -> None:
    nat = Nat(lambda number: 150 if number < 4 else 1e9)
    nat.run(4)
    assert nat.age.age is not None

    asked, began = nat.asked, nat.now
    while nat.now < after(began, 3600):
        nat.step()

    assert nat.age.age is None
    assert nat.asked - asked < 3600 / KEEPALIVE_S + 50


def test_mappings_that_die_of_idleness_before_they_are_confirmed_teach_nothing() -> None:
    nat = Nat(lambda _: KEEPALIVE_S - 5)

    nat.run(10)

    assert nat.age.age is None
    assert not nat.age.is_learning


def test_another_network_or_another_outer_address_is_begun_anew() -> None:
    for leave in (lambda a: a.move(), lambda a: a.see(STRANGER, after(T0, 10_000))):
        nat = Nat(lambda _: 150)
        nat.run(4)
        leave(nat.age)

        assert nat.age.age is None
        assert nat.age.next_at(nat.now) is None


def test_a_mapping_is_to_be_left_a_while_before_it_is_as_old_as_those_before_became() -> None:
    nat = Nat(lambda _: 150)
    nat.run(3)
    assert nat.age.leave_at() is not None

    born = nat.now
    nat.age.leave(nat.now)
    nothing_yet = nat.age.leave_at()
    nat.age.see(Endpoint(HERE.host, 50000), nat.now)
    at = nat.age.leave_at()

    assert nothing_yet is None
    assert at is not None
    assert after(born, 90) < at <= after(born, 140)


@pytest.mark.parametrize("lives_s", [lambda _: 1e9, lambda number: 200 + 333 * (number % 3)])
def test_where_no_two_became_as_old_none_is_left(lives_s: Callable[[int], float]) -> None:
    """The negative twin."""
    nat = Nat(lives_s)

    nat.run(9, most=500)

    assert nat.age.leave_at() is None


def test_what_was_left_goes_on_ageing_when_the_node_is_still_seen_there() -> None:
    """The other port was of no use."""
    nat = Nat(lambda _: 150)
    nat.run(3)
    before = nat.age.leave_at()
    seen = Endpoint(HERE.host, 40003)
    nat.age.see(seen, nat.now)
    before = nat.age.leave_at()

    nat.age.leave(nat.now)
    same, other = nat.age.is_elsewhere(seen), nat.age.is_elsewhere(STRANGER)
    nat.age.see(seen, after(nat.now, 1))

    assert (same, other) == (False, True)
    assert nat.age.leave_at() == before


def test_an_age_that_the_person_tells_counts_from_the_first_mapping_on_and_after_moves() -> None:
    age = MappingAge(told_s=40)
    for begins in (T0, after(T0, 500)):
        age.move()
        age.see(HERE, begins)

        assert age.leave_at() == after(begins, 30)


@given(st.lists(st.floats(1, 2000), min_size=1, max_size=12), st.floats(0.001, 0.4))
def test_whatever_dies_when_more_than_usual_is_asked_for_so_long_at_most(
    lives_s: list[float], rtt_s: float
) -> None:
    nat = Nat(lambda number: lives_s[number % len(lives_s)], rtt_s)

    nat.run(20, most=3000)

    usual = (nat.now - T0) / SECOND / KEEPALIVE_S
    most_more = 2 * LONGEST_WATCH_NS / SECOND / 0.25
    assert nat.asked <= usual + (len(nat.late_s) + 1) * most_more


def test_the_next_question_is_always_later_than_now() -> None:
    nat = Nat(lambda _: 150)
    nat.run(3)

    for seconds in range(0, 400, 7):
        now = after(nat.now, seconds)
        at = nat.age.next_at(now)
        assert at is None or at > Instant(now)
