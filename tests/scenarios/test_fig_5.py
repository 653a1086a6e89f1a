"""Name resolution: finding DCcn, Key Sharing, Node Information. Source: paper, Fig. 5."""

import pytest

from ntmobile.proto.coordinator.policy import Federation, Policy, Rule
from ntmobile.proto.node.events import NameRefused
from ntmobile.sim.figures import figure_5
from ntmobile.sim.world import World
from ntmobile.wire.registration import Reason

pytestmark = pytest.mark.paper("Fig. 5")


@pytest.mark.paper(
    "NS Query", "Key Sharing", "Node Information Request", "Node Information Response"
)
def test_domains_that_meet_share_a_key_once_found_by_the_ns_record() -> None:
    figure = figure_5()
    print(figure.draw())

    between_servers = [line for line in figure.messages if {line[0], line[2]} == {"DCmn", "DCcn"}]

    assert [line[1] for line in between_servers[:7]] == [
        "NS Query",
        "NS Answer",
        "Key Sharing",
        "NTM ACK",
        "Node Information Request",
        "Challenge",
        "Node Information Request",
    ]
    assert between_servers[7][1] == "Node Information Response"


@pytest.mark.paper("Direction Request", "Route Direction")
def test_the_query_is_answered_with_the_correspondents_virtual_addresses() -> None:
    world = World()
    org = world.organisation()
    mn, cn = world.node("laptop.alice", org), world.node("pc.bob", org)

    answer = world.connect(mn, cn)

    stored = org.registrations.nodes[cn.fqdn]
    assert (answer.ipv4, answer.ipv6) == (stored.virtual_ipv4, stored.virtual_ipv6)


def test_a_known_peer_is_answered_at_once() -> None:
    world = World()
    org = world.organisation()
    mn, cn = world.node("laptop.alice", org), world.node("pc.bob", org)
    world.connect(mn, cn)
    before = world.now

    world.resolve(mn, cn.fqdn)

    assert world.now == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nobody.bob.example.net", Reason.UNKNOWN_NAME),
        ("nobody.alice.example.org", Reason.UNKNOWN_NAME),
        ("www.example.com", Reason.UNKNOWN_NAME),
    ],
)
def test_a_name_that_does_not_exist_is_refused_within_a_second(name: str, reason: Reason) -> None:
    world = World()
    org, _ = world.organisation(), world.organisation("example.net")
    mn = world.node("laptop.alice", org)
    before = world.now

    answer = world.resolve(mn, name)

    assert isinstance(answer, NameRefused)
    assert answer.reason is reason
    assert world.now - before <= 1_000_000_000


def test_a_peer_that_is_off_is_refused_as_not_registered() -> None:
    world = World()
    org, net = world.organisation(), world.organisation("example.net")
    mn, cn = world.node("laptop.alice", org), world.node("pc.bob", net)
    cn.call(cn.machine.leave)
    world.run_for(1)

    answer = world.resolve(mn, cn.fqdn)

    assert isinstance(answer, NameRefused)
    assert answer.reason is Reason.NOT_REGISTERED


@pytest.mark.parametrize("which", ["ours", "theirs"])
def test_a_domain_that_is_not_listed_at_either_side_is_refused(which: str) -> None:
    world = World()
    closed = {"ours": "example.org", "theirs": "example.net"}[which]
    policies = {
        domain: Policy(domain, Federation.LISTED if domain == closed else Federation.OPEN)
        for domain in ("example.org", "example.net")
    }
    org = world.organisation(policy=policies["example.org"])
    net = world.organisation("example.net", policy=policies["example.net"])
    mn, cn = world.node("laptop.alice", org), world.node("pc.bob", net)

    answer = world.resolve(mn, cn.fqdn)

    assert isinstance(answer, NameRefused)
    assert answer.reason is Reason.FOREIGN_DOMAIN


def test_a_domain_whose_key_is_not_trusted_is_refused_with_that_reason() -> None:
    world = World()
    org, net = world.organisation(), world.organisation("example.net")
    mn, cn = world.node("laptop.alice", org), world.node("pc.bob", net)
    org.coordinator.resolver.distrusted.add("example.net")

    answer = world.resolve(mn, cn.fqdn)

    assert isinstance(answer, NameRefused)
    assert answer.reason is Reason.DOMAIN_KEY


def test_a_refused_pair_looks_to_a_stranger_as_if_the_name_did_not_exist() -> None:
    world = World()
    rule = Rule("*", "pc.bob.example.net", allow=False)
    policy = Policy("example.net", Federation.OPEN, rules=(rule,))
    org = world.organisation()
    net = world.organisation("example.net", policy=policy)
    mn, cn = world.node("laptop.alice", org), world.node("pc.bob", net)

    refused = world.resolve(mn, cn.fqdn)
    unknown = world.resolve(mn, "nobody.bob.example.net")

    assert isinstance(refused, NameRefused)
    assert isinstance(unknown, NameRefused)
    assert refused.reason is unknown.reason is Reason.UNKNOWN_NAME
    assert [audit.allowed for audit in net.registrations.audit] == [False]


def test_a_dc_that_is_unreachable_for_seconds_is_waited_for() -> None:
    world = World()
    org, net = world.organisation(), world.organisation("example.net")
    mn, cn = world.node("laptop.alice", org), world.node("pc.bob", net)
    world.internet.core.cut("dc.example.org", "dc.example.net")
    world.internet.calendar.after(
        3_000_000_000, lambda: world.internet.core.mend("dc.example.org", "dc.example.net")
    )

    assert not isinstance(world.resolve(mn, cn.fqdn), NameRefused)
