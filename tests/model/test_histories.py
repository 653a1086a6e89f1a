"""Random histories of three nodes in two domains, held against a small model of who can talk.

The model knows places, power, servers and policy, and nothing of protocols. After any history and a
minute of quiet, every pair must be able to talk exactly if the model says so.
"""

from dataclasses import dataclass, field, replace
from itertools import permutations

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from ntmobile.proto.coordinator.policy import Rule
from ntmobile.proto.node.events import NameRefused, NameResolved
from ntmobile.sim.gateway import Firewall
from ntmobile.sim.nat import EASY, HARD
from ntmobile.sim.network import Network
from ntmobile.sim.node import SimNode
from ntmobile.sim.world import World

NODES = ("laptop.alice", "phone.alice", "pc.bob")
DOMAINS = {"laptop.alice": "example.org", "phone.alice": "example.org", "pc.bob": "example.net"}
PLACES = ("core", "easy", "hard", "four", "six", "firewall", "island")
QUIET_S = 60


@dataclass(frozen=True)
class Move:
    node: str
    place: str


@dataclass(frozen=True)
class Crash:
    node: str


@dataclass(frozen=True)
class Start:
    node: str


@dataclass(frozen=True)
class Restart:
    domain: str
    server: str


@dataclass(frozen=True)
class Reboot:
    place: str


@dataclass(frozen=True)
class Forbid:
    domain: str
    forbidden: bool


@dataclass(frozen=True)
class Talk:
    node: str
    peer: str


@dataclass(frozen=True)
class Wait:
    seconds: float


Act = Move | Crash | Start | Restart | Reboot | Forbid | Talk | Wait

nodes, domains = st.sampled_from(NODES), st.sampled_from(sorted(set(DOMAINS.values())))
acts: st.SearchStrategy[Act] = st.one_of(
    st.builds(Move, nodes, st.sampled_from(PLACES)),
    st.builds(Crash, nodes),
    st.builds(Start, nodes),
    st.builds(Restart, domains, st.sampled_from(("dc", "as", "rs"))),
    st.builds(Reboot, st.sampled_from(("easy", "hard", "firewall"))),
    st.builds(Forbid, domains, st.booleans()),
    st.builds(Talk, nodes, nodes),
    st.builds(Wait, st.sampled_from((0.015, 0.1, 1.0, 25.0))),
)


@dataclass
class Model:
    """Who can talk to whom, as anyone would say who knows no protocol."""

    on: set[str] = field(default_factory=lambda: set(NODES))
    stranded: set[str] = field(default_factory=set)
    forbidding: set[str] = field(default_factory=set)

    def learn(self, act: Act) -> None:
        match act:
            case Move(node, place):
                (self.stranded.add if place == "island" else self.stranded.discard)(node)
            case Crash(node):
                self.on.discard(node)
            case Start(node):
                self.on.add(node)
            case Forbid(domain, forbidden):
                (self.forbidding.add if forbidden else self.forbidding.discard)(domain)
            case _:
                pass

    def can_talk(self, node: str, peer: str) -> bool:
        allowed = not self.forbidding & {DOMAINS[node], DOMAINS[peer]}
        return allowed and {node, peer} <= self.on - self.stranded


class Real:
    """The same history in the simulator."""

    def __init__(self) -> None:
        self.world = World("history")
        internet = self.world.internet
        self.organisations = {
            name: self.world.organisation(name) for name in sorted(set(DOMAINS.values()))
        }
        self.places: dict[str, Network] = {
            "core": internet.core,
            "easy": internet.home("easy", EASY),
            "hard": internet.home("hard", HARD),
            "four": internet.site("four", ipv6=False),
            "six": internet.site("six", ipv4=False),
            "firewall": internet.home("firewall", ipv6=True, firewall=Firewall()),
            "island": internet.island("island"),
        }
        self.nodes = {n: self.world.node(n, self.organisations[DOMAINS[n]]) for n in NODES}

    def do(self, act: Act) -> None:
        match act:
            case Move(node, place):
                self.world.move(self.nodes[node], self.places[place])
            case Crash(node):
                if self.nodes[node].alive:
                    self.nodes[node].kill()
            case Start(node):
                if not self.nodes[node].alive:
                    self.nodes[node] = self.world.restart(self.nodes[node])
            case Restart(domain, server):
                organisation = self.organisations[domain]
                {
                    "dc": organisation.restart_coordinator,
                    "as": organisation.restart_account,
                    "rs": organisation.restart_relay,
                }[server]()
            case Reboot(place):
                self.world.internet.gateways[place].reboot()
            case Forbid(domain, forbidden):
                organisation = self.organisations[domain]
                rules = (Rule("*", "*", allow=False),) if forbidden else ()
                organisation.set_policy(replace(organisation.policy, rules=rules))
            case Talk(node, peer):
                if self.nodes[node].alive and node != peer:
                    self.nodes[node].resolve(self.nodes[peer].fqdn)
            case Wait(seconds):
                self.world.run_for(seconds)

    def can_talk(self, name: str, peer_name: str) -> bool:
        """Whether one of ten datagrams, two seconds apart, is answered."""
        node, peer = self.nodes[name], self.nodes[peer_name]
        if not (node.alive and peer.alive):
            return False
        for _ in range(10):
            query = node.resolve(peer.fqdn)
            self.world.run_for(2)
            answered = [e for e in node.events_of(NameResolved) if e.query == query]
            if answered and self.world.echo(node, peer, b"hello", limit_s=2):
                return True
            refused = [e for e in node.events_of(NameRefused) if e.query == query]
            if refused and not has_tunnel(node, peer):
                self.world.run_for(2)
        return False


def has_tunnel(node: SimNode, peer: SimNode) -> bool:
    return any(view.fqdn == peer.fqdn for view in node.machine.peers())


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(acts, max_size=12))
def test_after_any_history_those_can_talk_who_should(history: list[Act]) -> None:
    model, real = Model(), Real()

    for act in history:
        model.learn(act)
        real.do(act)
    real.world.run_for(QUIET_S)

    for node, peer in permutations(NODES, 2):
        if expected_to_differ(model, real, node, peer):
            continue
        assert real.can_talk(node, peer) is model.can_talk(node, peer), (node, peer)


def expected_to_differ(model: Model, real: Real, node: str, peer: str) -> bool:
    """A tunnel that stands outlives a change of policy until its leave is renewed."""
    forbidden = bool(model.forbidding & {DOMAINS[node], DOMAINS[peer]})
    return forbidden and has_tunnel(real.nodes[node], real.nodes[peer])
