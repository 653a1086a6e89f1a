"""Builds whole worlds: organisations, nodes behind NATs, and the verbs scenarios are told in.

Every verb that waits runs virtual time until what it waits for happened, and raises SimulationError
with the last steps of the run when it does not.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import count

from ntmobile.errors import StateError
from ntmobile.proto.node.events import (
    LoggedIn,
    LoginFailed,
    NameRefused,
    NameResolved,
    Registered,
    TunnelEstablished,
)
from ntmobile.sim.chart import Scale, chart
from ntmobile.sim.directory import Directory
from ntmobile.sim.errors import SimulationError
from ntmobile.sim.internet import ONE_WAY, Internet
from ntmobile.sim.network import Network
from ntmobile.sim.node import NodeOptions, Received, SimNode, StateDirectory
from ntmobile.sim.organisation import Organisation
from ntmobile.sim.quality import Quality
from ntmobile.sim.recorder import Recorder
from ntmobile.time import SECOND, Instant

PATIENCE_S = 30
ECHO_PORT = 7
PASSWORD = "a long password"


class World:
    """One run: an internet, what hangs off it, and its recording."""

    def __init__(self, seed: int | str = 0, core: Quality = ONE_WAY) -> None:
        """Same seed and same story give the same run, byte for byte."""
        self.internet = Internet(seed, core)
        self.recorder = Recorder()
        self.directory = Directory()
        self.organisations: dict[str, Organisation] = {}
        self.nodes: dict[str, SimNode] = {}
        self._clones = count(2)

    @property
    def now(self) -> Instant:
        """The instant it is."""
        return self.internet.now

    def organisation(self, domain: str = "example.org", **options: object) -> Organisation:
        """Add an operator; options as Organisation takes them."""
        made = Organisation(self.internet, self.recorder, self.directory, domain, **options)  # type: ignore[arg-type]
        self.organisations[domain] = made
        return made

    def node(
        self,
        name: str,
        organisation: Organisation,
        network: Network | None = None,
        options: NodeOptions = NodeOptions(),  # noqa: B008 - frozen
    ) -> SimNode:
        """Add a node called NAME.USER, on the core unless told, logged in and registered."""
        node = self.stranger(name, organisation, network, options)
        node.log_in(PASSWORD)
        self.await_registration(node)
        return node

    def stranger(
        self,
        name: str,
        organisation: Organisation,
        network: Network | None = None,
        options: NodeOptions = NodeOptions(),  # noqa: B008 - frozen
    ) -> SimNode:
        """Add a node that is not logged in; its user exists."""
        label, user = name.split(".")
        organisation.add_user(user, PASSWORD)
        host = self.internet.host(f"{name}.{organisation.domain}", network)
        state = StateDirectory.new(user, label, self.internet.entropy.fork(f"state {host.name}"))
        node = SimNode(self.internet, self.recorder, host, organisation, state, options)
        self.nodes[host.name] = node
        return node

    def clone(self, node: SimNode, network: Network | None = None) -> SimNode:
        """Start a copy of a node's state directory on another host, logged in."""
        host = self.internet.host(f"clone{next(self._clones)} of {node.fqdn}", network)
        state = replace(node.state, pins=dict(node.state.pins))
        copy = SimNode(self.internet, self.recorder, host, node.organisation, state, node.options)
        copy.log_in()
        return copy

    def impostor(self, node: SimNode) -> SimNode:
        """Start a node of that name with keys of its own, on the same host, by password."""
        entropy = self.internet.entropy.fork(f"impostor of {node.fqdn}")
        state = StateDirectory.new(node.state.user, node.state.name, entropy)
        made = SimNode(
            self.internet, self.recorder, node.host, node.organisation, state, node.options
        )
        made.log_in(PASSWORD)
        return made

    def restart(self, node: SimNode) -> SimNode:
        """Kill a node and start it from its state directory, logged in by its device key."""
        node.kill()
        again = SimNode(
            self.internet, self.recorder, node.host, node.organisation, node.state, node.options
        )
        self.nodes[node.host.name] = again
        again.log_in()
        return again

    def await_login(self, node: SimNode, limit_s: float = PATIENCE_S) -> None:
        """Run until the node is logged in."""
        self.run_until(lambda: bool(node.events_of(LoggedIn)), f"{node.fqdn} to log in", limit_s)

    def await_registration(self, node: SimNode) -> Registered:
        """Run until the node is registered; raises SimulationError when it is refused."""

        def settled() -> bool:
            return bool(node.events_of(Registered) or node.events_of(LoginFailed))

        self.run_until(settled, f"{node.fqdn} to register")
        if not node.events_of(Registered):
            raise SimulationError(self.now, str(node.events_of(LoginFailed)[-1]))
        self.run_for(0.5)
        return node.events_of(Registered)[-1]

    def resolve(self, node: SimNode, fqdn: str) -> NameResolved | NameRefused:
        """Resolve a name and run until the answer."""
        query = node.resolve(fqdn)
        answers: list[NameResolved | NameRefused] = []

        def answered() -> bool:
            both = node.events_of(NameResolved), node.events_of(NameRefused)
            answers.extend(a for kind in both for a in kind if a.query == query)
            return bool(answers)

        self.run_until(answered, f"{node.fqdn} to resolve {fqdn}")
        return answers[0]

    def connect(self, node: SimNode, peer: SimNode) -> NameResolved:
        """Resolve a peer and run until the tunnel stands at both ends."""
        answer = self.resolve(node, peer.fqdn)
        if isinstance(answer, NameRefused):
            raise SimulationError(self.now, str(answer), self.recorder.tail())
        self.run_until(
            lambda: _has_tunnel(node, peer) and _has_tunnel(peer, node),
            f"{node.fqdn} and {peer.fqdn} to build a tunnel",
        )
        return answer

    def echo(self, node: SimNode, peer: SimNode, data: bytes, limit_s: float = 5) -> bool:
        """Send a datagram to the peer's virtual address and back; whether it came in time."""
        answers: list[Received] = []
        peer.listen(ECHO_PORT, lambda got: peer.send(got.source, got.source_port, got.data))
        node.listen(ECHO_PORT + 1, answers.append)
        node.send(node.address_of(peer), ECHO_PORT, data, ECHO_PORT + 1)
        limit = Instant(self.now + round(limit_s * SECOND))
        self.internet.calendar.run_until(lambda: bool(answers), limit)
        return [got.data for got in answers] == [data]

    def move(self, node: SimNode, network: Network, *, gap_s: float = 0) -> None:
        """Take a node off its networks and, a gap later, onto another."""
        for number in list(node.host.interfaces):
            node.host.unplug(number)
        if gap_s:
            node.report_links()
            self.run_for(gap_s)
        node.host.plug(network)
        node.report_links()

    def run_for(self, seconds: float) -> None:
        """Let that much virtual time pass."""
        self.internet.calendar.run_to(Instant(self.now + round(seconds * SECOND)))

    def run_until(
        self, done: Callable[[], bool], what: str = "it", limit_s: float = PATIENCE_S
    ) -> None:
        """Run until a condition holds; raises SimulationError when it does not in time."""
        limit = Instant(self.now + round(limit_s * SECOND))
        if not self.internet.calendar.run_until(done, limit):
            problem = f"waited {limit_s} s for {what} in vain"
            raise SimulationError(self.now, problem, self.recorder.tail())

    def chart(
        self, columns: dict[str, str], start: Instant, hidden: frozenset[str] = frozenset()
    ) -> str:
        """Draw what was sent since start but the hidden messages.

        Columns gives hosts their titles, in order.
        """
        unknown = columns.keys() - self.internet.hosts.keys()
        if unknown:
            raise StateError(f"no such hosts: {sorted(unknown)}")
        scale = Scale(start, self.internet.core.quality.delay_ns)
        drawn = [arrow for arrow in self.recorder.since(start) if arrow.message not in hidden]
        return chart(drawn, columns, scale)


def _has_tunnel(node: SimNode, peer: SimNode) -> bool:
    return any(event.fqdn == peer.fqdn for event in node.events_of(TunnelEstablished))
