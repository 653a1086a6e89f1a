"""Names and virtual addresses: what the DNS stub asks of the node's machine.

Source: paper, Fig. 5 (the query is hooked, the answer waits for the tunnel).
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol, TypeVar

from ntmobile.agent.dns_stub_messages import Answer, Refused
from ntmobile.agent.records import SavedAccount, SavedPeer, VirtualAddresses
from ntmobile.agent.state import State
from ntmobile.proto.node.events import NameRefused, NameResolved
from ntmobile.proto.node.trust import domain_of
from ntmobile.wire.endpoint import Host
from ntmobile.wire.registration import Reason

SHARED_RANGE = IPv4Network("100.64.0.0/10")
"""Where virtual IPv4 addresses come from unless it clashes. Ours: docs/protocol.md section 5."""
DOMAIN_PREFIX = 48
MOST_REASONS = 256

Outcome = NameResolved | NameRefused


class NameQueries:
    """Each query to the machine, until its answer."""

    def __init__(self, ask: Callable[[str], int]) -> None:
        """Ask starts a resolution and returns its number; its outcome comes to `settle`."""
        self._ask = ask
        self._open: dict[int, asyncio.Future[Outcome]] = {}
        self._early: dict[int, Outcome] = {}
        self._asking = 0
        self.reasons: dict[str, Reason] = {}
        """Why each name was last refused; `ntm` says it, the application never hears it."""

    async def resolve(self, fqdn: str) -> Outcome:
        """Return the machine's decision; cancel to stop waiting."""
        self._asking += 1
        try:
            number = self._ask(fqdn)
        finally:
            self._asking -= 1
        early = self._early.pop(number, None)
        if not self._asking:
            self._early.clear()
        if early is not None:
            return early
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._open[number] = future
        try:
            return await future
        finally:
            self._open.pop(number, None)

    async def answer(self, fqdn: str) -> Answer | Refused:
        """Return what the DNS stub tells the application."""
        match await self.resolve(fqdn):
            case NameResolved(_, _, ipv4, ipv6):
                return Answer(ipv4, ipv6)
            case NameRefused():
                return Refused()

    def settle(self, outcome: Outcome) -> None:
        """The machine decided; an outcome nobody waits for is dropped."""
        self._remember(outcome)
        future = self._open.get(outcome.query)
        if future is not None and not future.done():
            future.set_result(outcome)
        elif self._asking:
            # It came out of the very call that asked, before the number was known.
            self._early[outcome.query] = outcome

    def _remember(self, outcome: Outcome) -> None:
        self.reasons.pop(outcome.fqdn, None)
        if isinstance(outcome, NameRefused):
            self.reasons[outcome.fqdn] = outcome.reason
            if len(self.reasons) > MOST_REASONS:
                del self.reasons[next(iter(self.reasons))]


def owner_of(
    address: Host, own: str, addresses: VirtualAddresses | None, peers: Mapping[str, SavedPeer]
) -> str | None:
    """Return the FQDN that a virtual address belongs to, as this node sees it."""
    if addresses is not None and address in (addresses.ipv4, addresses.ipv6):
        return own
    for fqdn, peer in peers.items():
        if address in (peer.ipv4, peer.ipv6):
            return fqdn
    return None


def name_or_refusal(
    address: Host, own: str, addresses: VirtualAddresses | None, peers: Mapping[str, SavedPeer]
) -> str | Refused | None:
    """Return what the DNS stub says of an address: its owner, that it has none, or nothing."""
    found = owner_of(address, own, addresses, peers)
    return Refused() if found is None and is_virtual(address, addresses) else found


class HasState(Protocol):
    """An identity of this machine, as far as names need it."""

    @property
    def state(self) -> State:
        """Its account and the peers it has met."""
        ...


Mine = TypeVar("Mine", bound=HasState)


def suited(fqdn: str, identities: Iterable[Mine]) -> tuple[tuple[Mine, ...], tuple[Mine, ...]]:
    """Return whose business a name is, and who else may try after them.

    It is the business of those logged in to its domain, and then of nobody else; without any, of
    those who have met it.
    """
    ones, domain = tuple(identities), domain_of(fqdn)
    own = tuple(each for each in ones if (it := each.state.account) and it.domain == domain)
    if own:
        return own, ()
    met = tuple(each for each in ones if fqdn in each.state.peers)
    return met, tuple(each for each in ones if each not in met)


def search_domains(account: SavedAccount) -> tuple[str, str]:
    """Return what makes names whole: NAME of the same user, NAME.USER of the same domain."""
    return f"{account.user}.{account.domain}", account.domain


def is_virtual(address: Host, addresses: VirtualAddresses | None) -> bool:
    """Whether an address can only be virtual, so that no ordinary resolver is asked about it."""
    if address.version == 4:
        # Where this node stepped aside, a provider's own servers have such addresses.
        aside = addresses is not None and addresses.ipv4 not in SHARED_RANGE
        return address in SHARED_RANGE and not aside
    return addresses is not None and address in IPv6Network(
        (addresses.ipv6, DOMAIN_PREFIX), strict=False
    )
