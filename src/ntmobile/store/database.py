"""The connection to the database: transactions, migrations, and recovery from what goes wrong.

Every failure of the world below (a full disk, a lock, a file that vanished, a server that went
away) comes out as StoreUnavailable; the next transaction tries afresh, so a cause that goes away
needs no restart. Ours: docs/protocol.md section 10.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, event, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.schema import Table

from ntmobile.errors import Remedy
from ntmobile.store.errors import FileLost, is_full, unavailable
from ntmobile.store.migrations import upgrade

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

BUSY_MS = 5000
"""How long a transaction waits for another program's."""
CONNECTIONS = 4
_WRITES = "ntm_writes"
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
)


class Database:
    """Transactions on the database of a URL; opens nothing before the first."""

    def __init__(self, url: str, *, busy_ms: int = BUSY_MS) -> None:
        """SQLAlchemy's URL; a SQLite file must exist (see `create`)."""
        parsed = make_url(url)
        self._file = Path(parsed.database or "") if is_sqlite(parsed) else None
        self._engine = _engine(parsed, self._file, busy_ms)
        self._writer = asyncio.Lock()
        self._seen: tuple[int, int] | None = None

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that changes nothing; raises StoreUnavailable."""
        async with self._guarded(), self._ready(), self._engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, all or nothing; raises StoreUnavailable.

        IntegrityError comes through: the caller asked for what cannot be.
        """
        # One writer at a time: SQLite would make the others poll for their turn.
        async with self._guarded(), self._ready(), self._writer, self._begin() as connection:
            yield connection

    async def close(self) -> None:
        """Close every connection; a transaction afterwards opens them again."""
        await self._engine.dispose()
        self._seen = None

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        async with self._engine.connect() as connection:
            await connection.execution_options(**{_WRITES: True})
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except (DBAPIError, PoolTimeout, OSError) as error:
            # Connections that saw the trouble are not trusted to have got over it. Those that met
            # a full disk hold the files that SQLite could not make again, even for reading.
            if not is_full(error):
                await self._engine.dispose()
            raise unavailable(error) from error

    @asynccontextmanager
    async def _ready(self) -> AsyncIterator[None]:
        """Brings the schema up to date, at first and whenever the file is another one."""
        if self._seen is None or self._seen != self._identity():
            async with self._writer:
                await self._open_afresh()
        yield

    async def _open_afresh(self) -> None:
        identity = self._identity()
        if self._seen == identity:
            return
        await self._engine.dispose()
        async with self._begin() as connection:
            await connection.run_sync(upgrade)
        self._seen = identity

    def _identity(self) -> tuple[int, int]:
        """The file that stands at the path now: a deleted one would swallow writes silently, and
        SQLite takes one without content for a new database.
        """
        if self._file is None:
            return 0, 0
        try:
            status = os.stat(self._file)
        except FileNotFoundError:
            raise FileLost(f"{self._file} is gone") from None
        if status.st_size == 0:
            raise FileLost(f"{self._file} is empty")
        return status.st_dev, status.st_ino


def is_sqlite(url: URL) -> bool:
    """Whether the database is a file of ours."""
    return url.get_backend_name() == "sqlite"


def create(url: str) -> None:
    """Make an empty SQLite file that only its owner may read; does nothing for a server's URL.

    Raises OSError or StoreUnavailable.
    """
    parsed = make_url(url)
    if is_sqlite(parsed):
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        os.close(os.open(parsed.database or "", flags, 0o600))
        # Here, once: processes that turn a fresh file to WAL together do not wait for each other.
        try:
            with closing(sqlite3.connect(parsed.database or "")) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.Error as error:
            raise unavailable(error) from error


def inserting(connection: AsyncConnection, table: Table) -> "postgresql.Insert | sqlite.Insert":
    """Return an INSERT that may say what to do when the row is there already."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


async def upsert(
    connection: AsyncConnection, table: Table, key: str, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Add rows, or change all columns of those whose key is there; in a writing transaction."""
    if not rows:
        return
    statement = inserting(connection, table)
    changed = {name: statement.excluded[name] for name in rows[0] if name != key}
    await connection.execute(
        statement.on_conflict_do_update(index_elements=[key], set_=changed), rows
    )


def _engine(url: URL, file: Path | None, busy_ms: int) -> AsyncEngine:
    if file is None:
        try:
            return create_async_engine(url, pool_pre_ping=True, pool_size=CONNECTIONS)
        except (ImportError, NoSuchModuleError) as error:
            raise Remedy(
                f"the database of [store] url needs a driver that is missing: {error}",
                remedy="for PostgreSQL: pip install asyncpg, and url = postgresql+asyncpg://...",
            ) from None
    # mode=rw: a file that vanished must be an error, not an empty database.
    uri = url.set(database=file.absolute().as_uri(), query={"mode": "rw", "uri": "true"})
    engine = create_async_engine(
        uri, pool_size=CONNECTIONS, max_overflow=0, pool_timeout=busy_ms / 1000
    )
    event.listen(engine.sync_engine, "connect", partial(_prepare, busy_ms))
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _prepare(busy_ms: int, connection: Any, _record: object) -> None:  # noqa: ANN401
    # The driver's own idea of when a transaction begins is turned off: see _begin.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (f"PRAGMA busy_timeout = {busy_ms}", *_PRAGMAS):
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    # IMMEDIATE: a reader that turns writer half-way could not wait for its turn.
    connection.execute(text("BEGIN IMMEDIATE" if writes else "BEGIN"))
