"""Nodes of two domains, wherever they are, reach each other by name with unmodified programs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from ntmobile.lab import AUTO, Behaviour, Filtering, Mapping, Nat, Ports
from ntmobile.lab.ntm import NtmNode, World
from ntmobile.lab.waiting import wait_until
from tests.system.programs import HELLO, Programs, dig, fails, fetch, getent, iperf, ping

pytestmark = [pytest.mark.lab, pytest.mark.paper("Abstract", "Overview", "Implementation models")]

EASY = Behaviour(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
SYMMETRIC = Behaviour(
    Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT, Ports.RANDOM
)
PLACES = ("global", "easy", "symmetric", "ipv6")
"""On the internet; behind an endpoint-independent NAT; behind a symmetric one; IPv6 only."""
PAIRS = [(here, there) for here in PLACES for there in PLACES] + [("easy", "same")]
IDS = [f"{here}-to-{there}" for here, there in PAIRS]
VIRTUAL_IPV4, VIRTUAL_IPV6 = IPv4Network("100.64.0.0/10"), IPv6Network("fd00::/8")
A_MOMENT_S = 2
CLOSED = """
table ip closed {
  chain forward { type filter hook forward priority -10; policy drop; }
}
"""


@dataclass
class Matrix:
    """One node of example.org and one of example.net in every place."""

    programs: Programs
    nats: dict[str, Nat]
    here: dict[str, NtmNode]
    there: dict[str, NtmNode]


@pytest.fixture(scope="module")
def matrix(world: World) -> Matrix:
    org, net = world.federation("ntm.example.org", "ntm.example.net")
    lab, internet = world.lab, world.internet
    nats = {
        f"{side}-{name}": lab.nat(f"{side}-{name}-nat", internet, behaviour)
        for side in ("a", "b")
        for name, behaviour in (("easy", EASY), ("symmetric", SYMMETRIC))
    }

    def node(side: str, place: str) -> NtmNode:
        user, organisation = {"a": ("alice", org), "b": ("bob", net)}[side]
        network = nats["a-easy"] if place == "same" else nats.get(f"{side}-{place}", internet)
        ipv4 = None if place == "ipv6" else AUTO
        made = world.machine(f"{side}-{place}", user, organisation, network, ipv4=ipv4)
        if ipv4 is None:
            made.host.resolv_conf(*(each for each in world.dns.addresses if ":" in each))
        return made

    here = {place: node("a", place) for place in PLACES}
    there = {place: node("b", place) for place in (*PLACES, "same")}
    world.bring_up(*here.values(), *there.values())
    served = Programs(world.directory / "served")
    for each in there.values():
        served.serve(each.host)
    return Matrix(served, nats, here, there)


def is_reachable(here: str, there: str) -> bool:
    """Whether one end can be reached by the other in a family that both have."""
    if "ipv6" in (here, there):
        return {here, there} <= {"ipv6", "global"}
    return "global" in (here, there) or there == "same"


Connects = Callable[[Matrix, NtmNode, NtmNode], None]


def curl_4(_: Matrix, mn: NtmNode, cn: NtmNode) -> None:
    assert fetch(mn, cn, "-4") == HELLO


def curl_6(_: Matrix, mn: NtmNode, cn: NtmNode) -> None:
    assert fetch(mn, cn, "-6") == HELLO


def ssh_4(matrix: Matrix, mn: NtmNode, cn: NtmNode) -> None:
    command = matrix.programs.ssh(cn.fqdn, "echo", "$SSH_CLIENT", family="-4")
    client = mn.host.run(command).stdout.split()[0]
    assert IPv4Address(client) in VIRTUAL_IPV4


def ssh_6(matrix: Matrix, mn: NtmNode, cn: NtmNode) -> None:
    command = matrix.programs.ssh(cn.fqdn, "echo", "$SSH_CLIENT", family="-6")
    client = mn.host.run(command).stdout.split()[0]
    assert IPv6Address(client) in VIRTUAL_IPV6


def ping_4(_: Matrix, mn: NtmNode, cn: NtmNode) -> None:
    assert "1 received, 0% packet loss" in ping(mn, cn, "-4")


def ping_6(_: Matrix, mn: NtmNode, cn: NtmNode) -> None:
    assert "1 received, 0% packet loss" in ping(mn, cn, "-6")


def iperf_4(_: Matrix, mn: NtmNode, cn: NtmNode) -> None:
    assert iperf(mn, cn, "-4", "--bytes", "1M")["bytes"] > 0


def iperf_6(_: Matrix, mn: NtmNode, cn: NtmNode) -> None:
    assert iperf(mn, cn, "-6", "--bytes", "1M")["bytes"] > 0


def dig_and_getent(_: Matrix, mn: NtmNode, cn: NtmNode) -> None:
    ipv4, ipv6 = dig(mn, cn.fqdn, "A"), dig(mn, cn.fqdn, "AAAA")
    peer = mn.peer(cn)
    assert (ipv4, ipv6) == ([peer["virtual_ipv4"]], [peer["virtual_ipv6"]])
    assert (getent(mn, cn.fqdn, "-4"), getent(mn, cn.fqdn, "-6")) == (set(ipv4), set(ipv6))


PROGRAMS = (curl_4, curl_6, ping_4, ping_6, ssh_4, ssh_6, iperf_4, iperf_6, dig_and_getent)


@pytest.mark.parametrize(("here", "there"), PAIRS, ids=IDS)
@pytest.mark.parametrize("connects", PROGRAMS, ids=lambda connects: connects.__name__)
def test_a_program_reaches_the_peer_by_its_name(
    matrix: Matrix, here: str, there: str, connects: Connects
) -> None:
    connects(matrix, matrix.here[here], matrix.there[there])


@pytest.mark.parametrize(("here", "there"), [pair for pair in PAIRS if is_reachable(*pair)])
def test_no_relay_is_used_where_one_end_can_be_reached(
    matrix: Matrix, here: str, there: str
) -> None:
    mn, cn = matrix.here[here], matrix.there[there]
    fetch(mn, cn, "-4")

    # On a busy machine RS may be asked first; it does not stay so.
    wait_until(lambda: mn.peer(cn)["path"]["kind"] == "direct", "the direct path")


def test_nobody_gets_through_a_closed_nat_and_all_do_when_it_opens(matrix: Matrix) -> None:
    mn, nat = matrix.here["easy"], matrix.nats["a-easy"]
    peers = [matrix.there[place] for place in ("global", "symmetric")]
    assert [fetch(mn, cn, "-4") for cn in peers] == [HELLO, HELLO]

    nat.nft(CLOSED)
    closed = [fails(partial(fetch, mn, cn, "-4", patience_s=A_MOMENT_S)) for cn in peers]
    nat.nft("delete table ip closed")

    assert all(closed)
    assert [fetch(mn, cn, "-4") for cn in peers] == [HELLO, HELLO]


def test_nobody_gets_through_without_a_route(matrix: Matrix) -> None:
    mn, cn = matrix.here["global"], matrix.there["easy"]
    assert fetch(mn, cn, "-4") == HELLO

    mn.host.set_carrier(False)
    gone = fails(lambda: fetch(mn, cn, "-4", patience_s=A_MOMENT_S))
    mn.host.set_carrier(True)

    assert gone
    assert fetch(mn, cn, "-4") == HELLO
