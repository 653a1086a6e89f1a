from collections import Counter
from ipaddress import ip_address

from ntmobile.proto.rate import MAX_NETWORKS, RateLimit, Verdict
from ntmobile.time import SECOND, Instant

VICTIM = ip_address("198.51.100.7")
T0 = Instant(0)


def test_a_burst_is_answered_then_half_truncated_half_dropped() -> None:
    limit = RateLimit(rate=10, burst=20)

    verdicts = Counter(limit.judge(VICTIM, T0) for _ in range(40))

    assert verdicts == {Verdict.SEND: 20, Verdict.TRUNCATE: 10, Verdict.DROP: 10}


def test_the_bucket_fills_again_at_the_rate() -> None:
    limit = RateLimit(rate=10, burst=20)
    for _ in range(40):
        limit.judge(VICTIM, T0)

    later = [limit.judge(VICTIM, Instant(SECOND)) for _ in range(15)]

    assert later.count(Verdict.SEND) == 10


def test_one_network_shares_a_bucket_and_does_not_touch_another() -> None:
    limit = RateLimit(rate=1, burst=1)
    limit.judge(VICTIM, T0)

    assert limit.judge(ip_address("198.51.100.200"), T0) is not Verdict.SEND
    assert limit.judge(ip_address("203.0.113.7"), T0) is Verdict.SEND
    assert limit.judge(ip_address("2001:db8::7"), T0) is Verdict.SEND


def test_a_flood_from_many_networks_keeps_the_table_bounded() -> None:
    limit = RateLimit(rate=1, burst=1)

    for n in range(MAX_NETWORKS + 10):
        limit.judge(ip_address(n << 8), T0)

    assert limit.judge(ip_address(0), T0) is Verdict.SEND
