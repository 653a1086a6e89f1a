"""DC and RS take datagrams in WebSockets at their HTTPS. Ours: docs/protocol.md section 3."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import pytest
from tests.servers.test_lone_directory import main, relay_of, servers_of

from ntmobile.runtime.https import (
    DIRECTLY,
    AnswerWrong,
    CertificateWrong,
    DomainKey,
    Place,
)
from ntmobile.runtime.websocket import Carrier, loopback_socket
from ntmobile.runtime.websocket_client import open_websocket
from ntmobile.servers.config import Role
from ntmobile.servers.files import ServerDirectory
from ntmobile.servers.serve import Servers
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.stun import BindingRequest
from ntmobile.wire.web import DC_PATH, RS_PATH

if TYPE_CHECKING:
    from tests.servers.conftest import Organisation

__all__ = ["main"]  # The fixture.
MakeOrganisation = Callable[..., Awaitable["Organisation"]]
GARBAGE = b"\x05 is the first byte of signalling"
GUARD_S = 60


class Node:
    """A node's engine, as far as a WebSocket sees it."""

    def __init__(self) -> None:
        self.engine = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.engine.bind(("127.0.0.1", 0))
        self.carriers: list[Carrier] = []

    async def open(self, servers: Servers, path: str, key: bytes | None = None) -> Endpoint:
        """Open a WebSocket, judging the server by the domain's key; return where to send."""
        own = servers.own
        (site,) = list(servers.sites.values())[:1]
        place = Place(own.settings.host_of(site), servers.https)
        trust = DomainKey(own.name, own.public if key is None else key)
        udp = loopback_socket("127.0.0.1", Endpoint(*self.engine.getsockname()))
        here = Endpoint(*udp.getsockname())
        opened = await open_websocket(place, trust, path, udp, way=DIRECTLY, ended=lambda: None)
        self.carriers.append(opened)
        return here

    def send(self, data: bytes, to: Endpoint) -> None:
        self.engine.sendto(data, (str(to.host), to.port))


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    made = Node()
    yield made
    for carrier in made.carriers:
        carrier.close()
    made.engine.close()


async def counted(read: Callable[[], Mapping[str, int]], reason: str) -> None:
    """Wait until something was counted."""
    async with asyncio.timeout(GUARD_S):
        while not read().get(reason):  # noqa: ASYNC110 - a counter has no event
            await asyncio.sleep(0)


async def test_the_dc_judges_what_comes_as_if_it_came_by_udp(
    organisation: MakeOrganisation, node: Node
) -> None:
    servers = (await organisation()).running[0]
    coordinator = servers.coordinator
    assert coordinator is not None

    there = await node.open(servers, DC_PATH)
    node.send(GARBAGE, there)

    await counted(lambda: coordinator.machine.rejected, "malformed")
    assert len(servers.doors) == 1


async def test_stun_gets_no_answer_there(organisation: MakeOrganisation, node: Node) -> None:
    servers = (await organisation()).running[0]
    coordinator = servers.coordinator
    assert coordinator is not None

    there = await node.open(servers, DC_PATH)
    node.send(BindingRequest(bytes(12)).encode(), there)
    node.send(GARBAGE, there)

    await counted(lambda: coordinator.machine.rejected, "malformed")
    assert not coordinator.signalling.stun.counters


@pytest.mark.parametrize("label", ["rs", "rs2"])
async def test_an_rs_on_a_machine_of_its_own_is_known_by_the_domains_key(
    main: ServerDirectory, node: Node, label: str
) -> None:
    servers = servers_of(relay_of(main, label))
    await servers.start()
    try:
        relay = servers.relay
        assert relay is not None

        there = await node.open(servers, RS_PATH)
        node.send(GARBAGE, there)

        await counted(lambda: relay.machine.rejected, "malformed")
    finally:
        await servers.close()


async def test_an_rs_that_another_domains_key_would_have_to_vouch_for_is_refused(
    main: ServerDirectory, node: Node
) -> None:
    servers = servers_of(relay_of(main))
    await servers.start()
    try:
        with pytest.raises(CertificateWrong):
            await node.open(servers, RS_PATH, key=bytes(32))
    finally:
        await servers.close()


async def test_a_role_that_does_not_run_here_takes_none(
    organisation: MakeOrganisation, node: Node
) -> None:
    org = await organisation(apart=True)

    for servers in org.running:
        for role, path in ((Role.DC, DC_PATH), (Role.RS, RS_PATH)):
            if role not in servers.roles:
                with pytest.raises(AnswerWrong, match="takes no WebSocket"):
                    await node.open(servers, path)
