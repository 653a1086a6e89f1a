"""`ntmobile.Node`: sockets that reach a name and survive a move, with no root."""

import asyncio
import secrets
import socket
import ssl as tls
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from ntmobile.agent.records import SavedAccount, Trust
from ntmobile.agent.session import Session
from ntmobile.agent.state import State, take_credential
from ntmobile.agent.status import handovers_view, status_view
from ntmobile.agent.views import HandoversView, StatusView
from ntmobile.errors import Remedy, StateError
from ntmobile.sockets.connecting import connect
from ntmobile.sockets.datagrams import Datagrams
from ntmobile.sockets.events import Events
from ntmobile.sockets.names import Names
from ntmobile.sockets.opening import log_in, opened_state, running
from ntmobile.sockets.secure import client_side, server_side
from ntmobile.sockets.server import Server
from ntmobile.wire.endpoint import Endpoint, Host

LIMIT = 1 << 16
"""Bytes that a StreamReader holds, as in asyncio."""
P = TypeVar("P", bound=asyncio.BaseProtocol)
D = TypeVar("D", bound=asyncio.DatagramProtocol)
Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]


class Node:
    """A node inside this process; its names and shapes are those of asyncio.

    Hosts are names of nodes (short ones are other nodes of the same user) or their virtual
    addresses. What fails raises Remedy, which says what to do, or OSError as sockets do.
    """

    def __init__(self, state: Path) -> None:
        """Opened by `async with`; see `open`."""
        self._directory = state
        self._stack = AsyncExitStack()
        self._open: tuple[Session, State, Events, Names] | None = None

    @classmethod
    def open(cls, state: str | Path) -> Self:
        """Return the node of a state directory that `login` made; enter it to bring it up."""
        return cls(Path(state))

    @staticmethod
    async def login(
        state: str | Path,
        who: str,
        *,
        name: str | None = None,
        password: str | None = None,
        auth_key: str | None = None,
        certificate: str | Path | None = None,
        key: str | Path | None = None,
        ca: str | Path | None = None,
        fingerprint: str | None = None,
        server: str | None = None,
    ) -> str:
        """Make the state of a node: log in once as USER@DOMAIN; returns its FQDN.

        name is this machine's in the domain (default: its host name); ca a PEM file, fingerprint
        SHA256:..., by which the account server is trusted; server its URL where no record names
        it. Neither password nor auth_key is kept: later the device key logs in. With certificate
        (a PEM file) its key (another) becomes the device key. Raises Remedy.
        """
        entropy = secrets.SystemRandom()
        trust = Trust(ca=_read(ca), fingerprint=fingerprint)
        async with opened_state(Path(state), entropy) as saved:
            account = _account(who, name, server, trust)
            known = saved.account
            if known is not None and known.fqdn != account.fqdn:
                raise Remedy(
                    f"this state belongs to {known.fqdn}", remedy="choose another directory"
                )
            take_credential(saved, account, _read(certificate), _read(key))
            async with running(saved, account, entropy) as (session, _):
                await log_in(session, password, auth_key)
                return session.account.fqdn

    async def __aenter__(self) -> Self:
        """Logs in by the device key and registers; raises Remedy."""
        entropy = secrets.SystemRandom()
        async with AsyncExitStack() as stack:
            state = await stack.enter_async_context(opened_state(self._directory, entropy))
            if state.account is None:
                raise Remedy(
                    f"{self._directory} is no node's state yet",
                    remedy="ntmobile.Node.login(state, 'USER@DOMAIN', password=...)",
                )
            session, model = await stack.enter_async_context(running(state, state.account, entropy))
            events = Events(model.stack, asyncio.get_running_loop())
            stack.push_async_callback(_close, events)
            await log_in(session, None, None)
            self._stack = stack.pop_all()
        self._open = (session, state, events, Names(session, state))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the tunnels; connections that stand are gone."""
        self._open = None
        await self._stack.aclose()

    @property
    def fqdn(self) -> str:
        """The node's permanent name."""
        return self.names.own

    @property
    def addresses(self) -> tuple[Host, Host]:
        """The node's permanent virtual addresses, IPv4 and IPv6."""
        return self.names.addresses

    @property
    def names(self) -> Names:
        """What the node knows of names."""
        return self._parts()[3]

    @property
    def events(self) -> Events:
        """The node's stack and its events, for other kinds of sockets than asyncio's."""
        return self._events

    def whois(self, address: Host) -> str | None:
        """Return the name of a virtual address's owner, as its tunnel proves it."""
        return self.names.owner(address)

    def status(self) -> StatusView:
        """What `ntm status --json` prints."""
        return status_view(self._session, self._state, [])

    def handovers(self) -> HandoversView:
        """What `ntm handovers --json` prints: those of earlier runs too, oldest first."""
        return handovers_view(self._session)

    async def resolve(self, host: str) -> tuple[Host, Host]:
        """Return a node's virtual addresses, IPv4 and IPv6; raises NameFailed with the reason."""
        return await self.names.resolve(host)

    async def getaddrinfo(
        self, host: str, port: int, *, family: int = 0, type: int = 0, proto: int = 0
    ) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]]:
        """Return what socket.getaddrinfo would, of a node."""
        kinds = {socket.SOCK_STREAM: socket.IPPROTO_TCP, socket.SOCK_DGRAM: socket.IPPROTO_UDP}
        return [
            (
                found,
                kind,
                number,
                "",
                (str(address), port, *(() if address.version == 4 else (0, 0))),
            )
            for address in await self.names.hosts(host, family)
            for found in [socket.AF_INET if address.version == 4 else socket.AF_INET6]
            for kind, number in kinds.items()
            if type in (0, kind) and proto in (0, number)
        ]

    async def open_connection(
        self,
        host: str,
        port: int,
        *,
        limit: int = LIMIT,
        family: int = 0,
        ssl: bool | tls.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As asyncio.open_connection."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await self.create_connection(
            lambda: protocol, host, port, family=family, ssl=ssl, server_hostname=server_hostname
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def create_connection(
        self,
        protocol_factory: Callable[[], P],
        host: str,
        port: int,
        *,
        family: int = 0,
        ssl: bool | tls.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> tuple[asyncio.Transport, P]:
        """As loop.create_connection; TLS inside the tunnel is for those who want it."""
        remote = Endpoint((await self.names.hosts(host, family))[0], port)
        events, fqdn, protocol = self._events, self.whois(remote.host), protocol_factory()
        if not ssl:
            return await connect(events, remote, protocol, fqdn=fqdn), protocol
        secured = client_side(ssl, protocol, server_hostname or host)
        stream = await connect(events, remote, secured.protocol, fqdn=fqdn)
        return await secured.transport(stream), protocol

    async def start_server(
        self,
        client_connected_cb: Connected,
        host: str | None = None,
        port: int = 0,
        *,
        limit: int = LIMIT,
        backlog: int = 100,
        ssl: tls.SSLContext | None = None,
    ) -> Server:
        """As asyncio.start_server, on all of the node's own addresses."""
        loop = asyncio.get_running_loop()

        def make() -> asyncio.StreamReaderProtocol:
            reader = asyncio.StreamReader(limit=limit, loop=loop)
            return asyncio.StreamReaderProtocol(reader, client_connected_cb, loop=loop)

        return await self.create_server(make, host, port, backlog=backlog, ssl=ssl)

    async def create_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int = 0,
        *,
        backlog: int = 100,
        ssl: tls.SSLContext | None = None,
    ) -> Server:
        """As loop.create_server; host is None or this node's own name or address."""
        if host is not None and not self.names.is_own(host):
            raise Remedy(f"{host} is not this node", remedy=f"use {self.fqdn}, or None")
        factory = protocol_factory if ssl is None else server_side(ssl, protocol_factory)
        return Server(self._events, factory, self.whois, port=port, backlog=backlog)

    async def create_datagram_endpoint(
        self,
        protocol_factory: Callable[[], D],
        *,
        remote: tuple[str, int] | None = None,
        local_port: int = 0,
        family: int = 0,
    ) -> tuple[Datagrams, D]:
        """As loop.create_datagram_endpoint; remote is a node's name and port."""
        there = None
        if remote is not None:
            there = Endpoint((await self.names.hosts(remote[0], family))[0], remote[1])
        protocol = protocol_factory()
        transport = Datagrams(
            self._events,
            protocol,
            port=local_port,
            own=lambda version: self.addresses[version == 6],
            remote=there,
            fqdn=self.whois(there.host) if there else None,
        )
        transport.begin()
        return transport, protocol

    @property
    def _session(self) -> Session:
        return self._parts()[0]

    @property
    def _state(self) -> State:
        return self._parts()[1]

    @property
    def _events(self) -> Events:
        return self._parts()[2]

    def _parts(self) -> tuple[Session, State, Events, Names]:
        if self._open is None:
            raise StateError("the node is not open: async with ntmobile.Node.open(state) as node")
        return self._open


async def _close(events: Events) -> None:
    events.close()
    # The protocols hear of it before the stack is gone.
    await asyncio.sleep(0)


def _account(who: str, name: str | None, server: str | None, trust: Trust) -> SavedAccount:
    user, _, domain = who.lower().rpartition("@")
    own = (name or socket.gethostname().partition(".")[0]).lower()
    if not user or not domain:
        raise Remedy(f"{who!r} is not USER@DOMAIN", remedy="alice@ntm.example.org")
    return SavedAccount(user=user, name=own, domain=domain.rstrip("."), server=server, trust=trust)


def _read(file: str | Path | None) -> str | None:
    return None if file is None else Path(file).read_text(encoding="ascii")
