"""What survives a restart, by table."""

from typing import Self

from sqlalchemy import delete, exists

from ntmobile.store.audit import Audit
from ntmobile.store.authorities import Authorities
from ntmobile.store.database import Database
from ntmobile.store.federation import Federation
from ntmobile.store.nodes import Nodes
from ntmobile.store.registrations import Registrations
from ntmobile.store.schema import nodes, registrations
from ntmobile.store.settings import Settings
from ntmobile.store.users import Users

EPHEMERAL_S = 3600
"""A node of an ephemeral key is forgotten that long after its registration ended."""


class Store:
    """All repositories over one database.

    Any method of any of them raises StoreUnavailable when the database cannot be used, and works
    again as soon as it can.
    """

    def __init__(self, database: Database) -> None:
        """Takes the database; `close` closes it."""
        self._database = database
        self.users = Users(database)
        self.authorities = Authorities(database)
        self.nodes = Nodes(database)
        self.registrations = Registrations(database)
        self.federation = Federation(database)
        self.audit = Audit(database)
        self.settings = Settings(database)

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect and migrate; raises StoreUnavailable (`Store(Database(url))` waits instead)."""
        store = cls(Database(url))
        try:
            await store.check()
        except BaseException:
            await store.close()
            raise
        return store

    async def check(self) -> None:
        """Raises StoreUnavailable unless the database can be used now."""
        async with self._database.reading():
            pass

    async def sweep(self, now: float) -> None:
        """Forget what has run out: registrations, and ephemeral nodes that are gone."""
        async with self._database.writing() as connection:
            ended = registrations.c.expires_at <= now
            await connection.execute(delete(registrations).where(ended))
            gone = nodes.c.ephemeral & (nodes.c.seen_at < now - EPHEMERAL_S)
            registered = exists().where(registrations.c.fqdn == nodes.c.fqdn)
            await connection.execute(delete(nodes).where(gone & ~registered))

    async def close(self) -> None:
        """Close every connection."""
        await self._database.close()
