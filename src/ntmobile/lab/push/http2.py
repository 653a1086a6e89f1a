"""A small HTTP/2 server over TLS: one handler, whole bodies. Source: RFC 9113."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError, StreamClosedError

from ntmobile.runtime.listener import listening_socket
from ntmobile.runtime.tasks import Tasks
from ntmobile.wire.endpoint import Endpoint

MAX_BODY = 64 * 1024
FRAME = 16_384
"""What every client takes; answers longer than its window of 65,535 bytes are not for this."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """What it gets."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


Handler = Callable[[Request], Awaitable[Response]]


class Http2Server:
    """Serves a handler on one port."""

    def __init__(self, handler: Handler, context: ssl.SSLContext) -> None:
        """The context's certificate is shown; only clients that offer h2 are served."""
        context.set_alpn_protocols(["h2"])
        self._context = context
        self._handler = handler
        self._connections: set[_Connection] = set()
        self._tasks = Tasks()
        self._server: asyncio.Server | None = None
        self.accepted = 0
        """Connections so far."""

    async def listen(self, endpoint: Endpoint) -> Endpoint:
        """Open the port and return it; raises OSError."""
        self._server = await asyncio.get_running_loop().create_server(
            self._accept, sock=listening_socket(endpoint), ssl=self._context
        )
        return Endpoint(endpoint.host, self._server.sockets[0].getsockname()[1])

    def go_away(self) -> None:
        """Close every connection as a service does that is restarted."""
        for connection in list(self._connections):
            connection.go_away()

    async def close(self) -> None:
        """Stop listening and cut what is open."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()
        await self._tasks.close()
        if self._server is not None:
            await self._server.wait_closed()

    def _accept(self) -> "_Connection":
        self.accepted += 1
        return _Connection(self._handler, self._connections, self._tasks)


class _Connection(asyncio.Protocol):
    def __init__(self, handler: Handler, others: "set[_Connection]", tasks: Tasks) -> None:
        self._handler = handler
        self._others = others
        self._tasks = tasks
        self._http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._headers: dict[int, dict[str, str]] = {}
        self._bodies: dict[int, bytearray] = {}
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._others.add(self)
        self._http.initiate_connection()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._others.discard(self)

    def data_received(self, data: bytes) -> None:
        try:
            for event in self._http.receive_data(data):
                self._handle(event)
        except ProtocolError:
            self._flush()
            self._transport.close()
            return
        self._flush()

    def go_away(self) -> None:
        self._http.close_connection()
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def _handle(self, event: Any) -> None:  # noqa: ANN401
        match event:
            case RequestReceived(stream_id=int(stream)):
                self._headers[stream] = {str(name): str(value) for name, value in event.headers}
                self._bodies[stream] = bytearray()
            case DataReceived(stream_id=int(stream)):
                body = self._bodies[stream]
                body += event.data
                self._http.acknowledge_received_data(event.flow_controlled_length, stream)
                if len(body) > MAX_BODY:
                    self._http.reset_stream(stream)
            case StreamEnded(stream_id=int(stream)):
                self._tasks.start(self._respond(stream), "HTTP/2 request")
            case StreamReset(stream_id=int(stream)):
                self._headers.pop(stream, None)
                self._bodies.pop(stream, None)

    async def _respond(self, stream: int) -> None:
        headers, body = self._headers.pop(stream), self._bodies.pop(stream)
        method, path = headers.pop(":method"), headers.pop(":path")
        answer = await self._handler(Request(method, path, headers, bytes(body)))
        lines = [(":status", str(answer.status)), *answer.headers.items()]
        try:
            self._http.send_headers(stream, lines, end_stream=not answer.body)
            for start in range(0, len(answer.body), FRAME):
                last = start + FRAME >= len(answer.body)
                part = answer.body[start : start + FRAME]
                self._http.send_data(stream, part, end_stream=last)
        except (StreamClosedError, ProtocolError):
            return
        self._flush()

    def _flush(self) -> None:
        if data := self._http.data_to_send():
            self._transport.write(data)
