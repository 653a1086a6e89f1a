"""Domains served for real on loopback, and nodes that use them."""

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from random import Random, SystemRandom

import pytest
from tests.ports import free_ports

from ntmobile._core import Port
from ntmobile.keys.identity import Identity, fingerprint
from ntmobile.keys.passwords import hash_password
from ntmobile.proto.io import Call, Failed
from ntmobile.proto.node.events import (
    Event,
    LocalAddress,
    LoggedIn,
    LoginFailed,
    NameRefused,
    NameResolved,
    Registered,
    RegistrationLost,
    Traffic,
)
from ntmobile.proto.node.node import Node
from ntmobile.proto.node.settings import NodeSettings
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.driver import Driver, Outlet, sender
from ntmobile.runtime.https import Authority, HttpsError, exchange
from ntmobile.runtime.tasks import Tasks
from ntmobile.servers.config import Role, ServerConfig, ServerSettings, parse_server
from ntmobile.servers.files import ServerDirectory
from ntmobile.servers.http import LOGIN_PATH
from ntmobile.servers.init import initialise
from ntmobile.servers.serve import Servers
from ntmobile.store import Store
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.login import LoginAnswer
from ntmobile.wire.message import Message, decode, decoder, encode
from ntmobile.wire.registration import Reason
from ntmobile.wire.tunnel import ReceiveState

PASSWORD = "correct horse battery staple"
PATIENCE_S = 120
LOOPBACK = "127.0.0.1"


@pytest.fixture
def new_ports() -> Callable[[int], list[int]]:
    """free_ports, for a test module of its own."""
    return free_ports


class Organisation:
    """One domain's directory, and the processes that serve it, here as objects of one loop."""

    def __init__(self, path: Path, domain: str) -> None:
        self.domain = domain
        self.directory = ServerDirectory(path)
        self.resolvers: list[Endpoint] = []
        self.running: list[Servers] = []

    async def make(self, *, apart: bool = False) -> None:
        https, dc_https, rs_https, dc, rs, dns = free_ports(6)
        if not apart:
            dc_https = rs_https = https
        made = ServerConfig(
            server=ServerSettings(domain=self.domain, addresses=(Endpoint(LOOPBACK, 0).host,))
        )
        settings = replace(
            made,
            as_=replace(made.as_, https=https),
            dc=replace(made.dc, https=dc_https, udp=dc),
            rs=replace(made.rs, https=rs_https, udp=rs),
            dns=replace(made.dns, port=dns),
        )
        await initialise(
            self.directory.path, settings, entropy=SystemRandom(), now_s=int(Clock().wall())
        )
        self.resolvers.append(Endpoint(LOOPBACK, dns))

    async def start(self, roles: Sequence[Role] | None = None) -> Servers:
        servers = Servers(
            self.directory,
            roles,
            entropy=SystemRandom(),
            clock=Clock(),
            resolvers=lambda: self.resolvers,
        )
        await servers.start()
        self.running.append(servers)
        return servers

    async def stop(self) -> None:
        while self.running:
            await self.running.pop().close()

    async def store(self) -> Store:
        return await Store.open(self.directory.store_url(self.directory.config()))

    async def add_user(self, name: str) -> None:
        store = await self.store()
        hashed = hash_password(PASSWORD, bytes(16))
        await store.users.add(name, hashed, Clock().wall())
        await store.close()

    async def list_domain(self, other: "Organisation", *, key: bytes | None = None) -> None:
        store = await self.store()
        pin = fingerprint(key or other.running[0].own.public)
        await store.federation.add(other.domain, Clock().wall(), key_pin=pin)
        await store.close()
        for servers in self.running:
            await servers.reload()

    def set(self, old: str, new: str) -> None:
        """Edit server.toml."""
        file = self.directory.settings_file
        text = file.read_text()
        assert old in text
        parse_server(text)
        file.write_text(text.replace(old, new))


class NoTunnels:
    """The packet loops of a node that has none."""

    def receive_state(self, index: int) -> tuple[ReceiveState, ...]:
        return ()

    def traffic(self, index: int) -> Traffic:
        return Traffic(0, 0, None, None)


class LiveNode:
    """The node's machine on a real port, logging in over real HTTPS."""

    def __init__(self, organisation: Organisation, name: str, tasks: Tasks, port: Port) -> None:
        self.organisation = organisation
        self.identity = Identity.of(os.urandom(32), os.urandom(32))  # noqa: TID251
        self.events: list[Event] = []
        self.port = port
        self._changed = asyncio.Event()
        label, user = name.split(".")
        settings = NodeSettings(user, label, organisation.domain, os.urandom(16), 1)  # noqa: TID251
        clock = Clock()
        self.machine = Node(settings, self.identity, NoTunnels(), Random(1), wall=clock.wall_of)
        self.driver = Driver(self.machine, (), clock=Clock(), tasks=tasks)
        perform = self.driver.perform(self._perform, self.machine.handle_reply)
        self.driver.outlets = (
            Outlet(self.machine.poll_transmit, sender(port, self.driver.counters)),
            Outlet(self.machine.poll_request, perform),
            Outlet(self.machine.poll_event, self._take),
            Outlet(self.machine.poll_command, lambda _: None),
        )
        self.driver.read(port, self.machine.handle_datagram)
        link = LocalAddress(Endpoint(LOOPBACK, port.port), socket.if_nametoindex("lo"), 1500, True)
        self.driver.do(lambda now: self.machine.handle_links((link,), now))

    @property
    def fqdn(self) -> str:
        return self.machine.fqdn

    def login(self, password: str | None = PASSWORD) -> None:
        self.driver.do(lambda now: self.machine.login(now, password=password))

    async def resolve(self, fqdn: str) -> NameResolved | NameRefused:
        query = self.driver.do(lambda now: self.machine.resolve(fqdn, now))
        answers = (NameResolved, NameRefused)
        event = await self.wait_for(lambda e: isinstance(e, answers) and e.query == query)
        assert isinstance(event, answers)
        return event

    async def registered(self) -> Registered:
        wanted = (Registered, LoginFailed)
        event = await self.wait_for(lambda e: isinstance(e, wanted))
        assert isinstance(event, Registered), event
        return event

    async def refused(self) -> LoginFailed:
        event = await self.wait_for(lambda e: isinstance(e, LoginFailed | LoggedIn))
        assert isinstance(event, LoginFailed)
        return event

    async def lost(self) -> RegistrationLost:
        event = await self.wait_for(lambda e: isinstance(e, RegistrationLost))
        assert isinstance(event, RegistrationLost)
        return event

    async def wait_for(self, fits: Callable[[Event], bool]) -> Event:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for event in self.events:
                    if fits(event):
                        return event
                self._changed.clear()
                await self._changed.wait()

    def close(self) -> None:
        self.driver.close()

    def _take(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()

    async def _perform(self, call: Call) -> Message | Failed:
        place = self.organisation.running[-1].own.place(Role.AS)
        authority = Authority(self.organisation.directory.ca_file.read_text())
        try:
            body = await exchange(place, authority, LOGIN_PATH, encode(call.message))
        except HttpsError as error:
            return Failed(Reason.DOMAIN_UNREACHABLE, str(error))
        answer: Message = decode(decoder(LoginAnswer), body)  # type: ignore[arg-type]
        return answer


MakeOrganisation = Callable[..., Awaitable[Organisation]]
MakeNode = Callable[[Organisation, str], Awaitable[LiveNode]]


@pytest.fixture
async def organisation(tmp_path: Path) -> AsyncIterator[MakeOrganisation]:
    """Makes a domain; starts it in one process unless told `apart`."""
    made: list[Organisation] = []

    async def make(domain: str = "ntm.example.org", *, apart: bool = False) -> Organisation:
        organisation = Organisation(tmp_path / domain, domain)
        made.append(organisation)
        await organisation.make(apart=apart)
        for roles in ((Role.RS,), (Role.DC,), (Role.AS,)) if apart else (None,):
            await organisation.start(roles)
        return organisation

    yield make
    for each in made:
        await each.stop()
    await connections_ended()


async def connections_ended() -> None:
    """Wait for the threads of databases' connections.

    One whose transaction was given up at the end says so a moment later: to a loop that is closed
    by then, which would fail the next test.
    """
    for thread in threading.enumerate():
        if thread.name.endswith("(_connection_worker_thread)"):
            await asyncio.to_thread(thread.join, PATIENCE_S)


@pytest.fixture
async def node() -> AsyncIterator[MakeNode]:
    """Makes a node called NAME.USER, whose user exists; it is not logged in."""
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(Tasks())

        async def make(organisation: Organisation, name: str) -> LiveNode:
            await organisation.add_user(name.split(".")[1])
            port = Port()
            stack.callback(port.close)
            made = LiveNode(organisation, name, tasks, port)
            stack.callback(made.close)
            return made

        yield make
