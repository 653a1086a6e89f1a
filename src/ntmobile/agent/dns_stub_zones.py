"""Which zones are NTMobile domains, so that names in them need not be asked of a resolver.

Ours: docs/protocol.md section 6.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from weakref import WeakValueDictionary

from ntmobile.agent.dns_stub_messages import (
    Negative,
    make_srv_query,
    negative_of,
    srv_ttl_of,
)

LABELS_OF_A_NODE = 2
"""A node is NAME.USER.DOMAIN; what has fewer labels below the zone is a server."""
SHORTEST_S, LONGEST_S = 5, 86_400
LONGEST_DENIAL_S = 3600
"""A zone may become an NTMobile domain, and its users should not wait a day."""
MOST_ZONES = 4096


class NtmZones:
    """Knows the own domains for ever and other zones for as long as their DNS records say."""

    def __init__(
        self,
        ask: Callable[[bytes], Awaitable[bytes | None]],
        now_s: Callable[[], float],
        *,
        own: Iterable[str] = (),
        known: Iterable[str] = (),
    ) -> None:
        """Asks for SRV records by `ask`; `known` are domains of peers met before."""
        self._ask = ask
        self._now_s = now_s
        self._own = frozenset(zone.lower() for zone in own)
        self._judged = {zone.lower(): (True, now_s() + LONGEST_S) for zone in known}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def take_own(self, own: Iterable[str], known: Iterable[str]) -> None:
        """These are the own domains from now; those known besides count as if just asked about."""
        self._own = frozenset(zone.lower() for zone in own)
        for zone in known:
            self._judged.setdefault(zone.lower(), (True, self._now_s() + LONGEST_S))

    @property
    def known(self) -> tuple[str, ...]:
        """Every zone that counts as NTMobile's, sorted."""
        return tuple(sorted(self._own | {zone for zone, (ntm, _) in self._judged.items() if ntm}))

    async def is_node(self, name: str) -> bool:
        """True when the name can only be a node's: it lies in a known NTMobile zone.

        A zone known once is asked about again, by its own name, before a name in it would leave.
        """
        labels = name.split(".")
        for zone in (".".join(labels[i:]) for i in range(LABELS_OF_A_NODE, len(labels))):
            if not _may_be_node(name, zone):
                return False
            if zone in self._own:
                return True
            if self._judged.get(zone, (False, 0))[0]:
                return await self._is_ntm(zone)
        return False

    def is_own_node(self, name: str) -> bool:
        """Whether a name is just NAME.USER below an own domain."""
        return name.split(".", LABELS_OF_A_NODE)[-1] in self._own

    async def learn(self, name: str, negative: Negative) -> bool:
        """Finds out whether a name that DNS denies is a node's; asks once per zone and TTL."""
        zone = negative.zone
        if zone is None:
            # A resolver that strips the SOA: the only zone a node of that name could be in.
            zone = name.split(".", LABELS_OF_A_NODE)[-1]
        return _may_be_node(name, zone) and await self._is_ntm(zone)

    async def _is_ntm(self, zone: str) -> bool:
        async with self._locks.setdefault(zone, asyncio.Lock()):
            ntm, until_s = self._judged.get(zone, (False, 0.0))
            if self._now_s() >= until_s:
                ntm = await self._judge(zone, was_ntm=ntm)
        return ntm

    async def _judge(self, zone: str, *, was_ntm: bool) -> bool:
        answer = await self._ask(make_srv_query(zone))
        found = srv_ttl_of(answer) if answer is not None else None
        denied = negative_of(answer) if answer is not None else None
        if found is not None:
            self._keep(zone, True, found)
        elif denied is not None:
            self._keep(zone, False, min(denied.ttl_s, LONGEST_DENIAL_S))
        else:
            self._keep(zone, was_ntm, SHORTEST_S)
        return self._judged[zone][0]

    def _keep(self, zone: str, ntm: bool, ttl_s: float) -> None:
        self._judged.pop(zone, None)
        while len(self._judged) >= MOST_ZONES:
            del self._judged[next(iter(self._judged))]
        self._judged[zone] = (ntm, self._now_s() + min(max(ttl_s, SHORTEST_S), LONGEST_S))


def _may_be_node(name: str, zone: str) -> bool:
    """Judges by form; no top-level zone is a domain's, and no label of a node begins with _."""
    below = name.removesuffix(f".{zone}")
    if below == name or "." not in zone:
        return False
    labels = below.split(".")
    return len(labels) >= LABELS_OF_A_NODE and not any(each.startswith("_") for each in labels)
