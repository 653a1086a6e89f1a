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


def test_what_happened_in_order_has_its_order_and_distances_by_the_wall_clock_too() -> None:
    clock = Clock()
    began = clock.now()
    instants = [Instant(began + after) for after in (0, 0, 1_000_000, 2_000_000)]

    walls = clock.walls_of(instants)

    assert walls[0] == walls[1]
    assert [round((wall - walls[0]) * 1000, 2) for wall in walls] == [0, 0, 1, 2]
