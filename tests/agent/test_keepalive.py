"""What the choice of keep-alive means, and how `auto` makes it."""

import asyncio

import pytest
from msgspec.structs import replace

from ntmobile.agent.keepalive import Tuner, first_choice
from ntmobile.agent.operations import otherwise_reached
from ntmobile.agent.records import KeepAlive, SavedAccount
from ntmobile.errors import Remedy
from ntmobile.proto.node.lifetime import LifetimeFound
from ntmobile.proto.node.reach import fitting
from ntmobile.runtime.tasks import Tasks
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import KeepAliveChoice

DC = (Endpoint("192.0.2.1", 4330),)
HOME, CAFE = "home", "cafe"
Chosen = list[tuple[KeepAliveChoice, int]]


class Network:
    """A network of a known character; what measures a real one is tested in the lab."""

    def __init__(self, alive_s: int) -> None:
        self.alive_s = alive_s
        self.asked: list[Endpoint] = []

    async def find_lifetime(self, server: Endpoint) -> LifetimeFound:
        self.asked.append(server)
        return LifetimeFound(self.alive_s, None)


class Broken(Network):
    """One whose sockets cannot be opened."""

    async def find_lifetime(self, server: Endpoint) -> LifetimeFound:
        raise OSError("too many open files")


@pytest.mark.parametrize(
    ("alive_s", "choice", "interval_s"),
    [
        (0, KeepAliveChoice.TCP, 0),
        (20, KeepAliveChoice.TCP, 16),
        (125, KeepAliveChoice.TCP, 100),
        (185, KeepAliveChoice.UDP, 148),
        (305, KeepAliveChoice.UDP, 244),
        (10_000, KeepAliveChoice.UDP, 300),
    ],
)
def test_a_network_that_forgets_soon_is_for_tcp_and_another_for_rare_udp(
    alive_s: int, choice: KeepAliveChoice, interval_s: int
) -> None:
    assert fitting(alive_s) == (choice, interval_s)


def test_until_it_is_measured_auto_is_udp() -> None:
    assert first_choice(KeepAlive.AUTO) is KeepAliveChoice.UDP
    assert first_choice(KeepAlive.TCP) is KeepAliveChoice.TCP


async def test_auto_measures_each_network_and_chooses() -> None:
    chosen: Chosen = []
    async with Tasks() as tasks:
        network = Network(20)
        tuner = tuner_in(network, KeepAlive.AUTO, chosen, tasks)
        tuner.handle_network(HOME, DC)
        await settle(tasks)
        network.alive_s = 305
        tuner.handle_network(CAFE, DC)
        await settle(tasks)

    assert chosen == [(KeepAliveChoice.TCP, 16), (KeepAliveChoice.UDP, 244)]
    assert tuner.found == LifetimeFound(305, None)


async def test_the_same_network_is_not_measured_again_though_the_dc_sees_another_port() -> None:
    chosen: Chosen = []
    async with Tasks() as tasks:
        network = Network(20)
        tuner = tuner_in(network, KeepAlive.AUTO, chosen, tasks)
        for _ in range(3):
            tuner.handle_network(HOME, DC)
            await settle(tasks)

    assert network.asked == list(DC)
    assert chosen == [(KeepAliveChoice.TCP, 16)]


async def test_who_chooses_auto_again_has_the_network_measured_again() -> None:
    chosen: Chosen = []
    async with Tasks() as tasks:
        network = Network(20)
        tuner = tuner_in(network, KeepAlive.UDP, chosen, tasks)
        tuner.handle_network(HOME, DC)
        tuner.set_choice(KeepAlive.AUTO, DC)
        await settle(tasks)

    assert network.asked == list(DC)


async def test_where_nothing_can_be_measured_udp_stays_and_it_is_said() -> None:
    chosen: Chosen = []
    async with Tasks() as tasks:
        tuner = tuner_in(Broken(20), KeepAlive.AUTO, chosen, tasks)
        tuner.handle_network(HOME, DC)
        await settle(tasks)

    assert (chosen, tuner.found) == ([], LifetimeFound(0, None))


async def test_who_chose_himself_is_not_measured() -> None:
    """The negative twin."""
    chosen: Chosen = []
    async with Tasks() as tasks:
        network = Network(20)
        tuner_in(network, KeepAlive.UDP, chosen, tasks).handle_network(HOME, DC)
        await settle(tasks)

    assert (chosen, network.asked) == ([], [])


async def test_a_network_that_is_left_is_measured_no_more() -> None:
    chosen: Chosen = []
    async with Tasks() as tasks:
        tuner = tuner_in(Network(20), KeepAlive.AUTO, chosen, tasks)
        tuner.handle_network(HOME, DC)
        tuner.handle_network(CAFE, ())
        await settle(tasks)

    assert chosen == []


ACCOUNT = SavedAccount(user="alice", name="phone", domain="ntm.example.org")


def test_ntm_set_changes_the_keep_alive_and_keeps_the_device_token() -> None:
    phone = replace(ACCOUNT, keepalive=KeepAlive.PUSH, device_token="fcm:0123456789abcdef")

    assert otherwise_reached(phone, "tcp") == replace(phone, keepalive=KeepAlive.TCP)
    assert otherwise_reached(otherwise_reached(phone, "udp"), "push") == phone


@pytest.mark.parametrize(
    ("value", "problem", "remedy"),
    [("never", "udp, tcp, push or auto", "keepalive=udp"), ("push", "no device token", "--push")],
)
def test_a_keep_alive_that_cannot_be_says_what_to_do(value: str, problem: str, remedy: str) -> None:
    with pytest.raises(Remedy, match=problem) as refused:
        otherwise_reached(ACCOUNT, value)

    assert remedy in refused.value.remedy


def tuner_in(network: Network, choice: KeepAlive, chosen: Chosen, tasks: Tasks) -> Tuner:
    def choose(way: KeepAliveChoice, interval_s: int) -> None:
        chosen.append((way, interval_s))

    return Tuner(choice, network, choose, tasks)


async def settle(tasks: Tasks) -> None:
    """Let every task end: none waits for anything but its turn."""
    for _ in range(10):
        await asyncio.sleep(0)
    assert not len(tasks)
