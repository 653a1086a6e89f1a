import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from tests.stacks import join

from ntmobile._core import Engine, Stack
from ntmobile.keys.certificates import make_ca, make_server
from ntmobile.runtime.clock import Clock
from ntmobile.sockets.events import Events
from ntmobile.sockets.server import Factory, Server
from ntmobile.wire.endpoint import Host


@dataclass
class End:
    """A node without servers: its engine, its stack, and the stack's events."""

    engine: Engine
    stack: Stack
    events: Events

    def serve(self, factory: Factory, *, port: int = 0) -> Server:
        def owner(host: Host) -> str:
            return f"owner of {host}"

        return Server(self.events, factory, owner, port=port, backlog=8)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    """Alice and bob, with a tunnel between them."""
    loop = asyncio.get_running_loop()
    made = []
    for seed in (1, 2):
        stack = Stack(seed)
        made.append(End(Engine(), stack, Events(stack, loop)))
    alice, bob = made
    join((alice.engine, alice.stack), (bob.engine, bob.stack))
    yield alice, bob
    for end in made:
        end.events.close()
    await asyncio.sleep(0)
    for end in made:
        end.engine.close()
        end.stack.close()


@pytest.fixture(scope="session")
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A client's and a server's context; the server is bob.example."""
    now_s = int(Clock().wall())
    ca = make_ca("bob.example", (), serial=1, now_s=now_s)
    made = make_server(ca, ("bob.example",), (), serial=2, now_s=now_s)
    client = ssl.create_default_context(cadata=ca.certificate.decode())
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(made.certificate + made.key)
        file.flush()
        server.load_cert_chain(file.name)
    return client, server
