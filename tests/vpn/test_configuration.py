from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from hypothesis import given
from hypothesis import strategies as st

from ntmobile.agent.real_networks import POOLS
from ntmobile.vpn.configuration import (
    DNS_IPV4,
    AnyNetwork,
    Network,
    configure,
    covers,
    dns_hosts,
    routes_of,
)
from ntmobile.vpn.messages import (
    configuration_of,
    decode,
    encode,
    network_of,
    of_configuration,
    of_network,
)
from ntmobile.vpn.uplinks import local_addresses

OWN = IPv4Address("100.64.0.7"), IPv6Address("fd01:2:3::7")
OTHER = IPv4Address("100.64.0.9"), IPv6Address("fd0a:b:c::9")
SEARCH = "alice.ntm.example.org", "ntm.example.org"
CARRIER = IPv4Network("100.64.0.0/10")

virtual = st.one_of(
    st.sampled_from(POOLS).flatmap(lambda pool: st.ip_addresses(network=pool)),
    st.ip_addresses(network=IPv6Network("fd00::/8")),
)
pairs = st.tuples(
    st.sampled_from(POOLS).flatmap(lambda pool: st.ip_addresses(network=pool)),
    st.ip_addresses(network=IPv6Network("fd00::/8")),
)


def nets(*texts: str) -> tuple[AnyNetwork, ...]:
    return tuple(IPv4Network(t) if "." in t else IPv6Network(t) for t in texts)


def test_a_node_alone_routes_its_pool_its_domain_and_where_it_answers_dns() -> None:
    assert routes_of(OWN, (), ()) == nets("100.64.0.0/10", "192.0.2.53/32", "fd01:2:3::/48")


def test_a_peer_of_another_domain_brings_that_domain() -> None:
    routes = routes_of(OWN, OTHER, ())

    assert set(routes) - set(routes_of(OWN, (), ())) == {IPv6Network("fd0a:b:c::/48")}


def test_where_a_carrier_has_the_range_only_single_peers_are_routed() -> None:
    routes = routes_of(OWN, OTHER, (CARRIER,))

    assert CARRIER not in routes
    assert IPv4Network("100.64.0.9/32") in routes


@given(pairs, st.lists(virtual, max_size=8), st.booleans())
def test_every_peer_and_the_dns_are_routed_whatever_is_real_here(
    own: tuple[IPv4Address, IPv6Address], peers: list[IPv4Address | IPv6Address], carrier: bool
) -> None:
    wanted = configure(own, peers, (CARRIER,) if carrier else (), SEARCH)

    assert covers(wanted, [*peers, *dns_hosts(own[1])])
    assert len(set(wanted.routes)) == len(wanted.routes)


@given(pairs, st.permutations([*OTHER, ip_address("10.9.9.9"), ip_address("fd0f::1")]))
def test_the_order_of_peers_changes_nothing(
    own: tuple[IPv4Address, IPv6Address], peers: list[IPv4Address | IPv6Address]
) -> None:
    assert routes_of(own, peers, ()) == routes_of(own, sorted(peers, key=str), ())


def test_what_is_not_routed_is_not_covered() -> None:
    wanted = configure(OWN, (), (), SEARCH)

    assert not covers(wanted, [ip_address("203.0.113.1")])
    assert not covers(wanted, [OTHER[1]])
    assert wanted.dns[0] == DNS_IPV4


@given(pairs, st.lists(virtual, max_size=4), st.integers(1280, 9000))
def test_a_configuration_and_a_network_come_back_from_their_messages(
    own: tuple[IPv4Address, IPv6Address], peers: list[IPv4Address | IPv6Address], mtu: int
) -> None:
    wanted = configure(own, peers, (), SEARCH)
    network = Network(own, tuple(peers), wanted.routes, mtu, interface=3)

    assert configuration_of(decode(encode(of_configuration(wanted)))) == wanted
    assert network_of(decode(encode(of_network(network)))) == network
    assert network_of(decode(encode(of_network(None)))) is None


def test_peers_are_told_no_address_that_means_nothing_elsewhere() -> None:
    hosts = tuple(map(ip_address, ("127.0.0.1", "fe80::1", "192.0.2.7", "2001:db8::7")))

    told = local_addresses(Network(hosts, interface=4), 4330)

    assert [str(each.endpoint.host) for each in told] == ["192.0.2.7", "2001:db8::7"]
    assert {(each.interface, each.endpoint.port) for each in told} == {(4, 4330)}
    assert local_addresses(None, 4330) == ()
