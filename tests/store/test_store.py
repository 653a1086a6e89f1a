import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from ntmobile.store import Counter, Decision, Store, StoreUnavailable, create, migrations
from ntmobile.store.audit import Audit
from ntmobile.store.database import Database
from ntmobile.store.schema import metadata


async def test_the_migrations_make_the_schema_that_the_program_uses(
    file_store: Store, file: Path
) -> None:
    await file_store.close()
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)
    engine.dispose()

    assert differences == []


def test_the_program_knows_the_newest_revision() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))

    assert scripts.get_current_head() == migrations.HEAD


async def test_a_database_of_a_later_version_is_refused(file_url: str, file: Path) -> None:
    await (await Store.open(file_url)).close()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(StoreUnavailable, match="later version"):
        await Store.open(file_url)


async def test_two_processes_that_start_at_once_migrate_once(url: str) -> None:
    stores = await asyncio.gather(*(Store.open(url) for _ in range(4)))

    assert [await each.users.list() for each in stores] == [()] * 4
    for each in stores:
        await each.close()


async def test_what_was_written_is_there_after_a_restart(url: str) -> None:
    first = await Store.open(url)
    await first.users.add("alice", "hash", 1.0)
    await first.close()

    second = await Store.open(url)

    assert [user.name for user in await second.users.list()] == ["alice"]
    await second.close()


def test_only_the_owner_may_read_the_database(tmp_path: Path) -> None:
    create(f"sqlite+aiosqlite:///{tmp_path / 'private.db'}")

    assert (tmp_path / "private.db").stat().st_mode & 0o777 == 0o600


async def test_a_counter_never_gives_the_same_number_twice(store: Store) -> None:
    numbers = await asyncio.gather(*(store.settings.next(Counter.BOOT) for _ in range(20)))

    assert sorted(numbers) == list(range(1, 21))
    assert await store.settings.get(Counter.BOOT) == 20
    assert await store.settings.get(Counter.GENERATION) == 0


async def test_the_audit_keeps_the_newest_decisions(url: str, store: Store) -> None:
    database = Database(url)
    audit = Audit(database, most=3)

    for at in range(5):
        await audit.add([decision(float(at), "pc.bob.d.example")])

    assert [each.at for each in await audit.list()] == [2.0, 3.0, 4.0]
    assert [each.at for each in await audit.list(newest=2)] == [3.0, 4.0]
    await database.close()


async def test_the_audit_is_searched_by_node_or_by_domain(store: Store) -> None:
    await store.audit.add([decision(1.0, "pc.bob.d.example"), decision(2.0, "pc.eve.e.example")])

    by_node = await store.audit.list(name="pc.eve.e.example")
    by_domain = await store.audit.list(name="d.example")
    by_wildcard = await store.audit.list(name="%")

    assert [each.at for each in by_node] == [2.0]
    assert [each.at for each in by_domain] == [1.0]
    assert by_wildcard == ()


def decision(at: float, cn: str) -> Decision:
    return Decision(at, "refused", "laptop.alice.ntm.example.org", cn, "not-allowed")
