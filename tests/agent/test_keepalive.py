"""What the choice of keep-alive means, and how `auto` makes it."""

import asyncio

import pytest

from ntmobile.agent.keepalive import Tuner, first_choice
from ntmobile.agent.records import KeepAlive
from ntmobile.proto.node.lifetime import LifetimeFound
from ntmobile.proto.node.reach import fitting
from ntmobile.runtime.tasks import Tasks
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import KeepAliveChoice

DC = (Endpoint("192.0.2.1", 4330),)
Chosen = list[tuple[KeepAliveChoice, int]]


class Network:
    """A network of a known character; what measures a real one is tested in the lab."""

    def __init__(self, alive_s: int) -> None:
        self.alive_s = alive_s
        self.asked: list[Endpoint] = []

    async def find_lifetime(self, server: Endpoint) -> LifetimeFound:
        self.asked.append(server)
        return LifetimeFound(self.alive_s, None)


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
        tuner.handle_network(DC)
        await settle(tasks)
        network.alive_s = 305
        tuner.handle_network(DC)
        await settle(tasks)

    assert chosen == [(KeepAliveChoice.TCP, 16), (KeepAliveChoice.UDP, 244)]
    assert tuner.alive_s == 305


async def test_who_chose_himself_is_not_measured() -> None:
    """The negative twin."""
    chosen: Chosen = []
    async with Tasks() as tasks:
        network = Network(20)
        tuner_in(network, KeepAlive.UDP, chosen, tasks).handle_network(DC)
        await settle(tasks)

    assert (chosen, network.asked) == ([], [])


async def test_a_network_that_is_left_is_measured_no_more() -> None:
    chosen: Chosen = []
    async with Tasks() as tasks:
        tuner = tuner_in(Network(20), KeepAlive.AUTO, chosen, tasks)
        tuner.handle_network(DC)
        tuner.handle_network(())
        await settle(tasks)

    assert chosen == []


def tuner_in(network: Network, choice: KeepAlive, chosen: Chosen, tasks: Tasks) -> Tuner:
    def choose(way: KeepAliveChoice, interval_s: int) -> None:
        chosen.append((way, interval_s))

    return Tuner(choice, network, choose, tasks)


async def settle(tasks: Tasks) -> None:
    """Let every task end: none waits for anything but its turn."""
    for _ in range(10):
        await asyncio.sleep(0)
    assert not len(tasks)
