"""Slows guessing of passwords down, by user and source network, and never locks a user out.

Ours: docs/protocol.md section 2.
"""

from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from ntmobile.time import SECOND, Instant

FREE_TRIES = 5
"""People mistype."""
FIRST_WAIT_S = 1
"""Doubles with each further try."""
LONGEST_WAIT_S = 60
"""About 1,400 guesses a day for one user from one network."""
FORGET_NS = 900 * SECOND
MOST = 10_000
"""Pairs remembered; the one that was quiet for longest goes first."""

Prefix = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class _Tries:
    count: int
    last: Instant
    open_at: Instant


class SlowDown:
    """Counts tries of each user from each source network; a success clears them."""

    def __init__(self) -> None:
        """Remembers nobody."""
        self._tries: OrderedDict[tuple[str, Prefix], _Tries] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tries)

    def begin(self, user: str, source: str, now: Instant) -> int:
        """Count a try before it is judged; seconds to wait instead, 0 to go on."""
        key = (user, prefix_of(source))
        before = self._tries.get(key)
        if before is None or now - before.last > FORGET_NS:
            before = _Tries(0, now, now)
        if now < before.open_at:
            return -((now - before.open_at) // SECOND)
        self._remember(key, _next(before, now))
        return 0

    def succeeded(self, user: str, source: str) -> None:
        """Forget the tries: this was the user."""
        self._tries.pop((user, prefix_of(source)), None)

    def _remember(self, key: tuple[str, Prefix], tries: _Tries) -> None:
        self._tries[key] = tries
        self._tries.move_to_end(key)
        if len(self._tries) > MOST:
            self._tries.popitem(last=False)


def prefix_of(source: str) -> Prefix:
    """Return the network that a guesser is likely to own: /24 of IPv4, /64 of IPv6."""
    address = ip_address(source)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return ip_network(f"{address}/{24 if address.version == 4 else 64}", strict=False)


def _next(before: _Tries, now: Instant) -> _Tries:
    count = before.count + 1
    excess = count - FREE_TRIES
    wait_s = min(FIRST_WAIT_S << min(excess, 16), LONGEST_WAIT_S) if excess >= 0 else 0
    return _Tries(count, now, Instant(now + wait_s * SECOND))
