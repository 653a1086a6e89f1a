"""Registrations: what a DC needs to know its nodes again after a restart."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from sqlalchemy import delete, select

from ntmobile.errors import DecodeError
from ntmobile.proto.coordinator.settings import StoredNode
from ntmobile.store.database import Database, upsert
from ntmobile.store.schema import registrations
from ntmobile.time import Instant
from ntmobile.wire.message import decode, decoder, encode

_NODE = decoder(StoredNode)
_NO_TIME = Instant(0)


@dataclass(frozen=True, slots=True)
class Registration:
    """One node's; holds Kntmdc."""

    node: StoredNode
    """Its `expires` means nothing here: a machine's clock does not outlive the machine."""
    expires_at: float


class Registrations:
    """Every method raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        """A face of the database; several may be open."""
        self._database = database

    async def put(self, changed: Iterable[Registration]) -> None:
        """Write registrations, many in one transaction: a restart of the DC brings a storm."""
        rows = [_row(each) for each in changed]
        async with self._database.writing() as connection:
            await upsert(connection, registrations, "fqdn", rows)

    async def valid(self, now: float) -> tuple[Registration, ...]:
        """Every registration that has not expired; one that an older version wrote is left out."""
        query = select(registrations).where(registrations.c.expires_at > now)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return tuple(each for row in rows for each in _parse(row.content, row.expires_at))

    async def remove(self, fqdn: str) -> None:
        """Forget a node's registration."""
        async with self._database.writing() as connection:
            await connection.execute(delete(registrations).where(registrations.c.fqdn == fqdn))


def _row(registration: Registration) -> dict[str, object]:
    node = replace(registration.node, expires=_NO_TIME)
    expires_at = registration.expires_at
    return {"fqdn": node.fqdn, "expires_at": expires_at, "content": encode(node)}


def _parse(content: bytes, expires_at: float) -> Iterator[Registration]:
    # A node whose registration cannot be read logs in again by itself.
    try:
        yield Registration(decode(_NODE, content), expires_at)
    except DecodeError:
        return
