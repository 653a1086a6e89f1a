import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import msgspec
import pytest
from typer.testing import CliRunner, Result

from ntmobile.cli.main import application
from ntmobile.cli.trace import chart, read_witnesses
from ntmobile.errors import Remedy
from ntmobile.proto.testimony import Seen, Witness
from ntmobile.servers.admin_socket import AdminSocket

MN, CN = "laptop.alice.example.org", "pc.bob.example.net"
TALK = "ab" * 16


def seen(ms: int, message: str, here: str, there: str, *names: str, sent: bool = False) -> Seen:
    at = f"2026-01-01T00:00:00.{ms:03}000Z"
    return Seen(at, message, here, there, sent, TALK if names else "", names)


AT_DC = (
    seen(1, "Direction Request", "DC", MN, CN),
    seen(2, "Node Information Request", "DC", "DCcn", CN, MN, sent=True),
    seen(5, "Node Information Response", "DC", "DCcn", CN),
    seen(6, "Route Direction", "DC", MN, MN, CN, sent=True),
)
AT_MN = (
    seen(0, "Direction Request", MN, "DC", CN, sent=True),
    seen(7, "Route Direction", MN, "DC", MN, CN),
)


def test_what_a_servers_processes_saw_of_two_nodes_is_drawn(tmp_path: Path) -> None:
    with serving(tmp_path, AT_DC):
        done = admin(tmp_path, "trace", MN, CN)

    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == f"MN {MN}, CN {CN}"
    assert lines[1].split() == ["MN", "DCmn", "DCcn"]


def test_what_is_told_as_json_is_taken_back_with_another_witness(tmp_path: Path) -> None:
    with serving(tmp_path, AT_DC):
        told = admin(tmp_path, "trace", MN, CN, "--json").stdout
    (tmp_path / "dc.json").write_text(told)

    lines = chart([Witness(AT_MN, own=MN), *read_witnesses([tmp_path / "dc.json"])])

    messages = [line for line in lines if "Direct" in line]
    assert len(messages) == 2, "each once, though two saw it"


def test_of_what_the_servers_did_not_see_they_say_so(tmp_path: Path) -> None:
    with serving(tmp_path, AT_DC):
        done = admin(tmp_path, "trace", "phone.alice", CN)

    assert done.exit_code == 1
    assert f"no tunnel of phone.alice.example.org and {CN}" in done.stderr


def test_where_no_server_runs_this_is_said(tmp_path: Path) -> None:
    done = admin(tmp_path, "trace", MN)

    assert done.exit_code == 1
    assert "ntm serve" in done.stderr


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"steps":[{"at":1}]}'])
def test_a_file_that_is_no_trace_is_refused_with_the_way_to_make_one(
    text: str, tmp_path: Path
) -> None:
    (tmp_path / "dc.json").write_text(text)

    with pytest.raises(Remedy) as refused:
        read_witnesses([tmp_path / "dc.json"])

    assert "trace --json" in refused.value.remedy


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Remedy, match=r"none\.json"):
        read_witnesses([tmp_path / "none.json"])


def test_a_lost_message_ends_in_a_cross() -> None:
    deaf = [Witness(AT_MN[:1], own=MN), Witness(AT_DC[1:], domain="example.org")]

    lines = chart(deaf)

    arrow = next(n for n, line in enumerate(lines) if "Direction Request" in line) + 1
    assert lines[arrow].endswith("x|") or "x|" in lines[arrow]


def admin(directory: Path, *words: str) -> Result:
    return CliRunner().invoke(application("admin"), ["admin", "--server", str(directory), *words])


@contextmanager
def serving(directory: Path, steps: tuple[Seen, ...]) -> Iterator[None]:
    """A server's admin socket in a thread of its own, as in another process."""
    ready, over = Event(), Event()

    async def serve() -> None:
        async def reload() -> None:
            pass

        told = msgspec.json.encode(Witness(steps, domain="example.org"))
        socket = AdminSocket(directory, ["dc"], reload, lambda: told)
        await socket.start()
        ready.set()
        await asyncio.to_thread(over.wait)
        await socket.stop()

    thread = Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()
