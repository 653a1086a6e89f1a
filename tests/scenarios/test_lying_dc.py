"""A DC without the CA's key can never impersonate: each lie is refused, and named.

The DC here knows Kntmdc of its nodes, Ktmp and Ktun of every tunnel, and carries every word that
one node hears of another. Source: paper, Node authentication. Ours: docs/protocol.md section 4.
"""

from collections.abc import Callable

import msgspec
import pytest
from tests.keys.authorities import authority, der_of
from tests.scenarios.lying import EVIL, AboutPeer, certified, corrupt, own_keys, own_tunnel_key
from tests.scenarios.lying import stripped as strip

from ntmobile.keys.node_certificates import issue
from ntmobile.proto.node.credentials import Certificates
from ntmobile.proto.node.events import NameRefused, NameResolved, PeerRefused
from ntmobile.sim.internet import EPOCH_S
from ntmobile.sim.nat import HARD
from ntmobile.sim.node import NodeOptions, SimNode
from ntmobile.sim.world import World
from ntmobile.wire.certificate import fold
from ntmobile.wire.datagram import Signal
from ntmobile.wire.direction import Mode, RouteDirection
from ntmobile.wire.identity import Authentication, PublicIdentity
from ntmobile.wire.registration import Reason

pytestmark = pytest.mark.paper("Node authentication")

ORG, NET = "example.org", "example.net"
LAPTOP, PC = f"laptop.alice.{ORG}", f"pc.bob.{ORG}"
Change = Callable[[PublicIdentity], PublicIdentity]


def by_a_ca_of_the_operators_own(fqdn: str, domain: str = ORG) -> Change:
    """A certificate for that name, over the operator's keys, by a CA that bears the right name."""
    der = issue(authority(domain, 66), fqdn, EVIL.public.device, serial=1, now_s=EPOCH_S)
    return certified(fold(der, fqdn, EVIL.public.device))


LIES: dict[str, tuple[Change, Reason]] = {
    "its own keys beside the peer's certificate": (own_keys, Reason.CERTIFICATE_FORGED),
    "its own tunnel key only": (own_tunnel_key, Reason.IDENTITY_CHANGED),
    "no certificate": (strip, Reason.CERTIFICATE_MISSING),
    "its own keys and no certificate": (certified(b""), Reason.CERTIFICATE_MISSING),
    "a certificate by a CA of its own": (
        by_a_ca_of_the_operators_own(PC),
        Reason.CERTIFICATE_FORGED,
    ),
    "a certificate by another domain's CA": (
        by_a_ca_of_the_operators_own(PC, NET),
        Reason.CERTIFICATE_AUTHORITY,
    ),
}


@pytest.mark.parametrize("behind_nats", [False, True], ids=["direct", "relayed"])
@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_a_peer_never_met_is_refused_and_named(lie: str, behind_nats: bool) -> None:
    world, laptop, pc = two_nodes(behind_nats=behind_nats)
    change, reason = LIES[lie]
    corrupt(world.organisations[ORG], AboutPeer(change, to=LAPTOP))

    answer = world.resolve(laptop, pc.fqdn)

    assert isinstance(answer, NameRefused)
    assert answer.reason is reason
    assert PeerRefused(pc.fqdn, reason) in laptop.events_of(PeerRefused)
    assert not laptop.machine.peers()


@pytest.mark.parametrize("liar", [ORG, NET], ids=["DCmn", "DCcn"])
@pytest.mark.parametrize("met", [False, True], ids=["never met", "met before"])
def test_of_two_dcs_neither_can_put_its_own_keys_in_a_nodes_place(liar: str, met: bool) -> None:
    """Each carries all that the two ends hear of each other; the CAs are told by the ASes."""
    world = World(seed=1)
    made = [world.organisation(domain, certificates=True) for domain in (ORG, NET)]
    laptop, pc = world.node("laptop.alice", made[0]), world.node("pc.bob", made[1])
    if met:
        world.connect(laptop, pc)
        laptop.call(lambda now: laptop.machine.close_tunnel(pc.fqdn, now))
    corrupt(world.organisations[liar], AboutPeer(own_keys))

    for node, peer in ((laptop, pc), (pc, laptop)):
        world.resolve(node, peer.fqdn)
        world.run_for(20)

        assert not [view for view in node.machine.peers() if view.fqdn == peer.fqdn]
        assert node.state.pins.get(peer.fqdn) is None or met
    named = {event.reason for node in (laptop, pc) for event in node.events_of(PeerRefused)}
    assert named <= {Reason.CERTIFICATE_FORGED, Reason.IDENTITY_CHANGED, Reason.TOLD_DIFFERENTLY}
    assert named


def test_a_dc_that_tells_the_truth_builds_the_tunnel_and_both_ends_know_the_certificate() -> None:
    world, laptop, pc = two_nodes()
    corrupt(world.organisations[ORG], AboutPeer(lambda identity: identity))

    assert isinstance(world.connect(laptop, pc), NameResolved)

    assert [known(laptop, pc), known(pc, laptop)] == [Authentication.CERTIFICATE] * 2
    assert world.echo(laptop, pc, b"hello")


def test_with_a_ca_that_gives_no_certificates_the_same_lie_is_believed() -> None:
    """The negative twin: it is the CA that makes the difference, and the DC is not it."""
    world, laptop, pc = two_nodes(certificates=False)
    corrupt(world.organisations[ORG], AboutPeer(certified(b""), to=LAPTOP))

    world.resolve(laptop, pc.fqdn)

    assert laptop.state.pins[pc.fqdn].device == EVIL.public.device
    # What stops it is only that the real peer answers, as it would not on the operator's network.
    assert laptop.events_of(PeerRefused) == [PeerRefused(pc.fqdn, Reason.TOLD_DIFFERENTLY)]


def test_a_dc_that_has_the_ca_key_is_believed_of_a_peer_never_met_and_not_of_one_that_was() -> None:
    """The claim's other half: with the key it can, and a peer that was met shows it."""
    world, laptop, pc = two_nodes()
    stranger = world.node("desk.bob", world.organisations[ORG])
    world.connect(laptop, pc)
    for node, believed in ((pc, False), (stranger, True)):
        corrupt(world.organisations[ORG], AboutPeer(with_the_ca_key(world, node), to=LAPTOP))
        laptop.call(lambda now, node=node: laptop.machine.close_tunnel(node.fqdn, now))

        world.resolve(laptop, node.fqdn)

        device = laptop.state.pins[node.fqdn].device
        assert (device == EVIL.public.device) is believed
    assert laptop.events_of(PeerRefused)[0] == PeerRefused(pc.fqdn, Reason.IDENTITY_CHANGED)


def test_with_certificates_of_a_ca_outside_the_domain_not_even_the_domains_ca_key_helps() -> None:
    world, _, pc = two_nodes()
    outside = authority(ORG, 77)
    careful = world.node(
        "careful.alice", world.organisations[ORG], options=NodeOptions(trusted=(der_of(outside),))
    )
    corrupt(world.organisations[ORG], AboutPeer(with_the_ca_key(world, pc), to=careful.fqdn))

    answer = world.resolve(careful, pc.fqdn)

    assert isinstance(answer, NameRefused)
    assert answer.reason is Reason.CERTIFICATE_FORGED


@pytest.mark.parametrize("behind_nats", [False, True], ids=["direct", "relayed"])
def test_a_certificate_taken_from_one_end_only_is_found_out_by_the_handshake(
    behind_nats: bool,
) -> None:
    """Where no CA is known the strip itself is not seen; what both ends were told differs."""
    world, laptop, pc = two_nodes(behind_nats=behind_nats, certificates=False)
    given = issue(authority(ORG), PC, pc.state.identity.public.device, serial=1, now_s=EPOCH_S)
    pc.state.certificates = Certificates(given=given)
    pc = world.restart(pc)
    world.await_registration(pc)
    corrupt(world.organisations[ORG], AboutPeer(strip, to=LAPTOP))

    world.resolve(laptop, pc.fqdn)
    world.run_for(30)

    told = [event.reason for node in (laptop, pc) for event in node.events_of(PeerRefused)]
    assert set(told) == {Reason.TOLD_DIFFERENTLY}
    assert not laptop.machine.peers()
    assert not pc.machine.peers()


def test_an_end_that_is_told_it_showed_no_certificate_refuses_by_that_name() -> None:
    world, laptop, pc = two_nodes()

    def unshown(message: Signal) -> Signal:
        if isinstance(message, RouteDirection) and message.fqdn == PC:
            return msgspec.structs.replace(message, shown=b"")
        return message

    corrupt(world.organisations[ORG], unshown)

    answer = world.resolve(laptop, pc.fqdn)

    assert isinstance(answer, NameRefused)
    assert answer.reason is Reason.CERTIFICATE_STRIPPED


def test_a_dc_cannot_direct_a_tunnel_that_ktmp_alone_protects() -> None:
    world, laptop, pc = two_nodes(certificates=False)

    def weaker(message: Signal) -> Signal:
        if isinstance(message, RouteDirection):
            return msgspec.structs.replace(message, mode=Mode.NNPSK0)
        return message

    corrupt(world.organisations[ORG], weaker)

    answer = world.resolve(laptop, pc.fqdn)

    assert isinstance(answer, NameRefused)
    assert answer.reason is Reason.NOT_ALLOWED


def test_a_peer_that_had_a_certificate_is_refused_without_one() -> None:
    world, laptop, pc = two_nodes()
    world.connect(laptop, pc)
    laptop.state.authorities.clear()
    laptop = world.restart(laptop)
    world.await_registration(laptop)
    corrupt(world.organisations[ORG], AboutPeer(strip, to=LAPTOP))

    answer = world.resolve(laptop, pc.fqdn)

    assert isinstance(answer, NameRefused)
    assert answer.reason is Reason.CERTIFICATE_WITHHELD


def two_nodes(
    *, behind_nats: bool = False, certificates: bool = True
) -> tuple[World, SimNode, SimNode]:
    world = World(seed=1)
    org = world.organisation(ORG, certificates=certificates)
    homes = [world.internet.home(name, HARD) if behind_nats else None for name in ("a", "b")]
    laptop, pc = world.node("laptop.alice", org, homes[0]), world.node("pc.bob", org, homes[1])
    return world, laptop, pc


def with_the_ca_key(world: World, node: SimNode) -> Change:
    ca = world.organisations[ORG].accounts.ca
    assert ca is not None
    der = issue(ca, node.fqdn, EVIL.public.device, serial=99, now_s=EPOCH_S)
    return certified(fold(der, node.fqdn, EVIL.public.device))


def known(node: SimNode, peer: SimNode) -> Authentication:
    (view,) = [view for view in node.machine.peers() if view.fqdn == peer.fqdn]
    return view.authenticated
