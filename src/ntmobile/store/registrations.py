"""Registrations: what a DC needs to know its nodes again after a restart."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import delete, select

from ntmobile.store.database import Database, upsert
from ntmobile.store.schema import registrations


@dataclass(frozen=True, slots=True)
class Registration:
    """One node's; content is the DC's own encoding, it holds Kntmdc."""

    fqdn: str
    expires_at: float
    content: bytes = field(repr=False)


class Registrations:
    """Every method raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        """A face of the database; several may be open."""
        self._database = database

    async def put(self, changed: Iterable[Registration]) -> None:
        """Write registrations, many in one transaction: a restart of the DC brings a storm."""
        async with self._database.writing() as connection:
            for each in changed:
                values = {"expires_at": each.expires_at, "content": each.content}
                await upsert(connection, registrations, {"fqdn": each.fqdn}, values)

    async def valid(self, now: float) -> tuple[Registration, ...]:
        """Every registration that has not expired."""
        query = select(registrations).where(registrations.c.expires_at > now)
        async with self._database.reading() as connection:
            return tuple(Registration(**row._mapping) for row in await connection.execute(query))

    async def remove(self, fqdn: str) -> None:
        """Forget a node's registration."""
        async with self._database.writing() as connection:
            await connection.execute(delete(registrations).where(registrations.c.fqdn == fqdn))
