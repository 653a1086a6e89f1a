import asyncio
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from ntmobile.agent.bell import Bell
from ntmobile.agent.dns_stub_messages import Answer, Refused
from ntmobile.agent.names import MOST_REASONS, NameQueries, Outcome, is_virtual, owner_of
from ntmobile.agent.records import SavedPeer, VirtualAddresses
from ntmobile.proto.node.events import NameRefused, NameResolved
from ntmobile.wire.registration import Reason

PC = "pc.bob.ntm.example.net"
IPV4, IPV6 = IPv4Address("100.64.0.3"), IPv6Address("fd00:1::3")
OWN = VirtualAddresses(IPv4Address("100.64.0.2"), IPv6Address("fd00::2"))
PEERS = {PC: SavedPeer(bytes(32), IPV4, IPV6, 0)}


class Machine:
    """Numbers queries like the node's machine; may answer within the very call."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.at_once: Outcome | None = None
        self.queries = NameQueries(self.ask)

    def ask(self, fqdn: str) -> int:
        self.asked.append(fqdn)
        if self.at_once is not None:
            self.queries.settle(self.at_once)
        return len(self.asked)


async def test_a_query_waits_for_its_own_answer() -> None:
    machine = Machine()
    first = asyncio.create_task(machine.queries.answer(PC))  # noqa: TID251
    second = asyncio.create_task(machine.queries.answer("x.y.z"))  # noqa: TID251
    await asyncio.sleep(0)

    machine.queries.settle(NameRefused(2, "x.y.z", Reason.NOT_ALLOWED))
    machine.queries.settle(NameResolved(1, PC, IPV4, IPV6))

    assert await first == Answer(IPV4, IPV6)
    assert await second == Refused()
    assert machine.queries.reasons == {"x.y.z": Reason.NOT_ALLOWED}


async def test_an_answer_from_within_the_call_is_not_lost() -> None:
    machine = Machine()
    machine.at_once = NameResolved(1, PC, IPV4, IPV6)

    assert await machine.queries.resolve(PC) == machine.at_once


async def test_an_answer_nobody_waits_for_any_more_is_dropped() -> None:
    machine = Machine()
    task = asyncio.create_task(machine.queries.resolve(PC))  # noqa: TID251
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    machine.queries.settle(NameResolved(1, PC, IPV4, IPV6))
    machine.at_once = NameResolved(2, PC, IPV4, IPV6)

    assert await machine.queries.resolve(PC) == machine.at_once


async def test_a_name_that_resolves_again_has_no_reason_any_more() -> None:
    queries = Machine().queries
    queries.settle(NameRefused(1, PC, Reason.NOT_REGISTERED))
    queries.settle(NameResolved(2, PC, IPV4, IPV6))

    assert queries.reasons == {}


async def test_reasons_are_bounded() -> None:
    queries = Machine().queries
    for number in range(MOST_REASONS + 5):
        queries.settle(NameRefused(number, f"n{number}.bob.ntm.example.net", Reason.REVOKED))

    assert len(queries.reasons) == MOST_REASONS


@pytest.mark.parametrize(
    ("address", "owner"),
    [("100.64.0.2", "me"), ("fd00::2", "me"), ("100.64.0.3", PC), ("192.0.2.1", None)],
)
def test_a_virtual_address_has_an_owner(address: str, owner: str | None) -> None:
    assert owner_of(ip_address(address), "me", OWN, PEERS) == owner


@pytest.mark.parametrize(
    ("address", "virtual"),
    [("100.64.9.9", True), ("192.0.2.1", False), ("fd00::77", True), ("2001:db8::1", False)],
)
def test_only_virtual_addresses_count_as_virtual(address: str, virtual: bool) -> None:
    assert is_virtual(ip_address(address), OWN) is virtual


async def test_a_waiter_looks_again_at_every_ring() -> None:
    bell, looked = Bell(), []

    def condition() -> bool:
        looked.append(len(looked))
        return len(looked) == 3

    waiting = asyncio.create_task(bell.until(condition))  # noqa: TID251
    for _ in range(2):
        await asyncio.sleep(0)
        bell.ring()
    await waiting

    assert looked == [0, 1, 2]


def test_where_this_node_stepped_aside_a_shared_address_may_be_a_providers() -> None:
    aside = VirtualAddresses(IPv4Address("198.19.0.0"), OWN.ipv6)

    assert not is_virtual(IPv4Address("100.64.9.9"), aside)
    assert is_virtual(OWN.ipv6, aside)
