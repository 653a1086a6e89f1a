"""What the machine wants to know is found out in the background, and always answered."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from ntmobile.agent.surveyor import Surveyor
from ntmobile.proto.node.events import NatWanted, NewestPortWanted, RoundTripsWanted
from ntmobile.proto.node.finding import INDEPENDENT, Finding, Point
from ntmobile.proto.node.round_trips import Measured
from ntmobile.runtime.tasks import Tasks
from ntmobile.wire.endpoint import Endpoint, Host

HERE, SERVER = Endpoint("192.168.1.2", 40000), Endpoint("192.0.2.1", 4330)
OTHER = Endpoint("192.0.2.2", 4330)
FOUND = Finding(4, (), SERVER, True)
GLIMPSE = Finding(4, (), SERVER, True, frozenset({INDEPENDENT}))


class Network:
    """Stands for the servers and the sockets: the machines on them have tests of their own."""

    def __init__(self, error: OSError | None = None) -> None:
        self.error = error
        self.glimpse: Finding | None = None
        self.asked: list[Endpoint] = []
        self.held = asyncio.Event()
        self.held.set()

    async def discover(
        self,
        points: Sequence[Point],
        own: frozenset[Host],
        glimpsed: Callable[[Finding], None] = lambda _: None,
    ) -> Finding:
        assert own == {HERE.host}
        self.asked += [point.endpoint for point in points]
        if self.glimpse is not None:
            glimpsed(self.glimpse)
        await self.held.wait()
        if self.error is not None:
            raise self.error
        return FOUND

    async def find_newest_port(self, server: Endpoint) -> int:
        self.asked.append(server)
        if self.error is not None:
            raise self.error
        return 5000

    async def find_round_trips(self, servers: Sequence[Endpoint]) -> Measured:
        self.asked += servers
        await self.held.wait()
        if self.error is not None:
            raise self.error
        return dict.fromkeys(servers, 7)


Wanted = NatWanted | NewestPortWanted | RoundTripsWanted
Told = Finding | int | tuple[int, Measured] | None


async def answers(
    network: Network, *wanted: Wanted, then: Callable[[], None] = lambda: None
) -> list[Told]:
    told: list[Told] = []

    def timed(number: int, measured: Measured) -> None:
        told.append((number, measured))

    async with Tasks() as tasks:
        own = frozenset({HERE.host, Endpoint("2001:db8::1", 1).host})
        surveyor = Surveyor(network, lambda: own, told.append, told.append, timed, tasks)
        for each in wanted:
            surveyor.handle(each)
            await asyncio.sleep(0)
        then()
        for _ in range(10):
            await asyncio.sleep(0)
    return told


async def test_both_questions_are_answered() -> None:
    network = Network()

    assert await answers(network, NatWanted((SERVER,)), NewestPortWanted(SERVER)) == [FOUND, 5000]
    assert network.asked == [SERVER, SERVER]


async def test_what_may_be_gone_by_meanwhile_is_told_before_the_end() -> None:
    network = Network()
    network.glimpse = GLIMPSE

    assert await answers(network, NatWanted((SERVER,))) == [GLIMPSE, FOUND]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (NatWanted((SERVER,)), None),
        (NewestPortWanted(SERVER), 0),
        (RoundTripsWanted(3, (SERVER,)), (3, {})),
    ],
)
async def test_what_the_system_refuses_is_answered_too(wanted: Wanted, told: Told) -> None:
    assert await answers(Network(OSError("no buffer")), wanted) == [told]


async def test_a_network_that_was_left_is_not_examined_to_the_end() -> None:
    network = Network()
    network.held.clear()

    told = await answers(network, NatWanted((SERVER,)), NatWanted((OTHER,)), then=network.held.set)

    assert told == [FOUND]
    assert network.asked == [SERVER, OTHER]


async def test_round_trips_are_told_with_the_number_that_asked_and_only_those_of_the_last() -> None:
    network = Network()
    network.held.clear()
    wanted = RoundTripsWanted(1, (SERVER,)), RoundTripsWanted(2, (SERVER, OTHER))

    told = await answers(network, *wanted, then=network.held.set)

    assert told == [(2, {SERVER: 7, OTHER: 7})]
