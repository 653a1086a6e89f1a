import itertools
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from ntmobile.sim.entropy import SeededEntropy
from ntmobile.sim.nat import FIRST_PORT, Nat, NatBehaviour
from ntmobile.sim.packet import Packet, Transport
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.nat import Behaviour, PortAssignment

OUTER = IPv4Address("203.0.113.7")
INNER = Endpoint("192.168.1.2", 40000)
NEIGHBOUR = Endpoint("192.168.1.3", 40000)
FAR = Endpoint("198.51.100.1", 500)
FAR_OTHER_PORT = Endpoint("198.51.100.1", 501)
FAR_OTHER_HOST = Endpoint("198.51.100.2", 500)
T0 = Instant(0)

EI = Behaviour.ENDPOINT_INDEPENDENT
AD = Behaviour.ADDRESS_DEPENDENT
APD = Behaviour.ADDRESS_AND_PORT_DEPENDENT


@pytest.mark.parametrize(
    ("mapping", "same_for_port", "same_for_host"),
    [(EI, True, True), (AD, True, False), (APD, False, False)],
)
def test_a_mapping_is_reused_as_far_as_its_behaviour_says(
    mapping: Behaviour, same_for_port: bool, same_for_host: bool
) -> None:
    nat = a_nat(mapping=mapping)

    first = sent(nat, FAR)

    assert (sent(nat, FAR_OTHER_PORT) == first) is same_for_port
    assert (sent(nat, FAR_OTHER_HOST) == first) is same_for_host
    assert sent(nat, FAR) == first


@pytest.mark.parametrize(
    ("filtering", "lets_port_in", "lets_host_in"),
    [(EI, True, True), (AD, True, False), (APD, False, False)],
)
def test_a_stranger_gets_in_as_far_as_the_filter_says(
    filtering: Behaviour, lets_port_in: bool, lets_host_in: bool
) -> None:
    nat = a_nat(filtering=filtering)
    outer = sent(nat, FAR)

    assert answered(nat, FAR, outer)
    assert answered(nat, FAR_OTHER_PORT, outer) is lets_port_in
    assert answered(nat, FAR_OTHER_HOST, outer) is lets_host_in


def test_an_unmapped_port_lets_nobody_in() -> None:
    nat = a_nat()
    outer = sent(nat, FAR)

    assert not answered(nat, FAR, Endpoint(OUTER, outer.port + 1))
    assert nat.refused["no mapping"] == 1


def test_port_preservation_gives_the_second_inner_host_another_port() -> None:
    nat = a_nat()

    assert sent(nat, FAR).port == INNER.port
    assert sent(nat, FAR, inner=NEIGHBOUR).port == INNER.port + 1


def test_sequential_ports_follow_one_another() -> None:
    nat = a_nat(mapping=APD, ports=PortAssignment.SEQUENTIAL)

    ports = [sent(nat, Endpoint(FAR.host, port)).port for port in range(1, 5)]

    steps = {(b - a) % (65536 - FIRST_PORT) for a, b in itertools.pairwise(ports)}
    assert steps == {1}


def test_random_ports_do_not_follow_one_another() -> None:
    nat = a_nat(mapping=APD, ports=PortAssignment.RANDOM)

    ports = [sent(nat, Endpoint(FAR.host, port)).port for port in range(1, 50)]

    assert len(set(ports)) == len(ports)
    assert min(ports) >= FIRST_PORT
    assert max(ports) - min(ports) > 30_000


def test_an_idle_mapping_dies_and_the_next_packet_gets_a_new_one() -> None:
    nat = a_nat(lifetime_s=30, ports=PortAssignment.RANDOM)
    outer = sent(nat, FAR)
    late = Instant(31 * SECOND)

    assert not answered(nat, FAR, outer, late)
    assert sent(nat, FAR, now=late) != outer


def test_traffic_inwards_refreshes_only_where_the_nat_says_so() -> None:
    for refreshes in (False, True):
        nat = a_nat(lifetime_s=30, inbound_refreshes=refreshes)
        outer = sent(nat, FAR)
        assert answered(nat, FAR, outer, Instant(20 * SECOND))

        assert answered(nat, FAR, outer, Instant(40 * SECOND)) is refreshes


def test_an_age_limit_kills_a_busy_mapping() -> None:
    nat = a_nat(age_limit_s=60)
    outer = sent(nat, FAR)
    for second in range(0, 60, 10):
        assert sent(nat, FAR, now=Instant(second * SECOND)) == outer

    assert not answered(nat, FAR, outer, Instant(61 * SECOND))


def test_tcp_mappings_outlive_udp_ones() -> None:
    nat = a_nat()
    outer = sent(nat, FAR, transport=Transport.TCP)
    hour = Instant(3600 * SECOND)

    inward = Packet(Transport.TCP, FAR, outer, b"")

    assert nat.inbound(inward, hour) is not None


def test_a_hairpin_shows_the_outer_source_and_can_be_off() -> None:
    for hairpin in (True, False):
        nat = a_nat(hairpin=hairpin)
        mine, theirs = sent(nat, FAR), sent(nat, FAR, inner=NEIGHBOUR)

        turned = nat.hairpin(Packet(Transport.UDP, INNER, theirs, b""), T0)

        assert (turned is not None) is hairpin
        if turned is not None:
            assert (turned.source, turned.destination) == (mine, NEIGHBOUR)


def test_a_reboot_forgets_and_may_change_the_address() -> None:
    nat = a_nat()
    outer = sent(nat, FAR)

    nat.reboot(IPv4Address("203.0.113.8"))

    assert not answered(nat, FAR, outer)
    assert sent(nat, FAR).host == IPv4Address("203.0.113.8")


def test_a_full_table_refuses_and_makes_room_when_mappings_die() -> None:
    nat = a_nat(mapping=APD, capacity=2, lifetime_s=30)
    for port in (1, 2):
        sent(nat, Endpoint(FAR.host, port))
    third = Packet(Transport.UDP, INNER, Endpoint(FAR.host, 3), b"")

    assert nat.outbound(third, T0) is None
    assert nat.refused["table full"] == 1
    assert nat.outbound(third, Instant(31 * SECOND)) is not None
    assert len(nat) == 1


def a_nat(**changes: object) -> Nat:
    return Nat(OUTER, replace(NatBehaviour(), **changes), SeededEntropy(1))  # type: ignore[arg-type]


def sent(
    nat: Nat,
    to: Endpoint,
    *,
    inner: Endpoint = INNER,
    now: Instant = T0,
    transport: Transport = Transport.UDP,
) -> Endpoint:
    packet = nat.outbound(Packet(transport, inner, to, b"x"), now)
    assert packet is not None
    assert packet.source.host == nat.address
    return packet.source


def answered(nat: Nat, far: Endpoint, outer: Endpoint, now: Instant = T0) -> bool:
    packet = nat.inbound(Packet(Transport.UDP, far, outer, b"y"), now)
    assert packet is None or packet.destination == INNER
    return packet is not None
