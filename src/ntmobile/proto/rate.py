"""Rate limiting of answers to strangers: our ports must not be weapons against a forged source.

A token bucket per source network (IPv4 /24, IPv6 /56). Over the rate, one answer in `SLIP` may say
truncated where the protocol knows that (DNS), so that a real asker comes back over TCP; the rest is
silence. Ours: docs/protocol.md sections 3 and 6.
"""

from collections import OrderedDict
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from ntmobile.time import SECOND, Instant

RATE = 20
"""Answers a second to one network."""
BURST = 100
SLIP = 2
MAX_NETWORKS = 50_000


class Verdict(Enum):
    """What to do with one answer."""

    SEND = "send"
    TRUNCATE = "truncate"
    DROP = "drop"


class RateLimit:
    """Buckets of the networks seen last; a flood from many networks forgets the oldest."""

    def __init__(self, rate: int = RATE, burst: int = BURST) -> None:
        """Rate in answers a second, burst in answers."""
        self._cost_ns = SECOND // rate
        self._span_ns = burst * self._cost_ns
        self._full_at: OrderedDict[bytes, Instant] = OrderedDict()
        """When each network's bucket is full again."""
        self._limited = 0

    def judge(self, source: IPv4Address | IPv6Address, now: Instant) -> Verdict:
        """Takes one token of the source's network."""
        network = source.packed[:3] if source.version == 4 else source.packed[:7]
        full_at = max(self._full_at.pop(network, now), now) + self._cost_ns
        if full_at - now > self._span_ns:
            self._full_at[network] = Instant(full_at - self._cost_ns)
            self._limited += 1
            return Verdict.TRUNCATE if self._limited % SLIP == 0 else Verdict.DROP
        self._full_at[network] = Instant(full_at)
        if len(self._full_at) > MAX_NETWORKS:
            self._full_at.popitem(last=False)
        return Verdict.SEND
