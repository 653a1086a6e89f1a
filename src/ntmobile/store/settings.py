"""Numbers of the domain that only grow."""

from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from ntmobile.store.database import Database, inserting
from ntmobile.store.schema import settings


class Counter(StrEnum):
    """Which number."""

    GENERATION = "generation"
    """Grows whenever an operator changed something that running servers must know: in the same
    transaction, or a full disk could keep them from hearing of it for ever."""
    BOOT = "boot"
    """Grows at every start of the DC: nodes see by it that it restarted."""
    ZONE_SERIAL = "zone-serial"
    """SOA serial of the zone."""


class Settings:
    """Every method raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        """A face of the database; several may be open."""
        self._database = database

    async def get(self, counter: Counter) -> int:
        """The number now, 0 at first."""
        query = select(settings.c.value).where(settings.c.name == counter)
        async with self._database.reading() as connection:
            return (await connection.execute(query)).scalar_one_or_none() or 0

    async def next(self, counter: Counter) -> int:
        """Count one up and return the new number, never the same twice."""
        async with self._database.writing() as connection:
            return await count_up(connection, counter)


async def count_up(connection: AsyncConnection, counter: Counter) -> int:
    """Count one up with what else is written; in a writing transaction."""
    first = inserting(connection, settings).values(name=counter, value=1)
    grown = first.on_conflict_do_update(
        index_elements=["name"], set_={"value": settings.c.value + 1}
    )
    found = await connection.execute(grown.returning(settings.c.value))
    value: int = found.scalar_one()
    return value
