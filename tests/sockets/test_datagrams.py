import asyncio
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

import pytest
from tests.stacks import ALICE, BOB

from ntmobile.sockets.datagrams import Datagrams
from ntmobile.wire.endpoint import Endpoint, Host

if TYPE_CHECKING:
    from conftest import End

Ends = tuple["End", "End"]


class Taker(asyncio.DatagramProtocol):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.got = asyncio.Queue[tuple[bytes, tuple[str, int]]]()
        self.errors = asyncio.Queue[Exception]()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.got.put_nowait((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.put_nowait(exc)


def bind(end: "End", *, port: int = 0, remote: Endpoint | None = None) -> tuple[Datagrams, Taker]:
    def own(version: int) -> Host:
        return IPv4Address("100.64.0.9") if version == 4 else IPv6Address("fd00::9")

    taker = Taker()
    made = Datagrams(end.events, taker, port=port, own=own, remote=remote, fqdn=None)
    made.begin()
    return made, taker


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
async def test_datagrams_go_there_and_back(ends: Ends, family: int) -> None:
    alice, bob = ends
    there, far = bind(bob)
    here, near = bind(alice, remote=Endpoint.of(BOB[family], there.port))
    here.sendto(b"ping")

    data, source = await far.got.get()
    assert (data, source) == (b"ping", (str(ip_address(ALICE[family])), here.port))
    there.sendto(b"pong", source)
    assert await near.got.get() == (b"pong", (str(ip_address(BOB[family])), there.port))


async def test_with_a_remote_nobody_else_is_heard(ends: Ends) -> None:
    alice, bob = ends
    wanted, _ = bind(bob)
    other, _ = bind(bob)
    here, near = bind(alice, remote=Endpoint.of(BOB[0], wanted.port))
    there = (str(ip_address(ALICE[0])), here.port)
    other.sendto(b"unasked", there)
    wanted.sendto(b"asked", there)

    assert (await near.got.get())[0] == b"asked"


async def test_a_port_without_a_reader_is_an_error(ends: Ends) -> None:
    alice, _ = ends
    here, near = bind(alice, remote=Endpoint.of(BOB[0], 9))
    here.sendto(b"anybody?")

    assert isinstance(await near.errors.get(), ConnectionRefusedError)


async def test_a_datagram_too_large_is_an_error(ends: Ends) -> None:
    alice, _ = ends
    here, near = bind(alice, remote=Endpoint.of(BOB[0], 9))
    here.sendto(bytes(65_508))

    assert "too long" in str(await near.errors.get())


async def test_a_closed_port_is_free_again(ends: Ends) -> None:
    alice, _ = ends
    here, _ = bind(alice)
    with pytest.raises(OSError, match="in use"):
        bind(alice, port=here.port)

    here.close()

    assert bind(alice, port=here.port)[0].port == here.port
    assert here.is_closing()
