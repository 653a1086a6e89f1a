import pytest

from ntmobile.errors import StateError
from ntmobile.sim.calendar import Calendar
from ntmobile.time import Instant


def test_things_due_at_one_instant_happen_in_the_order_planned() -> None:
    calendar, seen = Calendar(), list[str]()
    calendar.after(5, lambda: seen.append("second"))
    calendar.after(3, lambda: seen.append("first"))
    calendar.after(5, lambda: seen.append("third"))

    calendar.run_to(Instant(5))

    assert seen == ["first", "second", "third"]
    assert calendar.now == 5


def test_what_is_cancelled_does_not_happen() -> None:
    calendar, seen = Calendar(), list[str]()
    entry = calendar.after(1, lambda: seen.append("cancelled"))
    calendar.after(2, lambda: seen.append("kept"))

    entry.cancel()
    calendar.run_to(Instant(10))

    assert seen == ["kept"]
    assert calendar.now == 10


def test_a_run_stops_as_soon_as_its_condition_holds() -> None:
    calendar, seen = Calendar(), list[int]()
    for delay in (1, 2, 3):
        calendar.after(delay, lambda delay=delay: seen.append(delay))

    reached = calendar.run_until(lambda: 2 in seen, Instant(100))

    assert reached
    assert calendar.now == 2


def test_a_run_whose_condition_never_holds_ends_at_its_limit() -> None:
    calendar = Calendar()
    calendar.after(500, lambda: None)

    assert not calendar.run_until(lambda: False, Instant(100))
    assert calendar.now == 100


def test_time_never_runs_backwards() -> None:
    calendar = Calendar(Instant(7))

    with pytest.raises(StateError):
        calendar.at(Instant(6), lambda: None)
