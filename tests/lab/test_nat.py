from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise, product

import pytest

from ntmobile.lab import Behaviour, Filtering, Host, Internet, Lab, Mapping, Ports, unavailable
from ntmobile.lab.errors import LabError
from ntmobile.lab.prober import Prober, udp

pytestmark = pytest.mark.lab

BEHAVIOURS = list(product(Mapping, Filtering))
Crowd = tuple[Lab, Internet, Prober]
NAMES = [f"{mapping.value}-{filtering.value}" for mapping, filtering in BEHAVIOURS]


@pytest.fixture(scope="module")
def crowd() -> Iterator[Crowd]:
    """One internet for all the NATs that do not change it."""
    if (reason := unavailable()) is not None:
        pytest.skip(f"no lab here: {reason}")
    with Lab() as lab:
        net, prober = world(lab)
        with prober:
            yield lab, net, prober


@pytest.mark.parametrize("ports", Ports, ids=[ports.name for ports in Ports])
@pytest.mark.parametrize(("mapping", "filtering"), BEHAVIOURS, ids=NAMES)
def test_each_nat_behaves_as_it_is_named(
    crowd: Crowd, mapping: Mapping, filtering: Filtering, ports: Ports
) -> None:
    lab, net, prober = crowd
    number = len(lab.machines)
    nat = lab.nat(f"nat{number}", net, Behaviour(mapping, filtering, ports))
    laptop = lab.host(f"laptop{number}", nat)

    with udp(laptop) as one, udp(laptop) as two:
        assert prober.mapping(one) is mapping
        assert prober.filtering(two) is filtering


@pytest.mark.parametrize("filtering", Filtering)
def test_filtering_holds_for_the_port_that_was_used_and_for_no_other(
    lab: Lab, filtering: Filtering
) -> None:
    net, prober = world(lab)
    behaviour = Behaviour(Mapping.ADDRESS_AND_PORT_DEPENDENT, filtering)
    laptop = lab.host("laptop", lab.nat("home", net, behaviour))

    with prober, udp(laptop) as inside:
        to_first = prober.mapped(inside, 0)
        to_other = prober.mapped(inside, 2)
        admitted = prober.admitted(inside, to_first)

    assert to_first.port != to_other.port
    assert admitted[2] is (filtering is Filtering.ENDPOINT_INDEPENDENT)


def test_a_free_inside_port_is_preserved_and_a_taken_one_is_not(lab: Lab) -> None:
    net, prober = world(lab)
    home = lab.nat("home", net, Behaviour(ports=Ports.PRESERVED))
    laptop, tablet = lab.host("laptop", home), lab.host("tablet", home)

    with prober, udp(laptop, 5000) as first, udp(tablet, 5000) as second:
        ports = [prober.mapped(first).port, prober.mapped(second).port]

    assert ports[0] == 5000
    assert ports[1] != 5000


def test_sequential_ports_follow_each_other(lab: Lab) -> None:
    net, prober = world(lab)
    behaviour = Behaviour(Mapping.ADDRESS_AND_PORT_DEPENDENT, ports=Ports.SEQUENTIAL)
    laptop = lab.host("laptop", lab.nat("home", net, behaviour))

    with prober, udp(laptop) as inside:
        ports = [prober.mapped(inside, number).port for number in range(4)]

    assert ports == list(range(ports[0], ports[0] + 4))


def test_random_ports_differ_from_the_inside_port_and_from_each_other(lab: Lab) -> None:
    net, prober = world(lab)
    behaviour = Behaviour(Mapping.ADDRESS_AND_PORT_DEPENDENT, ports=Ports.RANDOM)
    laptop = lab.host("laptop", lab.nat("home", net, behaviour))

    with prober, udp(laptop, 5000) as inside:
        ports = [prober.mapped(inside, number).port for number in range(4)]

    steps = {later - earlier for earlier, later in pairwise(ports)}
    assert 5000 not in ports
    assert len(steps) == 3


def test_two_machines_inside_reach_each_other_without_the_nat(lab: Lab) -> None:
    home = lab.nat("home", lab.internet())
    one, other = lab.host("one", home), lab.host("other", home)

    seen = one.run(["ping", "-c", "1", "-W", "25", str(other.ipv4)], check=False).stdout

    assert "1 received" in seen
    assert home.connections() == 0


@pytest.mark.parametrize("mapping", Mapping)
def test_two_machines_inside_never_share_an_outside_port(lab: Lab, mapping: Mapping) -> None:
    net, prober = world(lab)
    home = lab.nat("home", net, Behaviour(mapping))
    laptop, tablet = lab.host("laptop", home), lab.host("tablet", home)

    with prober, udp(laptop, 5000) as first, udp(tablet, 5000) as second:
        seen = [prober.mapped(first, 0), prober.mapped(second, 2)]

    assert seen[0] != seen[1]


def test_an_idle_mapping_dies_after_its_lifetime_and_a_busy_one_lives(lab: Lab) -> None:
    net, prober = world(lab)
    behaviour = Behaviour(ports=Ports.RANDOM, udp_lifetime_s=4)
    home = lab.nat("home", net, behaviour)
    laptop = lab.host("laptop", home)

    with prober, udp(laptop) as idle, udp(laptop) as busy:
        before = prober.mapped(idle), prober.mapped(busy)
        while home.mappings() == 2:
            busy_port = prober.mapped(busy)
        after = prober.mapped(idle)

    assert busy_port == before[1]
    assert after != before[0]


@pytest.mark.parametrize("event", ["reboot", "expire"])
def test_a_nat_that_forgets_gives_another_port_and_refuses_the_old_one(
    lab: Lab, event: str
) -> None:
    net, prober = world(lab)
    behaviour = Behaviour(Mapping.ENDPOINT_INDEPENDENT, ports=Ports.RANDOM)
    home = lab.nat("home", net, behaviour)
    laptop = lab.host("laptop", home)

    with prober, udp(laptop) as inside:
        before = prober.mapped(inside)
        getattr(home, event)()
        mappings = home.mappings()
        after = prober.mapped(inside)

    assert mappings == 0
    assert after != before


def test_a_nat_can_come_back_with_another_address(lab: Lab) -> None:
    net, prober = world(lab)
    home = lab.nat("home", net)
    laptop = lab.host("laptop", home)

    with prober, udp(laptop) as inside:
        before = prober.mapped(inside)
        home.reboot(new_address=True)
        after = prober.mapped(inside)

    assert after.host == str(home.outside)
    assert after.host != before.host


def test_a_refused_packet_does_not_take_the_port_from_the_inside(lab: Lab) -> None:
    net, prober = world(lab)
    laptop = lab.host("laptop", lab.nat("home", net))

    with prober, udp(laptop, 5000) as inside:
        mapped = prober.mapped(inside)
        prober.admitted(inside, mapped)

        assert prober.mapping(inside) is Mapping.ENDPOINT_INDEPENDENT


def test_what_one_nat_tracks_towards_another_is_counted_to_the_datagram(lab: Lab) -> None:
    """A prober of known size: what bounds the price of a search must see all of it."""
    net = lab.internet()
    home, office = lab.nat("home", net), lab.nat("office", net)
    laptop = lab.host("laptop", home)
    home.count_packets()
    with ExitStack() as stack:
        sockets = [stack.enter_context(udp(laptop)) for _ in range(20)]
        for number, own in enumerate(sockets):
            for _ in range(3):
                own.sendto(b"probe", (str(office.outside), 30_000 + number % 2))
        sockets[0].sendto(b"probe", (str(office.outside), 40_000))
        sockets[0].sendto(b"another", (str(net.gateway4), 40_000))

    flows = home.flows(office.outside)

    assert sorted(flow.packets for flow in flows) == [1, *[3] * 20]
    assert len({flow.outside_port for flow in flows}) == 20
    assert office.flows(home.outside) == ()


def test_blocked_udp_does_not_pass_and_tcp_does(lab: Lab) -> None:
    net, prober = world(lab)
    laptop = lab.host("laptop", lab.nat("home", net, Behaviour(block_udp=True)))
    server = lab.machines["first"]
    assert isinstance(server, Host)

    with prober, udp(laptop) as inside, pytest.raises(LabError, match="UDP blocked"):
        prober.mapped(inside)

    assert laptop.run(tcp_echo(lab, server)).stdout == "through"


def test_a_nat_behind_a_nat_shows_the_outer_one_and_the_stricter_behaviour(
    lab: Lab,
) -> None:
    net, prober = world(lab)
    carrier = lab.nat(
        "carrier",
        net,
        Behaviour(Mapping.ADDRESS_DEPENDENT, Filtering.ENDPOINT_INDEPENDENT),
        lan="100.64.0.0/10",
    )
    home = lab.nat("home", carrier, Behaviour(filtering=Filtering.ADDRESS_DEPENDENT))
    laptop = lab.host("laptop", home)

    with prober, udp(laptop) as one, udp(laptop) as two:
        assert prober.mapped(one).host == str(carrier.outside)
        assert prober.mapping(one) is Mapping.ADDRESS_DEPENDENT
        assert prober.filtering(two) is Filtering.ADDRESS_DEPENDENT


def world(lab: Lab) -> tuple[Internet, Prober]:
    net = lab.internet()
    return net, Prober(lab.host("first", net), lab.host("second", net))


def tcp_echo(lab: Lab, server: Host) -> list[str]:
    script = (
        "import socket; s = socket.create_server(('', 80)); print('ready', flush=True);"
        "s.accept()[0].sendall(b'through')"
    )
    listener = server.popen(["python3", "-c", script], stdout=-1)
    assert listener.stdout is not None
    assert listener.stdout.readline() == "ready\n"
    client = (
        f"import socket; s = socket.create_connection(('{server.ipv4}', 80), 25);"
        "print(s.recv(99).decode(), end='')"
    )
    return ["python3", "-c", client]
