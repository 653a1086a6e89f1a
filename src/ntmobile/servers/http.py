"""The HTTPS face of the servers: login, keys between servers, and the domain's statement.

POST /ntm/v1/login  NonceRequest, LoginRequest, AuthorityRequest (a node; anybody may ask)
POST /ntm/v1/keys   KeyDistribution, KeySharing (a server; signed by its domain's key)
GET  /.well-known/ntm  DomainStatement

Bodies are messages in msgpack. Source: paper, Figs. 2, 5 and 7. Ours: docs/protocol.md sections 1
and 3.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ntmobile.errors import DecodeError, NTMobileError
from ntmobile.proto.io import Caller
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.domains import Refused
from ntmobile.runtime.https import MESSAGE_TYPE
from ntmobile.runtime.signed import ClockWrong, SignatureWrong, Verifier
from ntmobile.runtime.statement import STATEMENT_PATH
from ntmobile.servers.config import Role
from ntmobile.servers.requests import Overloaded
from ntmobile.servers.taker import Taker
from ntmobile.store import StoreUnavailable
from ntmobile.wire.federation import KeySharing, SharedKey
from ntmobile.wire.login import (
    AuthorityRequest,
    KeyDistribution,
    LoginRefusal,
    LoginRefused,
    LoginRequest,
    NonceRequest,
)
from ntmobile.wire.message import Message, decode, decoder, encode
from ntmobile.wire.registration import Reason

log = structlog.get_logger()

LOGIN_PATH = "/ntm/v1/login"
KEYS_PATH = "/ntm/v1/keys"
CLOCK_WRONG = 412
"""The status of a signed request whose time is too far off."""
MAX_BODY = 16 * 1024
BODY_S = 10.0
MAX_OPEN = 1000
MAX_OPEN_A_SOURCE = 100
Handle = Callable[[Request, bytes], Awaitable[Message]]
M = TypeVar("M")
FromNode = NonceRequest | LoginRequest | AuthorityRequest
FromServer = KeyDistribution | KeySharing
_LOGIN: msgspec.msgpack.Decoder[FromNode] = decoder(FromNode)  # type: ignore[arg-type]
_KEYS: msgspec.msgpack.Decoder[FromServer] = decoder(FromServer)  # type: ignore[arg-type]
_RETRY = (LoginRefused.BUSY, LoginRefused.STORE)


class Rejected(NTMobileError):
    """A request that gets an HTTP status and a line of text."""

    def __init__(self, status: int, text: str) -> None:
        """The text is for the people at the other end."""
        super().__init__(text)
        self.status = status
        self.text = text


class Front:
    """An ASGI application for the roles of this process; `application` is what to serve."""

    def __init__(
        self,
        *,
        takers: Mapping[Role, Taker],
        verifier: Verifier,
        statement: Callable[[], bytes],
        certificates: Callable[[], tuple[bytes, ...]],
        clock: Clock,
    ) -> None:
        """Takers may be filled later; what no role takes is not found."""
        self._takers = takers
        self._verifier = verifier
        self._statement = statement
        self._certificates = certificates
        self._clock = clock
        self._open: Counter[str] = Counter()
        self.counters: Counter[str] = Counter()
        self.application = Starlette(
            routes=[
                Route(LOGIN_PATH, self._guarded(self._login), methods=["POST"]),
                Route(KEYS_PATH, self._guarded(self._keys), methods=["POST"]),
                Route(STATEMENT_PATH, self._state, methods=["GET"]),
            ]
        )

    async def _state(self, request: Request) -> Response:
        self.counters["statement"] += 1
        return Response(self._statement(), media_type=MESSAGE_TYPE)

    async def _login(self, request: Request, body: bytes) -> Message:
        message: Message = _parse(_LOGIN, body)
        caller = Caller(None, _source(request))
        return await self._taker(Role.AS)(caller, message)

    async def _keys(self, request: Request, body: bytes) -> Message:
        message: Message = _parse(_KEYS, body)
        domain = await self._signer_of(request, body)
        taker = self._taker(_role(message))
        return await taker(Caller(domain, _source(request)), message)

    async def _signer_of(self, request: Request, body: bytes) -> str:
        try:
            return await self._verifier.check(
                request.url.path,
                body,
                request.headers,
                certificates=self._certificates(),
                now_s=int(self._clock.wall()),
            )
        except SignatureWrong as error:
            log.warning("request of a server refused", why=str(error))
            status = CLOCK_WRONG if isinstance(error, ClockWrong) else 401
            raise Rejected(status, str(error)) from None
        except Refused as error:
            status = 403 if error.reason is Reason.FOREIGN_DOMAIN else 401
            raise Rejected(status, error.detail) from None

    def _taker(self, role: Role) -> Taker:
        taker = self._takers.get(role)
        if taker is None:
            raise Rejected(404, f"the {role.upper()} does not run here")
        return taker

    def _guarded(self, handle: Handle) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            source = _source(request)
            self._open[source] += 1
            try:
                response = await self._respond(request, handle, source)
            except Rejected as rejected:
                response = PlainTextResponse(rejected.text, rejected.status)
            except (Overloaded, StoreUnavailable) as error:
                response = PlainTextResponse(str(error), 503, {"Retry-After": "2"})
            finally:
                self._open[source] -= 1
                if not self._open[source]:
                    del self._open[source]
            self.counters[str(response.status_code)] += 1
            return response

        return respond

    async def _respond(
        self,
        request: Request,
        handle: Handle,
        source: str,
    ) -> Response:
        if self._open[source] > MAX_OPEN_A_SOURCE or self._open.total() > MAX_OPEN:
            raise Overloaded("too many requests at once")
        if request.headers.get("content-type") != MESSAGE_TYPE:
            raise Rejected(415, f"send {MESSAGE_TYPE}")
        answer = await handle(request, await _body(request))
        busy = isinstance(answer, LoginRefusal) and answer.reason in _RETRY
        return Response(encode(answer), 503 if busy else 200, media_type=MESSAGE_TYPE)


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY:
                    raise Rejected(413, f"at most {MAX_BODY} bytes")
    except TimeoutError:
        raise Rejected(408, "the body did not come") from None
    except ClientDisconnect:
        raise Rejected(400, "gone") from None
    return bytes(body)


def _parse(using: "msgspec.msgpack.Decoder[M]", body: bytes) -> M:
    try:
        return decode(using, body)
    except DecodeError as error:
        raise Rejected(400, f"not a message for this path: {error}") from None


def _role(message: Message) -> Role:
    if isinstance(message, KeySharing) and message.key is SharedKey.KDCRS:
        return Role.RS
    if isinstance(message, KeySharing) and message.key is SharedKey.KDCNS:
        return Role.NS
    return Role.DC


def _source(request: Request) -> str:
    return request.client.host if request.client is not None else ""
