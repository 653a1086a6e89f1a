"""Opening a TCP connection to a virtual address."""

import asyncio
import errno

from ntmobile.sockets.errors import system_error
from ntmobile.sockets.events import CLOSED, ENDED, Events
from ntmobile.sockets.stream import Stream
from ntmobile.wire.endpoint import Endpoint


async def connect(
    events: Events, remote: Endpoint, protocol: asyncio.BaseProtocol, *, fqdn: str | None
) -> Stream:
    """Return a stream whose protocol has heard of it; raises OSError when none comes."""
    number, local = await begin(events, remote)
    stream = Stream(events, number, protocol, local=local, remote=remote, fqdn=fqdn)
    stream.begin()
    return stream


async def begin(events: Events, remote: Endpoint) -> tuple[int, Endpoint]:
    """Return the number and own address of a connection that stands; raises OSError."""
    number, local = events.stack.connect(remote.host.packed, remote.port)
    await _stand(events, number)
    return number, Endpoint.of(*local)


async def _stand(events: Events, number: int) -> None:
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def handle(what: int) -> None:
        if not told.done():
            told.set_result(what)

    events.subscribe(number, handle)
    try:
        what = await told
    except BaseException:
        events.forget(number)
        events.stack.abort(number)
        raise
    if what & (ENDED | CLOSED):
        failure = events.stack.failure(number)
        events.forget(number)
        events.stack.leave(number)
        raise system_error(failure or errno.ECONNRESET)
