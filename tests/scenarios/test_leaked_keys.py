"""Everything was recorded, and later every long-term key leaks: nothing can be read.

The attacker here has every datagram that crossed the core, both ends' device and tunnel keys, and
Kntmdc of both; by these it reads the Route Directions, and so has Ktmp and Ktun and the two Noise
messages. What it lacks are the two ephemeral keys, which lived a moment.
Source: paper, Node authentication. Ours: docs/protocol.md section 4, the claim.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ntmobile._core import CapsuleError, Capsules
from ntmobile.errors import DecodeError
from ntmobile.keys.identity import Identity
from ntmobile.keys.sealing import Opener
from ntmobile.keys.table import CommonKey, Kntmdc, Ktun
from ntmobile.proto.node import handshake
from ntmobile.proto.node.handshake import Handshake, HandshakeError, Secrets, Terms
from ntmobile.sim.node import SimNode
from ntmobile.sim.world import World
from ntmobile.time import Instant
from ntmobile.wire.datagram import Envelope, Header, Kind, Signal
from ntmobile.wire.direction import Action, Role, RouteDirection
from ntmobile.wire.tunnel import TunnelRequest, TunnelResponse

pytestmark = pytest.mark.paper("Node authentication")

SECRET = b"what nobody else may ever read"
EVER = Instant(1 << 62)


class Given:
    """Entropy that gives out one ephemeral key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def getrandbits(self, k: int, /) -> int:
        return int.from_bytes(self._key)

    def randrange(self, stop: int, /) -> int:
        return 0


@dataclass
class Loot:
    """What was recorded, and what leaked."""

    packets: list[bytes]
    identities: dict[str, Identity]
    routes: dict[Role, RouteDirection]
    request: TunnelRequest
    response: TunnelResponse

    @property
    def sender(self) -> Role:
        (role,) = [role for role, route in self.routes.items() if route.action is Action.SEND]
        return role

    def names(self) -> dict[Role, str]:
        return {role: route.fqdn for role, route in self.routes.items()}

    def end(self, role: Role, ephemeral: bytes) -> Handshake:
        """One end of the handshake again, with that ephemeral key."""
        mn, cn = self.routes[Role.MN], self.routes[Role.CN]
        terms = Terms(
            mn.negotiation,
            mn.mode,
            mn.cipher,
            mn.fqdn,
            cn.fqdn,
            self.sender,
            cn.peer.identity,
            mn.peer.identity,
            cn.peer.virtual_ipv6,
            mn.peer.virtual_ipv6,
        )
        route = self.routes[role]
        own = self.identities[route.fqdn]
        return Handshake(terms, route.ktmp, role, own, route.peer.identity, Given(ephemeral))

    def as_sender(self, ephemeral: bytes) -> Secrets:
        """Take the sender's part; raises HandshakeError when the ephemeral key is not its."""
        end = self.end(self.sender, ephemeral)
        end.write()
        end.read(self.response.noise)
        return end.finish()

    def as_receiver(self, ephemeral: bytes) -> Secrets:
        """Take the other's part: the first message is for who holds the leaked keys."""
        end = self.end(Role.CN if self.sender is Role.MN else Role.MN, ephemeral)
        end.read(self.request.noise)
        end.write()
        return end.finish()

    def read(self, secrets: Secrets) -> list[bytes]:
        """Open every recorded capsule with these keys, in both directions."""
        return [
            payload
            for key in (secrets.send_key, secrets.receive_key)
            for index in (self.request.index, self.response.index)
            for payload in self._opened(key, index)
        ]

    def _opened(self, key: bytes, index: int) -> Iterator[bytes]:
        capsules = Capsules(index)
        cipher = self.routes[Role.MN].cipher.value
        capsules.install(self.request.epoch, cipher, key, key, 0)
        for packet in self.packets:
            if packet[:1] == bytes((Kind.CAPSULE,)):
                try:
                    yield capsules.open(packet)[2]
                except CapsuleError:
                    continue


def test_with_every_long_term_key_recorded_traffic_stays_unreadable() -> None:
    loot, _ = a_recorded_and_looted_world()

    with pytest.raises(HandshakeError):
        loot.as_sender(b"\x11" * 32)
    assert loot.read(loot.as_receiver(b"\x11" * 32)) == []


def test_with_the_ephemeral_keys_besides_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative twin: the attacker's tools work, only what lived a moment was missing."""
    kept: list[bytes] = []
    honest = handshake.random_bytes

    def keep(entropy: handshake.Entropy, size: int) -> bytes:
        kept.append(honest(entropy, size))
        return kept[-1]

    monkeypatch.setattr(handshake, "random_bytes", keep)
    loot, ephemerals = a_recorded_and_looted_world(kept)

    readable = [secrets for secrets in _all(loot, ephemerals) if loot.read(secrets)]

    assert len(readable) == 2, "once by each end's"
    assert all(any(SECRET in payload for payload in loot.read(each)) for each in readable)


def _all(loot: Loot, ephemerals: list[bytes]) -> Iterator[Secrets]:
    for ephemeral in ephemerals:
        yield loot.as_receiver(ephemeral)
        try:
            yield loot.as_sender(ephemeral)
        except HandshakeError:
            continue


def a_recorded_and_looted_world(kept: list[bytes] | None = None) -> tuple[Loot, list[bytes]]:
    world = World(seed=1)
    packets: list[bytes] = []
    world.internet.core.taps.append(lambda packet: packets.append(packet.payload))
    org = world.organisation("example.org", certificates=True)
    laptop, pc = world.node("laptop.alice", org), world.node("pc.bob", org)
    world.connect(laptop, pc)
    ephemerals = list(kept or ())
    assert world.echo(laptop, pc, SECRET)
    return loot_of(world, packets, laptop, pc), ephemerals


def loot_of(world: World, packets: list[bytes], *nodes: SimNode) -> Loot:
    stored = world.organisations["example.org"].registrations.nodes
    leaked: list[CommonKey] = [
        Kntmdc(stored[node.fqdn].kntmdc, stored[node.fqdn].identifier, EVER) for node in nodes
    ]
    told = [message for message in read(packets, leaked) if isinstance(message, RouteDirection)]
    routes = {message.role: message for message in told}
    route = routes[Role.MN]
    under = read(packets, [Ktun(route.ktun, route.ktun_identifier, EVER)])
    said = {type(message): message for message in under}
    request, response = said[TunnelRequest], said[TunnelResponse]
    assert isinstance(request, TunnelRequest)
    assert isinstance(response, TunnelResponse)
    identities = {node.fqdn: node.state.identity for node in nodes}
    return Loot(packets, identities, routes, request, response)


def read(packets: list[bytes], keys: list[CommonKey]) -> list[Signal]:
    """Open every datagram that one of these keys opens."""
    found = []
    for data in packets:
        try:
            header = Header.decode(data)
        except DecodeError:
            continue
        for key in keys:
            if header.identifier == key.identifier:
                opened = Opener(key, header.sender, header.salt).open(header, data)
                found.append(Envelope.decode(opened).message)
    return found
