from ntmobile.agent.sleep import RECENT_NS, Sleep
from ntmobile.runtime.clock import Clock
from ntmobile.time import SECOND, Instant


class Machine:
    """Tells how long it has slept."""

    def __init__(self) -> None:
        self.slept_ns = 5 * SECOND
        self.sleep = Sleep(lambda: self.slept_ns)


def test_a_machine_that_slept_before_the_node_started_is_awake() -> None:
    assert not Machine().sleep.is_recent(Instant(0))


def test_a_sleep_is_recent_for_a_while_awake() -> None:
    machine = Machine()
    machine.slept_ns += 3600 * SECOND

    recent = [machine.sleep.is_recent(Instant(at)) for at in (0, RECENT_NS - 1, RECENT_NS)]

    assert recent == [True, True, False]


def test_what_two_looks_at_two_clocks_differ_by_is_no_sleep() -> None:
    machine = Machine()
    machine.slept_ns += SECOND // 2

    assert not machine.sleep.is_recent(Instant(0))


def test_the_clock_of_this_machine_tells_of_its_sleep_and_not_of_its_load() -> None:
    clock = Clock()

    assert clock.slept_ns() > -SECOND
    assert not Sleep(clock.slept_ns).is_recent(clock.now())
