import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

import pytest

from ntmobile._core import Engine, Stack
from ntmobile.sockets.events import Events

OWN = IPv4Address("100.64.0.7"), IPv6Address("fd01:2:3::7")
DNS = IPv4Address("192.0.2.53"), IPv6Address("fd01:2:3::53")
SEED_INSIDE, SEED_APPLICATION = 1, 2


@dataclass
class Device:
    """A node's packet loops whose device is one end of a socket pair, and who lives inside."""

    engine: Engine
    inside: Events
    """Of the stack that answers for DNS."""
    system: socket.socket
    """Where the applications' packets go in and come out."""


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    """A device without a kernel: whatever is one packet a read and write will do."""
    loop = asyncio.get_running_loop()
    system, handed = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    system.setblocking(False)
    stack, engine = Stack(SEED_INSIDE), Engine()
    hosts = [host.packed for host in DNS]
    stack.set_addresses(*hosts)
    engine.attach_divided(handed.fileno(), stack, hosts)
    handed.close()
    inside = Events(stack, loop)
    yield Device(engine, inside, system)
    inside.close()
    await asyncio.sleep(0)
    engine.close()
    stack.close()
    system.close()


@dataclass
class Applications:
    """An application's side of the device: a stack with the node's own addresses."""

    events: Events


@pytest.fixture
async def applications(device: Device) -> AsyncIterator[Applications]:
    """Another engine drives it; its `inside` is all that it reaches."""
    loop = asyncio.get_running_loop()
    stack, engine = Stack(SEED_APPLICATION), Engine()
    own = [host.packed for host in OWN]
    stack.set_addresses(*own)
    # Seen from here the application is who lives inside, and everything else is the device.
    engine.attach_divided(device.system.fileno(), stack, own)
    events = Events(stack, loop)
    yield Applications(events)
    events.close()
    await asyncio.sleep(0)
    engine.close()
    stack.close()
