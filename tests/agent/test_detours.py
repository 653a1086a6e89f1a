"""Ours: docs/protocol.md section 3."""

from ipaddress import IPv6Network

from ntmobile.agent.detours import Detours, only_ipv6, with_ipv4
from ntmobile.proto.node.events import LocalAddress
from ntmobile.runtime.nat64 import Prefix
from ntmobile.wire.endpoint import Endpoint

RS, OTHER = Endpoint("203.0.113.1", 4331), Endpoint("203.0.113.2", 4331)
HERE, TOO = Endpoint("127.0.0.1", 40001), Endpoint("127.0.0.1", 40002)
SIX = LocalAddress(Endpoint("2001:db8::7", 5), 2, 1500, preferred=False)
BEST = LocalAddress(Endpoint("2001:db8::8", 5), 3, 1400, preferred=True)
FOUR = LocalAddress(Endpoint("192.0.2.7", 5), 2, 1500, preferred=True)


def test_what_no_detour_leads_to_is_where_it_says() -> None:
    detours = Detours()

    assert detours.outward(RS) == RS
    assert detours.inward(RS, 3) == (RS, 3)


def test_a_detour_hides_the_way_in_both_directions() -> None:
    detours, changed = Detours(), list[Endpoint]()
    detours.on_change = changed.append

    detours.lead(RS, HERE)

    assert detours.outward(RS) == HERE
    assert detours.inward(HERE, 1) == (RS, 0), "it came by no uplink"
    assert detours.outward(OTHER) == OTHER
    assert detours.translate(RS) == RS, "the server itself stays where it is"
    assert changed == [RS]


def test_another_way_takes_the_place_of_the_one_before_and_a_dropped_one_is_forgotten() -> None:
    detours = Detours()
    detours.lead(RS, HERE)

    detours.lead(RS, TOO)
    assert detours.inward(HERE, 1) == (HERE, 1)
    assert detours.outward(RS) == TOO
    detours.drop(RS)
    detours.drop(RS)

    assert detours.outward(RS) == RS
    assert detours.inward(TOO, 1) == (TOO, 1)


def test_behind_nat64_ipv4_is_inside_ipv6_and_nobody_above_sees_it() -> None:
    detours = Detours()
    detours.prefix = Prefix(IPv6Network("64:ff9b::/96"))

    there = detours.outward(RS)

    assert there == Endpoint("64:ff9b::cb00:7101", 4331)
    assert detours.inward(there, 3) == (RS, 3)
    detours.lead(RS, HERE)
    assert detours.outward(RS) == HERE


def test_a_machine_with_ipv6_only_is_lent_an_ipv4_address_on_its_best_uplink() -> None:
    assert only_ipv6([SIX, BEST])
    assert not only_ipv6([SIX, FOUR])
    assert not only_ipv6([])

    *kept, lent = with_ipv4((SIX, BEST))

    assert kept == [SIX, BEST]
    assert lent == LocalAddress(Endpoint("192.0.0.2", 5), 3, 1380, preferred=True)
