"""What an RS remembers across a restart: its shared keys, and its paths that both ends proved.

The driver keeps these records in order, and hands the standing ones back at the next start. Each
says all there is to know of one key or path; a later one replaces an earlier one.

Tags, as messages have (`wire.message`): 1 Stored Key, 2 Forgotten Key, 3 Stored Path, 4 Forgotten
Path. They never travel. Ours: docs/protocol.md section 10.
"""

from collections.abc import Iterable

import msgspec

from ntmobile.wire.direction import RelayDirection, Role
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.federation import KeySharing
from ntmobile.wire.message import Index, KeyIdentifier, Message, Sequence, decoder


class StoredKey(Message, frozen=True, tag=1):
    """A Kdcrs, as the DC shared it; lifetime_s counts from when this was written."""

    sharing: KeySharing

    @property
    def name(self) -> bytes:
        """What this and a later record of the same key have in common."""
        return self.sharing.identifier


class ForgottenKey(Message, frozen=True, tag=2):
    """That Kdcrs is over."""

    identifier: KeyIdentifier

    @property
    def name(self) -> bytes:
        """Of the key or path."""
        return self.identifier


class StoredEnd(Message, frozen=True):
    """One end of a path: where it proved to be, and its receiver index."""

    role: Role
    source: Endpoint
    index: Index
    sequence: Sequence
    """Of what showed RS the end: nothing older moves it."""


class StoredPath(Message, frozen=True, tag=3):
    """A path that carries, under its Ktun."""

    direction: RelayDirection
    ends: tuple[StoredEnd, StoredEnd]

    @property
    def name(self) -> bytes:
        """That of its Ktun."""
        return self.direction.ktun_identifier


class ForgottenPath(Message, frozen=True, tag=4):
    """The path under that Ktun is over."""

    identifier: KeyIdentifier

    @property
    def name(self) -> bytes:
        """Of the key or path."""
        return self.identifier


Record = StoredKey | ForgottenKey | StoredPath | ForgottenPath
Standing = StoredKey | StoredPath

RECORD: msgspec.msgpack.Decoder[Record] = decoder(Record)  # type: ignore[arg-type]


def standing(records: Iterable[Record]) -> tuple[Standing, ...]:
    """Return what the records come down to, in the order in which it was last written."""
    held: dict[bytes, Standing] = {}
    for record in records:
        held.pop(record.name, None)
        if isinstance(record, Standing):
            held[record.name] = record
    return tuple(held.values())
