import asyncio

import pytest

from ntmobile.proto.io import Reply
from ntmobile.servers.requests import MAX_WAITING, Overloaded, Requests
from ntmobile.wire.registration import NtmAck


async def test_each_request_gets_its_own_reply() -> None:
    requests = Requests()
    put: list[int] = []

    first = asyncio.gather(requests.ask(put.append), requests.ask(put.append))
    await asyncio.sleep(0)
    requests.answer(Reply(put[1], NtmAck()))
    requests.answer(Reply(put[0], NtmAck()))

    assert await first == [NtmAck(), NtmAck()]
    assert len(requests) == 0


async def test_a_reply_that_nobody_waits_for_is_dropped() -> None:
    requests = Requests()

    requests.answer(Reply(99, NtmAck()))

    assert len(requests) == 0


async def test_a_reply_during_the_call_is_taken() -> None:
    requests = Requests()

    answer = await requests.ask(lambda id: requests.answer(Reply(id, NtmAck())))

    assert answer == NtmAck()


async def test_the_number_that_wait_is_bounded() -> None:
    requests = Requests()
    waiting = [asyncio.ensure_future(requests.ask(int)) for _ in range(MAX_WAITING)]  # noqa: TID251
    await asyncio.sleep(0)

    with pytest.raises(Overloaded):
        await requests.ask(int)

    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert len(requests) == 0
