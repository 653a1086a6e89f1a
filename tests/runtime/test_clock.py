from ntmobile.runtime.clock import Clock
from ntmobile.time import SECOND, Instant


def test_an_instant_survives_the_way_through_the_wall_clock() -> None:
    clock = Clock()
    expires = Instant(clock.now() + 3600 * SECOND)

    restored = clock.instant_of(clock.wall_of(expires))

    assert abs(restored - expires) < SECOND // 10


def test_what_passed_while_the_process_was_down_is_in_the_past() -> None:
    clock = Clock()

    assert clock.instant_of(clock.wall() - 60) < clock.now()
