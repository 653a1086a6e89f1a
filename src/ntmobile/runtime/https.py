"""HTTPS client: one verified connection, whose server certificate is known before a byte is asked.

The certificate is judged at the end of the TLS handshake: by a certificate authority, by its
fingerprint, or by the domain key's own statement. Only then does a request (and the password in
it) leave. Ours: docs/protocol.md sections 1 and 2.
"""

import asyncio
import contextlib
import socket
import ssl
import typing
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256

import httpcore

from ntmobile.errors import NTMobileError
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.protection import Protect, unprotected
from ntmobile.runtime.proxy import Proxy, connect_through
from ntmobile.runtime.race import AllFailedError, race
from ntmobile.runtime.socket_address import socket_address
from ntmobile.runtime.statement import STATEMENT_PATH, StatementWrong, check_statement
from ntmobile.wire.endpoint import Endpoint

CONNECT_S = 5.0
"""One address has this long for TCP and TLS."""
ANSWER_S = 10.0
MAX_ANSWER = 64 * 1024
MESSAGE_TYPE = "application/msgpack"
BY_THE_CLOCK = "as this machine's clock says"
"""In what is said of a certificate that this machine's time makes wrong."""
_WRONG_TIME = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED."""


@dataclass(frozen=True, slots=True)
class SystemStore:
    """The authorities that this machine's operating system trusts."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Only the authorities in this PEM text (`--ca`)."""

    pem: str


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Only the certificate whose DER has this SHA-256 (`--fingerprint`), 32 bytes."""

    digest: bytes


@dataclass(frozen=True, slots=True)
class DomainKey:
    """Any certificate that the domain, whose Ed25519 key is known, says is its own."""

    domain: str
    key: bytes
    stated: bytes | None = None
    """SHA-256 of a certificate that it was seen to state: need not be asked about again."""


@dataclass(frozen=True, slots=True)
class Unverified:
    """Any certificate: the caller judges `Connection.certificate` itself before it asks."""


Trust = SystemStore | Authority | Fingerprint | DomainKey | Unverified


@dataclass(frozen=True, slots=True)
class Place:
    """A server: the name its certificate must have, and the addresses to try, best first."""

    name: str
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """How TCP leaves this machine."""

    protect: Protect = unprotected
    """Given each socket."""
    proxy: Callable[[], Proxy | None] = lambda: None
    """Tried first; the addresses themselves a little later, as where there is no such proxy."""
    translate: Callable[[Endpoint], Endpoint] = lambda endpoint: endpoint
    """Where an address is reached from here (NAT64)."""

    def attempts(self, place: Place) -> "list[Endpoint | Proxy]":
        """What to try, in this order."""
        proxy = self.proxy()
        through: list[Endpoint | Proxy] = [] if proxy is None or not place.endpoints else [proxy]
        return [*through, *place.endpoints]


DIRECTLY = Way()


class HttpsError(NTMobileError):
    """No answer, or not one to be used."""


class Unreachable(HttpsError):
    """No address of the place took the connection, or it broke."""


class CertificateWrong(HttpsError):
    """The server is not who it should be; nothing was sent to it."""

    def __init__(self, place: Place, problem: str, *, seen: bytes | None, expected: str) -> None:
        """Seen is the SHA-256 of the certificate that was presented, when it is known."""
        shown = f"SHA256:{seen.hex()}" if seen else "unknown"
        super().__init__(
            f"the certificate of {place.name} is not trusted: {problem} "
            f"(seen {shown}, expected {expected})"
        )
        self.seen = seen
        self.expected = expected


class StatusWrong(HttpsError):
    """The server answered with an HTTP error."""

    def __init__(self, place: Place, status: int, text: str) -> None:
        """Text is the first of what the server said."""
        super().__init__(f"{place.name} answered {status}: {text}")
        self.status = status
        self.text = text


class AnswerWrong(HttpsError):
    """The answer is too long or not HTTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response, whatever its status."""

    status: int
    content_type: str
    body: bytes


class Connection:
    """An open TLS connection to a server that was judged."""

    def __init__(self, place: Place, stream: "_Stream", certificate: bytes) -> None:
        """Made by `connect`."""
        self.place = place
        self.certificate = certificate
        """SHA-256 of the server's certificate in DER."""
        port = place.endpoints[0].port
        host = f"[{place.name}]" if ":" in place.name else place.name
        self._authority = host if port == 443 else f"{host}:{port}"
        self._url = httpcore.URL(scheme=b"https", host=b"server", port=port, target=b"/")
        self._stream = stream
        self._http = httpcore.AsyncHTTP11Connection(self._url.origin, stream)

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Sends a message; raises Unreachable or AnswerWrong."""
        return await self._exchange("POST", path, body, headers or {})

    async def get(self, path: str) -> Answer:
        """Fetches; raises Unreachable or AnswerWrong."""
        return await self._exchange("GET", path, b"", {})

    def hand_over(self) -> asyncio.Transport:
        """Return the connection itself, for another protocol; it is the caller's to close."""
        return self._stream.hand_over()

    async def _exchange(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        lines = {"Host": self._authority, "Accept": MESSAGE_TYPE, **headers}
        if method == "POST":
            lines |= {"Content-Type": MESSAGE_TYPE, "Content-Length": str(len(body))}
        url = httpcore.URL(
            scheme=b"https", host=b"server", port=self._url.port, target=path.encode()
        )
        try:
            async with (
                asyncio.timeout(ANSWER_S),
                self._http.stream(method, url, headers=list(lines.items()), content=body) as reply,
            ):
                return await self._read(reply)
        except httpcore.ProtocolError as error:
            raise AnswerWrong(f"{self.place.name} does not speak HTTP: {error}") from None
        except TimeoutError:
            raise Unreachable(f"{self.place.name} did not answer in {ANSWER_S:.0f} s") from None
        except (httpcore.NetworkError, OSError) as error:
            raise Unreachable(f"{self.place.name} broke the connection: {error}") from None

    async def _read(self, reply: httpcore.Response) -> Answer:
        body = bytearray()
        async for part in reply.aiter_stream():
            body += part
            if len(body) > MAX_ANSWER:
                raise AnswerWrong(f"{self.place.name} answered more than {MAX_ANSWER} bytes")
        kind = dict(reply.headers).get(b"content-type", b"")
        return Answer(reply.status, kind.decode("latin-1"), bytes(body))


@contextlib.asynccontextmanager
async def connect(place: Place, trust: Trust, *, way: Way = DIRECTLY) -> AsyncIterator[Connection]:
    """Connects to the first address that answers, and judges its certificate.

    Raises Unreachable or CertificateWrong; what the connection does afterwards raises HttpsError
    too.
    """
    stream = await _race(place, trust, way)
    try:
        connection = Connection(place, stream, stream.certificate)
        await _judge(connection, trust)
        yield connection
    finally:
        await stream.aclose()


async def exchange(
    place: Place, trust: Trust, path: str, message: bytes, *, way: Way = DIRECTLY
) -> bytes:
    """Posts one message over a connection of its own and returns the message in the answer.

    Raises HttpsError; an error status that carries a message (a refusal) is an answer.
    """
    async with connect(place, trust, way=way) as connection:
        return message_of(place, await connection.post(path, message))


def message_of(place: Place, answer: Answer) -> bytes:
    """Return the message an answer carries; raises StatusWrong when there is none."""
    if answer.content_type != MESSAGE_TYPE or answer.status not in (200, 503):
        raise StatusWrong(place, answer.status, answer.body[:500].decode(errors="replace"))
    return answer.body


async def _judge(connection: Connection, trust: Trust) -> None:
    """What the handshake itself could not check; the authorities are checked by then."""
    seen = connection.certificate
    match trust:
        case Fingerprint(digest) if digest != seen:
            expected = f"SHA256:{digest.hex()}"
            raise CertificateWrong(
                connection.place, "another certificate", seen=seen, expected=expected
            )
        case DomainKey(domain, key, stated) if stated != seen:
            answer = await connection.get(STATEMENT_PATH)
            try:
                check_statement(message_of(connection.place, answer), domain, key, seen)
            except StatementWrong as error:
                expected = f"one stated by the key of {domain}"
                raise CertificateWrong(
                    connection.place, str(error), seen=seen, expected=expected
                ) from None
        case _:
            pass


def _context(trust: Trust) -> ssl.SSLContext:
    match trust:
        case SystemStore():
            context = ssl.create_default_context()
        case Authority(pem):
            context = ssl.create_default_context(cadata=pem)
        case Fingerprint() | DomainKey() | Unverified():
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


async def _race(place: Place, trust: Trust, way: Way) -> "_Stream":
    """Tries the addresses a little after one another; the first that completes TLS wins."""
    context = _context(trust)
    attempts = way.attempts(place)
    try:
        return await race(
            (partial(_open, attempt, place, context, way) for attempt in attempts), _Stream.aclose
        )
    except AllFailedError as failed:
        raise await _failure(place, trust, failed.errors, way) from None


async def _failure(place: Place, trust: Trust, errors: list[Exception], way: Way) -> HttpsError:
    """The error that says most: a wrong certificate before silence."""
    for error in errors:
        if isinstance(error, ssl.SSLCertVerificationError):
            expected = "one of the given authority"
            if isinstance(trust, SystemStore):
                expected = "one that this system's store verifies"
            seen = await _peek(place, way)
            return CertificateWrong(place, _problem(error), seen=seen, expected=expected)
    shown = ", ".join(str(endpoint) for endpoint in place.endpoints) or "no address"
    detail = "; ".join(dict.fromkeys(str(error) or type(error).__name__ for error in errors))
    return Unreachable(f"cannot reach {place.name} ({shown}): {detail}")


def _problem(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code not in _WRONG_TIME:
        return error.verify_message
    clock = datetime.fromtimestamp(Clock().wall(), UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{error.verify_message}, if it is {clock} {BY_THE_CLOCK}"


async def _peek(place: Place, way: Way) -> bytes | None:
    """The certificate of a server that was not trusted, to be shown; asks it nothing."""
    try:
        stream = await _race(place, Unverified(), way)
    except HttpsError:
        return None
    await stream.aclose()
    return stream.certificate


async def _open(
    attempt: Endpoint | Proxy, place: Place, context: ssl.SSLContext, way: Way
) -> "_Stream":
    try:
        async with asyncio.timeout(CONNECT_S):
            return _Stream(*await _secure(await reach(attempt, place, way), place, context))
    except TimeoutError:
        raise TimeoutError(f"no answer from {attempt}") from None


async def _secure(
    raw: socket.socket, place: Place, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Shakes hands; however it ends or is given up, the socket does not stay open."""
    handshake = asyncio.get_running_loop().create_task(
        asyncio.open_connection(sock=raw, ssl=context, server_hostname=place.name)
    )
    try:
        return await asyncio.shield(handshake)
    except BaseException:
        # Never cancelled: asyncio forgets a transport that it shall close before the first step
        # of its TLS. Without its socket the handshake ends by itself.
        with contextlib.suppress(OSError):
            raw.shutdown(socket.SHUT_RDWR)
        for outcome in await asyncio.gather(handshake, return_exceptions=True):
            if isinstance(outcome, tuple):
                outcome[1].transport.abort()
        raise


async def reach(attempt: Endpoint | Proxy, place: Place, way: Way) -> socket.socket:
    """Return a TCP socket that leads to the place; raises OSError or ProxyError."""
    if isinstance(attempt, Proxy):
        port = place.endpoints[0].port
        return await connect_through(attempt, place.name, port, protect=way.protect)
    endpoint = way.translate(attempt)
    family = socket.AF_INET6 if endpoint.version == 6 else socket.AF_INET
    raw = socket.socket(family, socket.SOCK_STREAM)
    try:
        raw.setblocking(False)
        way.protect(raw.fileno())
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, socket_address(endpoint))
    except BaseException:
        raw.close()
        raise
    return raw


class _Stream(httpcore.AsyncNetworkStream):
    """An asyncio stream as httpcore wants it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._mine = True
        presented = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        self.certificate = sha256(presented).digest()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return await self._reader.read(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self._writer.write(buffer)
        await self._writer.drain()

    def hand_over(self) -> asyncio.Transport:
        self._mine = False
        transport = self._writer.transport
        assert isinstance(transport, asyncio.Transport)
        return transport

    async def aclose(self) -> None:
        # A peer that does not answer the TLS close must not hold us.
        if self._mine:
            self._writer.transport.abort()

    def get_extra_info(self, info: str) -> typing.Any:  # noqa: ANN401
        return None
