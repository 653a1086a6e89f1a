"""STUN clients that others wrote understand our answers, over real sockets."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from random import SystemRandom

from aioice import stun

from ntmobile import _core
from ntmobile.proto.relay.relay import RelayRole
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.driver import Driver
from ntmobile.runtime.tasks import Tasks
from ntmobile.servers.signalling import Signalling
from ntmobile.wire.stun import CHANGE_REQUEST, BindingRequest, BindingResponse

LOOPBACK = "127.0.0.1"
GUARD_S = 60.0


async def test_an_independent_client_reads_its_address() -> None:
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    with server() as (port, _), client() as here:
        answer = stun.parse_message(await asked(here, bytes(request), port))

        assert answer.transaction_id == request.transaction_id
        assert answer.message_class is stun.Class.RESPONSE
        assert answer.attributes == {"XOR-MAPPED-ADDRESS": here.getsockname()}


async def test_an_independent_client_reads_why_it_is_refused() -> None:
    data = BindingRequest(bytes(12)).encode() + b"\x00\x03\x00\x04\x00\x00\x00\x04"
    with server() as (port, _), client() as here:
        refusal = await asked(here, data[:2] + b"\x00\x08" + data[4:], port)
        answer = stun.parse_message(refusal)

        assert answer.message_class is stun.Class.ERROR
        assert answer.attributes["ERROR-CODE"][0] == 420
        assert refusal[-4:-2] == CHANGE_REQUEST.to_bytes(2)


async def test_an_answer_comes_from_the_other_port_to_the_other_socket_when_asked() -> None:
    loop = asyncio.get_running_loop()
    with server() as (port, other), client() as here, client() as there:
        question = BindingRequest(bytes(12), response_port=there.getsockname()[1])
        for request, source in (
            (question, port),
            (BindingRequest(bytes(12), True, True, question.response_port), other),
        ):
            await loop.sock_sendto(here, request.encode(), (LOOPBACK, port))
            async with asyncio.timeout(GUARD_S):
                data, came_from = await loop.sock_recvfrom(there, 2048)

            assert came_from == (LOOPBACK, source)
            assert BindingResponse.decode(data).mapped.port == here.getsockname()[1]


async def test_the_other_port_answers_stun_and_tells_of_no_further_one() -> None:
    request = BindingRequest(bytes(12), asks_other_port=True)
    with server() as (_, other), client() as here:
        answer = BindingResponse.decode(await asked(here, request.encode(), other))

        assert answer.other_port is None


@contextmanager
def server() -> Iterator[tuple[int, int]]:
    """An RS's two ports."""
    port, other = _core.Port(), _core.Port()
    machine = RelayRole("example.org", SystemRandom(), lambda path: None)
    driver = Driver(machine, (), clock=Clock(), tasks=Tasks())
    Signalling(port, other).read(driver, machine.handle_datagram)
    try:
        yield port.port, other.port
    finally:
        driver.close()
        port.close()
        other.close()


@contextmanager
def client() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.setblocking(False)
        made.bind((LOOPBACK, 0))
        yield made


async def asked(here: socket.socket, request: bytes, port: int) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendto(here, request, (LOOPBACK, port))
    async with asyncio.timeout(GUARD_S):
        data, _ = await loop.sock_recvfrom(here, 2048)
    return data
