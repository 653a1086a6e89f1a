import asyncio
import os
import resource
import socket
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ntmobile.agent.client import AgentGone, AgentNotRunning, Client
from ntmobile.agent.control import MAX_CONNECTIONS, ControlSocket, Operations, peer_user
from ntmobile.agent.requests import (
    Answer,
    AnyRequest,
    AskKeys,
    AskPeers,
    AskStatus,
    Item,
    Ping,
    Said,
    Whois,
    done,
    encode_line,
    item,
)
from ntmobile.agent.views import WhoisView
from ntmobile.errors import Remedy

BOB = WhoisView(address="100.64.0.3", fqdn="pc.bob.ntm.example.net", peer_key=None)


class Agent:
    """Answers like an agent would, and knows what is still being asked."""

    def __init__(self) -> None:
        self.pinging = 0
        self.ended = asyncio.Event()

    async def operations(self, request: AnyRequest) -> AsyncGenerator[Answer, None]:
        match request:
            case Whois():
                yield Said("looking")
                yield done(BOB)
            case Ping():
                self.pinging += 1
                try:
                    for number in range(1_000_000):
                        yield item(number)
                        await asyncio.sleep(0)
                finally:
                    self.ended.set()
            case AskKeys():
                raise Remedy("there are no keys", remedy="ntm up")
            case AskPeers():
                raise ZeroDivisionError
            case _:
                return


@asynccontextmanager
async def serving(
    directory: Path, operations: Operations, operator: int | None = None
) -> AsyncGenerator[ControlSocket, None]:
    control = ControlSocket(directory, operations)
    control.start(operator)
    try:
        yield control
    finally:
        await control.stop()


async def test_an_answer_comes_with_what_was_said_meanwhile(tmp_path: Path) -> None:
    said: list[str] = []
    async with serving(tmp_path, Agent().operations):
        view = await asyncio.to_thread(
            Client(tmp_path).ask, Whois("100.64.0.3"), WhoisView, said=said.append
        )

    assert view == BOB
    assert said == ["looking"]


async def test_a_remedy_reaches_the_person_whole(tmp_path: Path) -> None:
    async with serving(tmp_path, Agent().operations):
        with pytest.raises(Remedy, match="there are no keys") as raised:
            await asyncio.to_thread(Client(tmp_path).ask, AskKeys(), dict)

    assert raised.value.remedy == "ntm up"


async def test_a_bug_in_the_agent_is_told_without_its_inside(tmp_path: Path) -> None:
    async with serving(tmp_path, Agent().operations):
        with pytest.raises(Remedy, match="failed to answer") as raised:
            await asyncio.to_thread(Client(tmp_path).ask, AskPeers(), dict)

    assert "ZeroDivision" not in str(raised.value)


async def test_an_answer_without_an_end_is_an_agent_that_went(tmp_path: Path) -> None:
    async with serving(tmp_path, Agent().operations):
        with pytest.raises(AgentGone):
            await asyncio.to_thread(Client(tmp_path).ask, AskStatus(), dict)


async def test_what_was_asked_ends_when_the_client_goes(tmp_path: Path) -> None:
    agent = Agent()

    def three() -> list[int]:
        answers = Client(tmp_path).stream(Ping("pc.bob.ntm.example.net"))
        numbers = [
            int(bytes(answer.value))
            for answer, _ in zip(answers, "abc", strict=False)
            if isinstance(answer, Item)
        ]
        answers.close()
        return numbers

    async with serving(tmp_path, agent.operations):
        assert await asyncio.to_thread(three) == [0, 1, 2]
        await asyncio.wait_for(agent.ended.wait(), 60)


async def test_stopping_ends_what_is_being_answered_and_removes_the_socket(tmp_path: Path) -> None:
    agent = Agent()
    async with serving(tmp_path, agent.operations):
        reader, writer = await connect(tmp_path)
        writer.write(b'{"do":"ping","fqdn":"pc"}\n')
        await reader.readline()

    assert agent.ended.is_set()
    assert not (tmp_path / "control.sock").exists()
    writer.close()


@pytest.mark.parametrize(
    "line", [b"\n", b"{}\n", b'{"do":"fly"}\n', b'{"do":"status","x":1}\n', b"\xff\n", b"half"]
)
async def test_a_line_that_is_no_request_is_answered_not_raised(
    tmp_path: Path, line: bytes
) -> None:
    async with serving(tmp_path, Agent().operations):
        reader, writer = await connect(tmp_path)
        writer.write(line)
        writer.write_eof()
        answer = await reader.read()
        writer.close()

    assert b'"is":"trouble"' in answer
    assert b"not a request" in answer


async def test_without_an_agent_the_client_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(AgentNotRunning) as raised:
        Client(tmp_path).ask(AskStatus(), dict)

    assert "ntm up" in raised.value.remedy


async def test_a_leftover_socket_of_a_crash_is_no_agent_and_no_obstacle(tmp_path: Path) -> None:
    leftover = socket.socket(socket.AF_UNIX)
    leftover.bind(str(tmp_path / "control.sock"))
    leftover.close()
    assert not Client(tmp_path).is_running()

    async with serving(tmp_path, Agent().operations):
        assert await asyncio.to_thread(Client(tmp_path).is_running)


async def test_a_directory_too_deep_for_a_socket_name_works_too(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)

    async with serving(deep, Agent().operations):
        view = await asyncio.to_thread(Client(deep).ask, Whois("100.64.0.3"), WhoisView)

    assert view == BOB


async def test_the_socket_is_its_owners_alone_until_an_operator_is_let_in(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with serving(tmp_path, Agent().operations) as control:
        assert mode(path) == 0o600
        control.admit(4711)
        assert (mode(path), mode(tmp_path)) == (0o666, 0o711)
        control.admit(None)
        assert (mode(path), mode(tmp_path)) == (0o600, 0o700)


async def test_more_connections_than_are_served_are_told_so(tmp_path: Path) -> None:
    async with serving(tmp_path, Agent().operations):
        idle = [await connect(tmp_path) for _ in range(MAX_CONNECTIONS)]
        with pytest.raises(Remedy, match="too many"):
            await asyncio.to_thread(Client(tmp_path).ask, Whois("100.64.0.3"), WhoisView)
        for _, writer in idle:
            writer.close()


async def test_an_answer_of_any_length_arrives_whole(tmp_path: Path) -> None:
    view = WhoisView(address="100.64.0.3", fqdn="x" * (2 << 20), peer_key=None)

    async def operations(_: AnyRequest) -> AsyncGenerator[Answer, None]:
        yield done(view)

    async with serving(tmp_path, operations):
        assert await asyncio.to_thread(Client(tmp_path).ask, AskStatus(), WhoisView) == view


async def test_without_descriptors_a_connection_waits_and_nothing_spins(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(tmp_path, Agent().operations):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, capture_logs() as logs:
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free_descriptor(), hard))
            try:
                client.connect(str(tmp_path / "control.sock"))
                for _ in range(50):
                    await asyncio.sleep(0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, encode_line(AskKeys()))

            assert b"there are no keys" in await loop.sock_recv(client, 4096)
    assert len(logs) == 1


def lowest_free_descriptor() -> int:
    number = os.dup(0)
    os.close(number)
    return number


def test_the_kernel_names_the_user_at_the_other_end() -> None:
    here, there = socket.socketpair()
    with here, there:
        assert peer_user(here) == os.geteuid()


@pytest.fixture
def for_anybody() -> Iterator[Path]:
    """A directory that other users get through; into tmp_path only its owner does."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o711)
        yield Path(made)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize(("operator", "allowed"), [(4711, True), (4712, False)])
async def test_only_the_operator_is_let_in_beside_root(
    for_anybody: Path, operator: int, allowed: bool
) -> None:
    async with serving(for_anybody, Agent().operations, operator):
        status = await as_user(4711, for_anybody)

    assert status == (0 if allowed else 1)


async def as_user(uid: int, directory: Path) -> int:
    """Ask as that user, in a process of its own; 0 when answered."""
    child = os.fork()
    if child == 0:
        try:
            os.setresuid(uid, uid, uid)
            Client(directory).ask(Whois("100.64.0.3"), WhoisView)
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    return os.waitstatus_to_exitcode(status)


async def connect(directory: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(str(directory / "control.sock"))


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777
