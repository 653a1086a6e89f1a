# ruff: noqa: ASYNC240 -- nothing else runs in these loops
import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ntmobile.errors import Remedy
from ntmobile.servers.admin_socket import AdminSocket, Told, tell


async def test_a_running_server_is_told_and_has_reloaded_when_tell_returns(tmp_path: Path) -> None:
    async with listening(tmp_path) as reloads:
        assert await asyncio.to_thread(tell, tmp_path) == Told(1, ())
        assert reloads == ["dc"]


async def test_every_process_of_the_domain_is_told(tmp_path: Path) -> None:
    async with listening(tmp_path, "as") as one, listening(tmp_path, "dc", "rs") as two:
        assert await asyncio.to_thread(tell, tmp_path) == Told(2, ())
        assert (one, two) == (["as"], ["dc rs"])


async def test_a_server_that_keeps_its_old_settings_says_why(tmp_path: Path) -> None:
    async with listening(tmp_path, error=Remedy("line 7 is wrong")):
        told = await asyncio.to_thread(tell, tmp_path)

    assert told == Told(0, ("line 7 is wrong",))


def test_where_nothing_runs_nobody_is_told(tmp_path: Path) -> None:
    assert tell(tmp_path) == Told(0, ())


async def test_a_socket_that_a_killed_server_left_is_passed_over_and_replaced(
    tmp_path: Path,
) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "admin-dc.sock"))

    assert await asyncio.to_thread(tell, tmp_path) == Told(0, ())
    async with listening(tmp_path):
        assert await asyncio.to_thread(tell, tmp_path) == Told(1, ())


async def test_only_the_owner_may_use_it_and_it_goes_away(tmp_path: Path) -> None:
    async with listening(tmp_path):
        assert (tmp_path / "admin-dc.sock").stat().st_mode & 0o777 == 0o600

    assert list(tmp_path.iterdir()) == []


async def test_a_directory_with_a_long_name_works_too(tmp_path: Path) -> None:
    deep = tmp_path / ("long" * 40)
    deep.mkdir()

    async with listening(deep):
        assert await asyncio.to_thread(tell, deep) == Told(1, ())


@pytest.mark.parametrize("words", [b"", b"hello\n", b"x" * 100_000, b"\xff\n"])
async def test_nonsense_does_nothing(words: bytes, tmp_path: Path) -> None:
    async with listening(tmp_path) as reloads:
        _, writer = await asyncio.open_unix_connection(tmp_path / "admin-dc.sock")
        writer.write(words)
        writer.close()

        assert await asyncio.to_thread(tell, tmp_path) == Told(1, ())
        assert reloads == ["dc"]


@asynccontextmanager
async def listening(
    directory: Path, *roles: str, error: Remedy | None = None
) -> AsyncIterator[list[str]]:
    """A server's socket; what is yielded grows with each reload."""
    reloads: list[str] = []

    async def reload() -> None:
        if error is not None:
            raise error
        reloads.append(" ".join(roles or ("dc",)))

    served = AdminSocket(directory, roles or ("dc",), reload)
    await served.start()
    try:
        yield reloads
    finally:
        await served.stop()
