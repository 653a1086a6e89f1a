"""A real network appears where virtual addresses are. Ours: docs/protocol.md section 5."""

from ipaddress import IPv4Network

from tests.proto.node.rig import Rig, connected
from tests.proto.parts import BOB

from ntmobile.proto.node.events import NameResolved, PeerPinned, Registered

CARRIER = (IPv4Network("100.64.0.0/10"),)


def test_a_node_that_is_registered_tells_its_new_address() -> None:
    rig = Rig().start()
    before = rig.of(Registered)[-1]

    rig.node.avoid(CARRIER, rig.now)
    rig.settle()

    now = rig.of(Registered)[-1]
    assert before.virtual_ipv4 in CARRIER[0]
    assert now.virtual_ipv4 not in CARRIER[0]
    assert now.virtual_ipv6 == before.virtual_ipv6
    assert rig.node.view().virtual_ipv4 == now.virtual_ipv4


def test_what_is_known_before_the_registration_counts_for_it() -> None:
    rig = Rig()
    rig.node.avoid(CARRIER, rig.now)

    rig.start()

    assert [r.virtual_ipv4 in CARRIER[0] for r in rig.of(Registered)] == [False]


def test_a_tunnel_keeps_the_addresses_its_connections_are_bound_to_until_it_ends() -> None:
    rig, _ = connected()
    known, own = rig.of(PeerPinned)[-1], rig.node.view().virtual_ipv4

    rig.node.avoid(CARRIER, rig.now)
    rig.settle()
    assert rig.of(PeerPinned)[-1] == known
    assert rig.node.view().virtual_ipv4 == own
    rig.node.close_tunnel(BOB, rig.now)
    rig.settle()

    moved = rig.of(PeerPinned)[-1]
    assert (known.ipv4 in CARRIER[0], moved.ipv4 in CARRIER[0]) == (True, False)
    assert (moved.device, moved.ipv6) == (known.device, known.ipv6)
    assert rig.of(Registered)[-1].virtual_ipv4 not in CARRIER[0]


def test_a_peer_met_afterwards_gets_an_address_that_hides_nothing() -> None:
    rig = Rig().start()
    rig.node.avoid(CARRIER, rig.now)

    connected(rig)

    assert rig.of(NameResolved)[-1].ipv4 not in CARRIER[0]


def test_where_every_pool_is_real_things_stay_as_they_are() -> None:
    rig, _ = connected()
    own = rig.node.view().virtual_ipv4

    rig.node.avoid((IPv4Network("0.0.0.0/0"),), rig.now)
    rig.node.close_tunnel(BOB, rig.now)
    rig.settle()

    assert rig.node.view().virtual_ipv4 == own
