from ntmobile.proto.node.chase import MOST_STEPS, PAUSE_NS, Chase
from ntmobile.time import SECOND, Instant

T0 = Instant(1000 * SECOND)


def test_a_peer_that_moves_now_and_then_is_followed() -> None:
    chase = Chase(T0)

    assert all(chase.follows(Instant(T0 + step * SECOND)) for step in range(100))


def test_two_ends_do_not_follow_each_other_for_ever() -> None:
    chase = Chase(T0)

    steps = [chase.follows(Instant(T0 + step * SECOND // 50)) for step in range(200)]

    assert steps.count(True) == MOST_STEPS
    assert chase.follows(Instant(T0 + SECOND + PAUSE_NS))


def test_nothing_is_followed_in_a_pause() -> None:
    chase = Chase(T0)
    chase.pause(Instant(T0 + SECOND))

    assert not chase.follows(Instant(T0 + SECOND - 1))
    assert chase.follows(Instant(T0 + SECOND))
