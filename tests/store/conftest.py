import itertools
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ntmobile.store import Store, create


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A fresh SQLite database."""
    made = tmp_path / "ntm.db"
    create(f"sqlite+aiosqlite:///{made}")
    return made


@pytest.fixture
def file_url(file: Path) -> str:
    return f"sqlite+aiosqlite:///{file}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty database; each test that asks for one runs on both kinds."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("file_url"))
    new_database: Callable[[], str] = request.getfixturevalue("postgresql")
    return new_database()


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    async for opened in with_alice(url):
        yield opened


@pytest.fixture
async def file_store(file_url: str) -> AsyncIterator[Store]:
    async for opened in with_alice(file_url):
        yield opened


async def with_alice(url: str) -> AsyncIterator[Store]:
    opened = await Store.open(url)
    await opened.users.add("alice", "hash", 1.0)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """Makes empty databases on a PostgreSQL server of this run, on a Unix socket only."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs or find_spec("asyncpg") is None:
        pytest.skip("needs PostgreSQL and asyncpg")
    with TemporaryDirectory(prefix="ntm-pg-") as directory:
        data = Path(directory)
        as_owner(data, programs[-1] / "initdb", "-A", "trust", "-U", "ntm")
        settings = f"-c listen_addresses='' -c fsync=off -k {data}"
        server = programs[-1] / "pg_ctl"
        as_owner(data, server, "start", "-w", "-l", str(data / "log"), "-o", settings)
        try:
            yield databases(data)
        finally:
            as_owner(data, server, "stop", "-m", "immediate")


def databases(data: Path) -> Callable[[], str]:
    numbers = itertools.count()

    def new_database() -> str:
        name = f"ntm{next(numbers)}"
        command = ["psql", "-h", str(data), "-U", "ntm", "-d", "postgres", "-qc"]
        subprocess.run([*command, f"CREATE DATABASE {name}"], check=True, timeout=180)
        return f"postgresql+asyncpg://ntm@/{name}?host={data}"

    return new_database


def as_owner(data: Path, program: Path, *words: str) -> None:
    """Run a program of the server; it refuses to run as root."""
    drop: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(data, "postgres", "postgres")
        drop = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    command = [*drop, str(program), "-D", str(data), *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=180, cwd="/")
