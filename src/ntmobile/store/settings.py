"""Numbers of the domain that only grow."""

from enum import StrEnum

from sqlalchemy import insert, select, update

from ntmobile.store.database import Database
from ntmobile.store.schema import settings


class Counter(StrEnum):
    """Which number."""

    GENERATION = "generation"
    """Grows whenever an operator changed something that running servers must know."""
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
            query = update(settings).where(settings.c.name == counter)
            grown = query.values(value=settings.c.value + 1).returning(settings.c.value)
            value: int | None = (await connection.execute(grown)).scalar_one_or_none()
            if value is None:
                value = 1
                await connection.execute(insert(settings).values(name=counter, value=value))
        return value
