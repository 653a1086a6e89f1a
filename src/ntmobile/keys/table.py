"""Table 1 of the paper: the eight keys, who creates, carries and owns each.

A `Keyring` is what one participant holds. It refuses a key whose table row does not name its role,
wipes what it erases, and reports each change, so that a recorded run can be held against the table.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, TypeVar

from ntmobile.errors import StateError
from ntmobile.time import Instant

SECRET_SIZE = 32
IDENTIFIER_SIZE = 8


class Party(StrEnum):
    """A participant, in the paper's words."""

    AS = "AS"
    DC = "DC"
    NS = "NS"
    RS = "RS"
    NODE = "node"


class CommonKey:
    """A key of Table 1: 32 secret bytes, a random public identifier and an expiry."""

    __slots__ = ("_secret", "expires", "identifier")

    creator: ClassVar[frozenset[Party]]
    owners: ClassVar[frozenset[Party]]
    couriers: ClassVar[frozenset[Party]] = frozenset()
    """Who may hold it for a moment on its way, and erases it when the hand-over is acknowledged."""

    def __init__(self, secret: bytes, identifier: bytes, expires: Instant) -> None:
        """Takes 32 secret bytes and the 8 of the identifier."""
        if len(secret) != SECRET_SIZE or len(identifier) != IDENTIFIER_SIZE:
            raise ValueError("a key has 32 bytes, its identifier 8")
        self._secret = bytearray(secret)
        self.identifier = identifier
        self.expires = expires

    @property
    def name(self) -> str:
        """The paper's name of the key."""
        return type(self).__name__

    @property
    def secret(self) -> bytes:
        """The key bytes; raises StateError once erased."""
        if not self._secret:
            raise StateError(f"{self.name} {self.identifier.hex()} is erased")
        return bytes(self._secret)

    @property
    def erased(self) -> bool:
        """Whether the bytes are gone."""
        return not self._secret

    def erase(self) -> None:
        """Overwrite and drop the bytes."""
        self._secret[:] = bytes(len(self._secret))
        self._secret.clear()

    def __repr__(self) -> str:
        return f"{self.name}({self.identifier.hex()})"


K = TypeVar("K", bound=CommonKey)


def _parties(*parties: Party) -> frozenset[Party]:
    return frozenset(parties)


class Kntmdc(CommonKey):
    """Node <-> DC. Source: paper, Table 1."""

    creator = _parties(Party.AS)
    owners = _parties(Party.NODE, Party.DC)


class Kdcns(CommonKey):
    """DC <-> NS. Source: paper, Table 1."""

    creator = _parties(Party.DC)
    owners = _parties(Party.DC, Party.NS)


class Kntmns(CommonKey):
    """Node <-> NS. Source: paper, Table 1."""

    creator = _parties(Party.DC)
    owners = _parties(Party.NODE, Party.NS)


class Kdcdc(CommonKey):
    """DC <-> DC. Source: paper, Table 1."""

    creator = _parties(Party.DC)
    owners = _parties(Party.DC)


class Kdcrs(CommonKey):
    """DC <-> RS. Source: paper, Table 1."""

    creator = _parties(Party.DC)
    owners = _parties(Party.DC, Party.RS)


class Ktun(CommonKey):
    """Outer protection of Tunnel Request and Hole Punching. Source: paper, Table 1."""

    creator = _parties(Party.DC)
    owners = _parties(Party.NODE, Party.RS)
    couriers = _parties(Party.DC)


class Ktmp(CommonKey):
    """Protects the agreement of Kmncn; never at RS. Source: paper, Table 1."""

    creator = _parties(Party.DC)
    owners = _parties(Party.NODE)
    couriers = _parties(Party.DC)


class Kmncn(CommonKey):
    """Node <-> node; never at a server. Source: paper, Table 1."""

    creator = _parties(Party.NODE)
    owners = _parties(Party.NODE)


TABLE_1 = (Kntmdc, Kdcns, Kntmns, Kdcdc, Kdcrs, Ktun, Ktmp, Kmncn)


class KeyAct(StrEnum):
    """What happened to a key at one participant."""

    CREATED = "created"
    OWNED = "owned"
    CARRIED = "carried"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One line of a recorded run: never key bytes."""

    at: Instant
    act: KeyAct
    party: Party
    key: str
    identifier: str


class Keyring:
    """What one participant holds, by identifier."""

    def __init__(self, party: Party) -> None:
        """Starts empty, for a participant of that role."""
        self.party = party
        self._keys: dict[bytes, CommonKey] = {}
        self._records: deque[KeyRecord] = deque(maxlen=4096)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[CommonKey]:
        return iter(self._keys.values())

    def __contains__(self, key: CommonKey) -> bool:
        return self._keys.get(key.identifier) is key

    def create(self, key: K, now: Instant) -> K:
        """Records that this participant made the key; hold or carry it next."""
        self._check(key, type(key).creator, "create")
        self._record(KeyAct.CREATED, key, now)
        return key

    def own(self, key: K, now: Instant) -> K:
        """Keeps a key that Table 1 says this participant owns."""
        self._check(key, type(key).owners, "own")
        self._keys[key.identifier] = key
        self._record(KeyAct.OWNED, key, now)
        return key

    def carry(self, key: K, now: Instant) -> K:
        """Keeps a key for others until `erase`, as creator or courier."""
        self._check(key, type(key).couriers | type(key).creator, "carry")
        self._keys[key.identifier] = key
        self._record(KeyAct.CARRIED, key, now)
        return key

    def erase(self, key: CommonKey, now: Instant) -> None:
        """Wipes a key; a second time does nothing."""
        if key.erased:
            return
        self._keys.pop(key.identifier, None)
        key.erase()
        self._record(KeyAct.ERASED, key, now)

    def poll_record(self) -> KeyRecord | None:
        """Next thing that happened to a key, oldest first."""
        return self._records.popleft() if self._records else None

    def _check(self, key: CommonKey, allowed: frozenset[Party], verb: str) -> None:
        if self.party not in allowed:
            raise StateError(f"{self.party} may not {verb} {key.name}: paper, Table 1")

    def _record(self, act: KeyAct, key: CommonKey, now: Instant) -> None:
        self._records.append(KeyRecord(now, act, self.party, key.name, key.identifier.hex()))
