"""The node's end of a WebSocket that carries datagrams to a DC or an RS.

The server's certificate is judged before anything is asked, as for a login.
Ours: docs/protocol.md section 3.
"""

import asyncio
import socket
from collections.abc import Callable

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.uri import parse_uri

from ntmobile.runtime.https import AnswerWrong, Place, Trust, Unreachable, Way, connect
from ntmobile.runtime.websocket import Carrier
from ntmobile.wire.web import MAX_MESSAGE

HANDSHAKE_S = 10.0


async def open_websocket(
    place: Place,
    trust: Trust,
    path: str,
    udp: socket.socket,
    *,
    way: Way,
    ended: Callable[[], None],
) -> Carrier:
    """Return a WebSocket that stands and carries what udp gets; raises HttpsError.

    Owns udp from now; ended is called when a WebSocket that stood is no more.
    """

    def over() -> None:
        stood = carrier.opened.done() and not carrier.opened.cancelled()
        if stood and carrier.opened.exception() is None:
            ended()

    try:
        async with connect(place, trust, way=way) as connection:
            client = ClientProtocol(parse_uri(f"wss://{place.name}{path}"), max_size=MAX_MESSAGE)
            client.send_request(client.connect())
            carrier = Carrier(client, udp, ended=lambda: over(), pings=True)
            carrier.holds = connection
            transport = connection.hand_over()
    except BaseException:
        udp.close()
        raise
    transport.set_protocol(carrier)
    carrier.connection_made(transport)
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            await carrier.opened
    except InvalidHandshake as error:
        carrier.abort()
        raise AnswerWrong(f"{place.name} takes no WebSocket: {error}") from None
    except (TimeoutError, OSError) as error:
        carrier.abort()
        raise Unreachable(f"{place.name} does not answer in a WebSocket: {error}") from None
    except BaseException:
        carrier.abort()
        raise
    return carrier
