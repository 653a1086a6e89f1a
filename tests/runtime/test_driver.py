import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from ntmobile._core import Port
from ntmobile.proto.io import Failed, Timeout, Transmit
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.driver import MAX_REQUESTS, Driver, Outlet, sender
from ntmobile.runtime.tasks import Tasks
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import Reason

LOOPBACK = bytes([127, 0, 0, 1])


@dataclass(frozen=True)
class Question:
    id: int


class Echo:
    """A small machine: answers datagrams, asks questions, counts its timer."""

    def __init__(self) -> None:
        self.transmits: deque[Transmit] = deque()
        self.requests: deque[Question] = deque()
        self.events: deque[str] = deque()
        self.due: Instant | None = None
        self.replies: list[tuple[int, object]] = []

    def handle_datagram(self, source: Endpoint, data: bytes, now: Instant) -> None:
        if data == b"bug":
            raise AssertionError
        self.transmits.append(Transmit(source, data.upper()))

    def handle_timeout(self, now: Instant) -> None:
        assert self.due is not None
        assert now >= self.due
        self.due = None
        self.events.append("timer")

    def handle_reply(self, id: int, reply: object, now: Instant) -> None:
        self.replies.append((id, reply))
        self.events.append("reply")

    def ask(self, count: int, now: Instant) -> str:
        self.requests.extend(Question(n) for n in range(count))
        return "asked"

    def poll_timeout(self) -> Timeout | None:
        return None if self.due is None else Timeout(self.due, "test")

    def poll_transmit(self) -> Transmit | None:
        return self.transmits.popleft() if self.transmits else None

    def poll_request(self) -> Question | None:
        return self.requests.popleft() if self.requests else None

    def poll_event(self) -> str | None:
        return self.events.popleft() if self.events else None


class Rig:
    """The machine under its driver on a real port, with a queue of its events."""

    def __init__(self, port: Port, tasks: Tasks) -> None:
        self.machine = Echo()
        self.events: asyncio.Queue[str] = asyncio.Queue()
        self.answers: dict[int, object] = {}
        self.sent: Counter[str] = Counter()
        self.driver = Driver(
            self.machine,
            (
                Outlet(self.machine.poll_transmit, sender(port, self.sent)),
                Outlet(self.machine.poll_request, self.deliver),
                Outlet(self.machine.poll_event, self.events.put_nowait),
            ),
            clock=Clock(),
            tasks=tasks,
        )
        self._perform = self.driver.perform(self.work, self.machine.handle_reply)
        self.driver.read(port, self.machine.handle_datagram)
        self.driver.start()

    def deliver(self, question: Question) -> None:
        self._perform(question)

    async def work(self, question: Question) -> object:
        if question.id not in self.answers:
            await asyncio.Event().wait()
        answer = self.answers[question.id]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def rig(port: Port) -> AsyncIterator[Rig]:
    async with Tasks() as tasks:
        rig = Rig(port, tasks)
        yield rig
        rig.driver.close()


async def receive(peer: Port) -> bytes:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(peer.fileno(), readable.set)
    try:
        async with asyncio.timeout(60):
            await readable.wait()
    finally:
        loop.remove_reader(peer.fileno())
    return peer.drain()[0].payload


async def test_a_datagram_goes_in_and_its_answer_out(rig: Rig, port: Port, peer: Port) -> None:
    peer.send(LOOPBACK, port.port, b"hello")

    assert await receive(peer) == b"HELLO"
    assert rig.sent == {"sent": 1}


async def test_a_datagram_that_breaks_the_machine_costs_only_itself(
    rig: Rig, port: Port, peer: Port
) -> None:
    with capture_logs() as logs:
        peer.send(LOOPBACK, port.port, b"bug")
        peer.send(LOOPBACK, port.port, b"next")
        answer = await receive(peer)

    assert answer == b"NEXT"
    assert rig.driver.counters["bugs"] == 1
    assert logs[0]["log_level"] == "error"


async def test_an_outlet_that_breaks_costs_one_event_and_not_the_service(rig: Rig) -> None:
    delivered: list[str] = []

    def deliver(event: str) -> None:
        if event == "broken":
            raise ZeroDivisionError
        delivered.append(event)

    def fail() -> None:
        raise ZeroDivisionError

    async with Tasks() as tasks:
        outlets = (Outlet(fail, delivered.append), Outlet(rig.machine.poll_event, deliver))
        driver = Driver(rig.machine, outlets, clock=Clock(), tasks=tasks)
        driver.do(lambda _: rig.machine.events.extend(["broken", "whole"]))
        driver.close()

    assert delivered == ["whole"]
    assert driver.counters["bugs"] == 3


async def test_the_timer_wakes_the_machine_when_it_asked(rig: Rig) -> None:
    def set_due(now: Instant) -> None:
        rig.machine.due = Instant(now + SECOND // 100)

    rig.driver.do(set_due)

    assert await asyncio.wait_for(rig.events.get(), 60) == "timer"


async def test_a_call_returns_what_the_machine_returned(rig: Rig) -> None:
    assert rig.driver.do(lambda now: rig.machine.ask(0, now)) == "asked"


async def test_a_request_is_performed_and_its_reply_comes_back(rig: Rig) -> None:
    rig.answers[0] = "answer"

    rig.driver.do(lambda now: rig.machine.ask(1, now))
    await asyncio.wait_for(rig.events.get(), 60)

    assert rig.machine.replies == [(0, "answer")]


async def test_a_request_whose_work_breaks_is_answered_as_failed(rig: Rig) -> None:
    rig.answers[0] = RuntimeError("no such thing")

    with capture_logs():
        rig.driver.do(lambda now: rig.machine.ask(1, now))
        await asyncio.wait_for(rig.events.get(), 60)

    [(_, reply)] = rig.machine.replies
    assert reply == Failed(Reason.BUSY, "internal error: no such thing")


async def test_more_requests_than_the_bound_are_refused_at_once(rig: Rig) -> None:
    rig.driver.do(lambda now: rig.machine.ask(MAX_REQUESTS + 1, now))
    await asyncio.wait_for(rig.events.get(), 60)

    [(refused, reply)] = rig.machine.replies
    assert refused == MAX_REQUESTS
    assert isinstance(reply, Failed)
    assert reply.reason is Reason.BUSY
