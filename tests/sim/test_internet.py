from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest

from ntmobile.errors import StateError
from ntmobile.sim.gateway import Firewall
from ntmobile.sim.host import SimHost
from ntmobile.sim.internet import ONE_WAY, Internet
from ntmobile.sim.nat import HARD, NatBehaviour
from ntmobile.sim.network import Drop
from ntmobile.sim.packet import Packet, Transport
from ntmobile.sim.quality import MILLISECOND, Quality
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint

PORT = 700


def test_two_hosts_on_the_core_are_one_delay_apart() -> None:
    internet = Internet()
    a, b = Mouth(internet.host("a")), Mouth(internet.host("b"))

    a.say(b.at(4), b"hello")
    internet.calendar.step()

    assert b.heard == [(a.at(4), b"hello")]
    assert internet.now == ONE_WAY.delay_ns


def test_a_node_behind_a_nat_is_seen_from_its_outer_address_and_can_be_answered() -> None:
    internet = Internet()
    inside, server = (
        Mouth(internet.host("n", internet.home("home"))),
        Mouth(internet.host("s")),
    )

    inside.say(server.at(4), b"ask")
    run(internet)
    seen_from, _ = server.heard[0]
    server.say(seen_from, b"answer")
    run(internet)

    assert seen_from.host != inside.at(4).host
    assert inside.heard == [(server.at(4), b"answer")]


def test_nobody_reaches_a_private_address_from_outside() -> None:
    internet = Internet()
    inside, server = (
        Mouth(internet.host("n", internet.home("home"))),
        Mouth(internet.host("s")),
    )

    server.say(inside.at(4), b"knock")
    run(internet)

    assert inside.heard == []
    assert internet.drops(Drop.NO_ROUTE) == 1


def test_a_home_behind_a_carrier_is_translated_twice() -> None:
    internet = Internet()
    carrier = internet.carrier("isp", NatBehaviour())
    inside = Mouth(internet.host("n", internet.home("home", outer=carrier)))
    server = Mouth(internet.host("s"))

    inside.say(server.at(4), b"ask")
    run(internet)
    server.say(server.heard[0][0], b"answer")
    run(internet)

    nat = internet.gateways["isp"].nat
    assert nat is not None
    assert server.heard[0][0].host == nat.address
    assert inside.heard == [(server.at(4), b"answer")]


@pytest.mark.parametrize("hairpin", [True, False])
def test_neighbours_meet_by_their_outer_addresses_only_with_hairpinning(hairpin: bool) -> None:
    internet = Internet()
    home = internet.home("home", NatBehaviour(hairpin=hairpin))
    a, b = Mouth(internet.host("a", home)), Mouth(internet.host("b", home))
    server = Mouth(internet.host("s"))
    b.say(server.at(4), b"where am I")
    run(internet)
    outer_b, _ = server.heard[0]

    a.say(outer_b, b"hello")
    run(internet)

    assert bool(b.heard) is hairpin


def test_a_firewall_lets_in_only_what_was_asked_for() -> None:
    internet = Internet()
    home = internet.home("home", ipv6=True, firewall=Firewall())
    inside, server, stranger = (
        Mouth(internet.host("n", home)),
        Mouth(internet.host("s")),
        Mouth(internet.host("x")),
    )
    inside.say(server.at(6), b"ask")
    run(internet)

    server.say(inside.at(6), b"answer")
    stranger.say(inside.at(6), b"knock")
    run(internet)

    assert inside.heard == [(server.at(6), b"answer")]


def test_udp_can_be_blocked_while_tcp_passes() -> None:
    internet = Internet()
    office = internet.home("office", blocked=(Transport.UDP,))
    inside, server = internet.host("n", office), internet.host("s")
    heard = list[bytes]()
    server.listen(Transport.TCP, 443, lambda _source, data, _number: heard.append(data))
    deaf = Mouth(internet.host("t"))

    inside.send(Transport.TCP, 50000, at(server, 4, 443), b"tcp")
    inside.send(Transport.UDP, 50000, deaf.at(4), b"udp")
    run(internet)

    assert heard == [b"tcp"]
    assert deaf.heard == []
    assert internet.drops(Drop.BLOCKED) == 1


def test_loss_duplication_and_reordering_come_about_as_often_as_asked() -> None:
    core = Quality(delay_ns=MILLISECOND, loss=0.2, duplication=0.1, reordering=0.1)
    internet = Internet(3, core)
    a, b = Mouth(internet.host("a")), Mouth(internet.host("b"))

    for number in range(2000):
        internet.calendar.after(number * MILLISECOND, lambda n=number: a.say(b.at(4), b"%d" % n))
    run(internet)

    numbers = [int(data) for _, data in b.heard]
    assert 1500 <= len(set(numbers)) <= 1700
    assert 120 <= len(numbers) - len(set(numbers)) <= 200
    assert numbers != sorted(numbers)


def test_a_packet_larger_than_the_mtu_vanishes() -> None:
    internet = Internet(0, Quality(mtu=1400))
    a, b = Mouth(internet.host("a")), Mouth(internet.host("b"))

    a.say(b.at(4), bytes(1372))
    a.say(b.at(4), bytes(1373))
    a.say(b.at(6), bytes(1352))
    a.say(b.at(6), bytes(1353))
    run(internet)

    assert [len(data) for _, data in b.heard] == [1372, 1352]


def test_a_cut_parts_two_hosts_until_it_is_mended() -> None:
    internet = Internet()
    a, b, c = (Mouth(internet.host(name)) for name in "abc")
    internet.core.cut("a", "b")

    a.say(b.at(4), b"lost")
    a.say(c.at(4), b"arrives")
    run(internet)
    internet.core.mend("a", "b")
    a.say(b.at(4), b"again")
    run(internet)

    assert [data for _, data in b.heard] == [b"again"]
    assert [data for _, data in c.heard] == [b"arrives"]


def test_a_host_that_moves_keeps_its_port_and_loses_what_was_on_its_way() -> None:
    internet = Internet()
    old, new = internet.home("old"), internet.home("new", HARD)
    mover, server = Mouth(internet.host("n", old)), Mouth(internet.host("s"))
    mover.say(server.at(4), b"from the old place")
    run(internet)
    server.say(server.heard[0][0], b"too late")

    mover.host.unplug(next(iter(mover.host.interfaces)))
    assert not mover.say(server.at(4), b"no route")
    mover.host.plug(new)
    mover.say(server.at(4), b"from the new place")
    run(internet)

    assert [data for _, data in server.heard] == [b"from the old place", b"from the new place"]
    assert mover.heard == []


def test_a_rebooted_gateway_forgets_and_takes_its_new_address() -> None:
    internet = Internet()
    inside, server = (
        Mouth(internet.host("n", internet.home("home"))),
        Mouth(internet.host("s")),
    )
    inside.say(server.at(4), b"one")
    run(internet)
    before = server.heard[0][0]

    internet.gateways["home"].reboot(IPv4Address("203.0.113.250"))
    server.say(before, b"lost")
    inside.say(server.at(4), b"two")
    run(internet)

    assert server.heard[1][0].host == IPv4Address("203.0.113.250")
    assert inside.heard == []


def test_an_address_is_never_given_twice() -> None:
    internet = Internet()
    host = internet.host("a")

    with pytest.raises(StateError):
        internet.host("b").plug(internet.core, at(host, 4, 1).host)


def test_an_attackers_packet_arrives_with_the_source_it_claims() -> None:
    internet = Internet()
    victim = Mouth(internet.host("v"))
    claimed = Endpoint("192.0.2.66", 53)

    internet.inject(Packet(Transport.UDP, claimed, victim.at(4), b"forged"))
    run(internet)

    assert victim.heard == [(claimed, b"forged")]


@dataclass
class Mouth:
    """A program that says and remembers what it hears."""

    host: SimHost
    heard: list[tuple[Endpoint, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.host.listen(
            Transport.UDP, PORT, lambda source, data, _number: self.heard.append((source, data))
        )

    def at(self, version: int) -> Endpoint:
        return at(self.host, version, PORT)

    def say(self, to: Endpoint, data: bytes) -> bool:
        return self.host.send(Transport.UDP, PORT, to, data)


def at(host: SimHost, version: int, port: int) -> Endpoint:
    source = host.source_for(version)
    assert source is not None
    return Endpoint(source[1], port)


def run(internet: Internet) -> None:
    internet.calendar.run_to(Instant(internet.now + 10 * SECOND))
