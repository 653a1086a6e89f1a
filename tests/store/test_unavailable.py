"""A store that does not work says so, and works again without a restart."""
# ruff: noqa: ASYNC240 -- nothing else runs in these loops

import os
import resource
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.small_disk import on_small_disk

from ntmobile.store import Store, StoreUnavailable
from ntmobile.store.database import Database
from ntmobile.store.errors import FileLost, unavailable


@pytest.fixture
async def impatient(file_url: str) -> AsyncIterator[Store]:
    store = Store(Database(file_url, busy_ms=1))
    yield store
    await store.close()


async def test_a_vanished_database_is_not_replaced_by_an_empty_one(
    file_store: Store, file: Path
) -> None:
    file.rename(file.with_suffix(".away"))

    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="is gone"):
            await file_store.users.add("bob", None, 2.0)
    assert not file.exists()

    file.with_suffix(".away").rename(file)
    assert [user.name for user in await file_store.users.list()] == ["alice"]


async def test_a_database_restored_from_a_backup_is_used_at_once(
    file_store: Store, file: Path
) -> None:
    await file_store.close()
    shutil.copy(file, file.with_suffix(".backup"))
    await file_store.users.add("bob", None, 2.0)

    for path in file.parent.glob("ntm.db*"):
        path.unlink() if path.suffix != ".backup" else None
    with pytest.raises(StoreUnavailable):
        await file_store.users.list()
    file.with_suffix(".backup").rename(file)

    assert [user.name for user in await file_store.users.list()] == ["alice"]


async def test_a_database_that_another_program_locks_is_busy_and_then_free(
    impatient: Store, file: Path
) -> None:
    await impatient.check()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="another program"):
            await impatient.users.add("bob", None, 2.0)
        assert await impatient.users.list() == ()

    assert await impatient.users.add("bob", None, 2.0)


async def test_a_disk_that_takes_no_more_refuses_writes_and_still_reads(file_store: Store) -> None:
    with no_file_grows():
        with pytest.raises(StoreUnavailable, match="disk"):
            await file_store.users.add("bob", "x" * 100_000, 2.0)
        assert [user.name for user in await file_store.users.list()] == ["alice"]

    assert await file_store.users.add("bob", "x" * 100_000, 2.0)


async def test_a_file_that_is_no_database_is_called_damaged(file: Path) -> None:
    file.write_bytes(b"not a database, but as long as a header of one: " * 100)

    with pytest.raises(StoreUnavailable, match="damaged"):
        await Store.open(f"sqlite+aiosqlite:///{file}")


async def test_a_missing_database_is_not_made_by_opening_it(file: Path) -> None:
    file.unlink()

    with pytest.raises(StoreUnavailable, match="is gone"):
        await Store.open(f"sqlite+aiosqlite:///{file}")

    assert not file.exists()


async def test_an_emptied_database_is_not_taken_for_a_new_one(file: Path, file_url: str) -> None:
    os.truncate(file, 0)

    with pytest.raises(StoreUnavailable, match="is empty") as raised:
        await Store.open(file_url)

    assert raised.value.remedy
    assert file.stat().st_size == 0


async def test_a_fresh_database_is_a_new_one(file: Path, file_url: str) -> None:
    """The negative twin."""
    assert file.stat().st_size > 0

    opened = await Store.open(file_url)

    assert await opened.users.list() == ()
    await opened.close()


async def test_a_database_that_is_emptied_while_it_is_open_is_never_empty_of_users(
    file_store: Store, file: Path
) -> None:
    os.truncate(file, 0)

    with pytest.raises(StoreUnavailable, match="is empty"):
        await file_store.users.list()
    # What SQLite still had beside the file goes into it: all that there was, or a damaged file.
    try:
        kept = [user.name for user in await file_store.users.list()]
    except StoreUnavailable:
        kept = ["alice"]

    assert kept == ["alice"]


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied"),
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError(),
        FileLost("ntm.db is gone"),
        OSError("no name for it"),
    ],
    ids=repr,
)
def test_whatever_is_wrong_with_the_store_comes_with_what_to_do(error: Exception) -> None:
    told = unavailable(error)

    assert str(told).startswith("the store is unavailable: ")
    assert told.remedy


FULL_DISK = """
import asyncio, sqlite3, sys
from contextlib import closing
from pathlib import Path
from ntmobile.store import Store, StoreUnavailable, create

def fill(filler: Path) -> None:
    with filler.open("ab", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass

async def main(directory: Path) -> None:
    url = f"sqlite+aiosqlite:///{directory / 'ntm.db'}"
    create(url)
    store = await Store.open(url)
    await store.users.add("alice", None, 1.0)
    with closing(sqlite3.connect(directory / "ntm.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    filler = directory / "filler"
    fill(filler)
    try:
        await store.users.add("bob", "x" * 100_000, 2.0)
    except StoreUnavailable as error:
        print(error.reason)
    # Whoever fills the disk takes what SQLite gives back, too.
    fill(filler)
    print([user.name for user in await store.users.list()])
    filler.unlink()
    await store.users.add("bob", "x" * 100_000, 2.0)
    print([user.name for user in await store.users.list()])
    await store.close()

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system of its own")
def test_a_full_disk_is_named_and_healed_by_making_room(tmp_path: Path) -> None:
    done = on_small_disk(tmp_path, "-c", FULL_DISK)

    assert done.stderr == ""
    assert done.stdout.splitlines() == ["the disk is full", "['alice']", "['alice', 'bob']"]


@contextmanager
def no_file_grows() -> Iterator[None]:
    """For a moment no file of this process grows beyond 64 KiB: a full disk without root."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
