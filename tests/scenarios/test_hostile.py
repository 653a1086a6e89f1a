"""Forged, replayed and mangled input: refused, counted, harmless."""

from collections.abc import Iterator

import pytest

from ntmobile.proto.node.events import HandoverDone, TunnelClosed
from ntmobile.sim.directory import DNS_PORT
from ntmobile.sim.entropy import SeededEntropy
from ntmobile.sim.nat import HARD
from ntmobile.sim.node import SimNode
from ntmobile.sim.packet import Packet, Transport
from ntmobile.sim.process import Process
from ntmobile.sim.world import World
from ntmobile.wire.endpoint import Endpoint

ATTACKER = Endpoint("203.0.113.66", 666)


@pytest.mark.parametrize("behind_nats", [False, True], ids=["direct", "relayed"])
def test_everything_ever_sent_replayed_from_its_own_source_changes_nothing(
    behind_nats: bool,
) -> None:
    world, mn, cn, recorded = a_recorded_world(behind_nats=behind_nats)
    before = standing(world, mn, cn)

    for packet in recorded:
        world.internet.inject(packet)
    world.run_for(5)

    assert standing(world, mn, cn) == before
    assert world.echo(mn, cn, b"still here")


def test_everything_ever_sent_replayed_from_elsewhere_moves_nobody() -> None:
    world, mn, cn, recorded = a_recorded_world(behind_nats=False)
    before = standing(world, mn, cn)

    for packet in recorded:
        world.internet.inject(packet.come_from(ATTACKER))
    world.run_for(5)

    assert standing(world, mn, cn) == before
    assert world.echo(mn, cn, b"still here")


def test_every_bit_of_every_kind_of_datagram_matters() -> None:
    world, mn, cn, recorded = a_recorded_world(behind_nats=True)
    before = standing(world, mn, cn)
    entropy = SeededEntropy("flip")

    for packet in recorded:
        if is_ours(packet):
            for mangled in mangle(packet.payload, entropy):
                world.internet.inject(
                    Packet(packet.transport, packet.source, packet.destination, mangled)
                )
    world.run_for(5)

    assert standing(world, mn, cn) == before
    assert world.echo(mn, cn, b"still here")


@pytest.mark.parametrize("first", [0, 1, 4, 5, 6, 64, 255])
def test_garbage_at_every_port_is_dropped_and_hardly_answered(first: int) -> None:
    world, mn, cn, _ = a_recorded_world(behind_nats=False)
    entropy = SeededEntropy(f"garbage {first}")
    answers: list[Packet] = []
    world.internet.core.taps.append(
        lambda packet: answers.append(packet) if packet.destination == ATTACKER else None
    )
    sent = 0
    for process in processes(world):
        for place in (process.host.source_for(4), process.host.source_for(6)):
            assert place is not None
            if place[1].version != ATTACKER.version:
                continue
            for _ in range(200):
                noise = entropy.getrandbits(8 * 1200).to_bytes(1200)
                payload = bytes((first,)) + noise[: entropy.randrange(1199)]
                sent += len(payload)
                target = Endpoint(place[1], process.port)
                world.internet.inject(Packet(Transport.UDP, ATTACKER, target, payload))
    world.run_for(2)

    assert sum(len(packet.payload) for packet in answers) <= sent
    assert world.echo(mn, cn, b"still here")


def test_a_stolen_capsule_sent_from_elsewhere_does_not_take_the_tunnel_away() -> None:
    """The attacker on the path is faster: its copy arrives first, from its own address."""
    world, mn, cn, _ = a_recorded_world(behind_nats=False)
    stolen: list[Packet] = []

    def steal(packet: Packet) -> None:
        if packet.payload[:1] == b"\x04" and packet.source != ATTACKER and not stolen:
            stolen.append(packet)
            world.internet.inject(packet.come_from(ATTACKER))

    world.internet.core.taps.append(steal)
    world.echo(mn, cn, b"stolen")
    world.run_for(10)

    assert stolen
    assert world.echo(mn, cn, b"still here")
    remotes = [peer.remote for peer in cn.machine.peers()]
    assert ATTACKER not in remotes


def a_recorded_world(*, behind_nats: bool) -> tuple[World, SimNode, SimNode, list[Packet]]:
    """Two nodes with a tunnel, and every packet that crossed the core until now."""
    world = World()
    recorded: list[Packet] = []
    world.internet.core.taps.append(recorded.append)
    internet = world.internet
    org, net = world.organisation(), world.organisation("example.net")
    homes = [internet.home(name, HARD) if behind_nats else None for name in ("mn home", "cn home")]
    mn = world.node("laptop.alice", org, homes[0])
    cn = world.node("pc.bob", net, homes[1])
    world.connect(mn, cn)
    assert world.echo(mn, cn, b"hello")
    world.run_for(3)
    return world, mn, cn, list(recorded)


def standing(world: World, mn: SimNode, cn: SimNode) -> object:
    """What an attacker would like to change."""
    registered = {
        domain: [
            (node.fqdn, node.sequence, node.mapped, node.instance)
            for node in organisation.registrations.nodes.values()
        ]
        for domain, organisation in world.organisations.items()
    }
    paths = [[(p.fqdn, p.remote, p.relayed) for p in n.machine.peers()] for n in (mn, cn)]
    ends = [len(n.events_of(TunnelClosed)) + len(n.events_of(HandoverDone)) for n in (mn, cn)]
    return registered, paths, ends


def is_ours(packet: Packet) -> bool:
    """Signalling and capsules: DNS and TLS protect themselves, and are not modelled bit by bit."""
    dns = DNS_PORT in (packet.source.port, packet.destination.port)
    return packet.transport is Transport.UDP and not dns


def processes(world: World) -> Iterator[Process]:
    for organisation in world.organisations.values():
        yield organisation.account
        yield organisation.coordinator
        yield from organisation.relays
    yield from world.nodes.values()


def mangle(payload: bytes, entropy: SeededEntropy) -> Iterator[bytes]:
    """Cut, lengthened, and with single bits flipped."""
    yield payload[: entropy.randrange(len(payload))]
    yield payload + b"\0"
    for _ in range(4):
        place = entropy.randrange(len(payload))
        flipped = payload[place] ^ (1 << entropy.randrange(8))
        yield payload[:place] + bytes((flipped,)) + payload[place + 1 :]
