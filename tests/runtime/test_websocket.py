"""Datagrams through a real WebSocket over real TLS. Ours: docs/protocol.md section 3."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import hypothesis.strategies as st
import pytest
from hypothesis import given
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from ntmobile.runtime import websocket_server
from ntmobile.runtime.https import (
    DIRECTLY,
    AnswerWrong,
    Authority,
    CertificateWrong,
    Place,
    Trust,
    Unreachable,
)
from ntmobile.runtime.listener import Listener
from ntmobile.runtime.websocket import MOST_BYTES, MOST_SEGMENTS, Carrier, loopback_socket, runs
from ntmobile.runtime.websocket_client import open_websocket
from ntmobile.runtime.websocket_server import Doors
from ntmobile.wire.endpoint import WEB_HOST, Endpoint
from ntmobile.wire.stun import BindingRequest

LOCAL = Endpoint("127.0.0.1", 0)
NAME = "dc.ntm.example.org"
PATH = "/ntm/v1/datagrams/dc"
GUARD_S = 60
CAPSULE = b"\x04"


class Files(Protocol):
    @property
    def certificate(self) -> Path: ...
    @property
    def key(self) -> Path: ...
    @property
    def authority(self) -> str: ...


@contextmanager
def udp_port() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.setblocking(False)
        made.bind(("127.0.0.1", 0))
        yield made


def place_of(udp: socket.socket) -> Endpoint:
    return Endpoint(*udp.getsockname())


async def hear(udp: socket.socket) -> tuple[bytes, tuple[str, int]]:
    async with asyncio.timeout(GUARD_S):
        return await asyncio.get_running_loop().sock_recvfrom(udp, 65535)


@dataclass
class Way:
    """A server with a role's UDP port behind it, and a node with its engine's port."""

    role: socket.socket
    engine: socket.socket
    doors: Doors
    place: Place
    trust: Trust
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self, path: str = PATH) -> tuple[Carrier, Endpoint]:
        """Return the node's end, and where the engine finds it."""
        here = loopback_socket("127.0.0.1", place_of(self.engine))
        there = Endpoint(*here.getsockname())
        carrier = await open_websocket(
            self.place, self.trust, path, here, way=DIRECTLY, ended=self.ended.set
        )
        return carrier, there

    def send(self, data: bytes, to: Endpoint) -> None:
        self.engine.sendto(data, (str(to.host), to.port))


@pytest.fixture
async def way(files: Files) -> AsyncIterator[Way]:
    doors = Doors()
    application = Starlette(routes=[Route(PATH, lambda _: PlainTextResponse("no WebSocket"))])
    listener = Listener(application, files.certificate, files.key, doors)
    [endpoint] = await listener.listen([LOCAL])
    with udp_port() as role, udp_port() as engine:
        doors.lead(PATH, place_of(role))
        yield Way(role, engine, doors, Place(NAME, (endpoint,)), Authority(files.authority))
        await listener.close()


async def test_a_datagram_goes_through_and_its_answer_comes_back(way: Way) -> None:
    carrier, there = await way.open()

    way.send(b"\x05question", there)
    data, source = await hear(way.role)
    way.role.sendto(b"\x05answer", source)
    answer, came_from = await hear(way.engine)

    assert (data, answer) == (b"\x05question", b"\x05answer")
    assert Endpoint(*came_from) == there
    assert Endpoint(*source).is_web
    carrier.close()
    await way.ended.wait()


async def test_each_node_has_a_source_of_its_own(way: Way) -> None:
    opened = [await way.open() for _ in range(2)]

    sources = set()
    for _, there in opened:
        way.send(CAPSULE, there)
        sources.add((await hear(way.role))[1])

    assert len(sources) == 2
    assert {host for host, _ in sources} == {str(WEB_HOST)}
    for carrier, _ in opened:
        carrier.close()


async def test_many_datagrams_of_several_lengths_keep_their_bounds_and_their_order(
    way: Way,
) -> None:
    carrier, there = await way.open()
    sent = [CAPSULE + bytes([number]) * (1400 if number % 7 else 90) for number in range(100)]

    for datagram in sent:
        way.send(datagram, there)
    heard = [(await hear(way.role))[0] for _ in sent]

    assert heard == sent
    carrier.close()


async def test_stun_is_not_let_in(way: Way) -> None:
    carrier, there = await way.open()

    way.send(BindingRequest(bytes(12)).encode(), there)
    way.send(b"\x05after it", there)

    assert (await hear(way.role))[0] == b"\x05after it"
    carrier.close()


async def test_a_server_that_closes_is_noticed(way: Way) -> None:
    await way.open()

    way.doors.close()

    async with asyncio.timeout(GUARD_S):
        await way.ended.wait()
    assert len(way.doors) == 0


async def test_a_path_of_no_role_takes_no_websocket(way: Way) -> None:
    with pytest.raises(AnswerWrong, match="takes no WebSocket"):
        await way.open("/ntm/v1/datagrams/rs")

    assert not way.ended.is_set()


async def test_one_source_opens_only_so_many(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_server, "MAX_PER_SOURCE", 2)
    held = [await way.open() for _ in range(2)]

    with pytest.raises((Unreachable, AnswerWrong)):
        await way.open()

    assert way.doors.counters["refused"] == 1
    held[0][0].close()
    async with asyncio.timeout(GUARD_S):
        while len(way.doors) == 2:  # noqa: ASYNC110 - a number has no event
            await asyncio.sleep(0)
    held.append(await way.open())
    for carrier, _ in held:
        carrier.close()


async def test_nothing_is_asked_of_a_server_with_a_wrong_certificate(
    way: Way, other_files: Files
) -> None:
    way.trust = Authority(other_files.authority)

    with pytest.raises(CertificateWrong):
        await way.open()

    assert not way.doors.counters["opened"]


async def test_a_text_message_is_refused_and_what_follows_is_not(way: Way) -> None:
    carrier, there = await way.open()

    carrier.protocol.send_text(b"hello")
    way.send(b"\x05after it", there)

    assert (await hear(way.role))[0] == b"\x05after it"
    carrier.close()


@given(st.lists(st.integers(1, 9000), max_size=300))
def test_runs_are_what_one_send_may_carry(lengths: list[int]) -> None:
    datagrams = [bytes(length) for length in lengths]

    grouped = list(runs(datagrams))

    assert [datagram for run in grouped for datagram in run] == datagrams
    for run in grouped:
        assert len(run) <= MOST_SEGMENTS
        assert len(run) == 1 or sum(map(len, run)) <= MOST_BYTES
        assert {len(datagram) for datagram in run[:-1]} <= {len(run[0])}
        assert len(run[-1]) <= len(run[0])
