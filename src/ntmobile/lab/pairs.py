"""Pairs of NATs with a real node behind each: is there a direct path, how soon, at what price?

    with Lab() as lab:
        matrix = Matrix(World(lab), here=[...], there=[...])
        for here, there in matrix.pairs: matrix.meet(here, there)

Every NAT has one node, and one pair at a time, because a NAT that counts its ports is predicted
only while nobody else makes it count; pairs without a NAT in common may meet at once. What a search
costs is counted at both NATs, from outside of the nodes. Ours: docs/protocol.md section 7.
"""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Self

from ntmobile.lab.behaviour import Behaviour, Filtering, Mapping, Ports
from ntmobile.lab.nat import Flow, Nat
from ntmobile.lab.ntm import NtmNode, World
from ntmobile.lab.waiting import wait_until
from ntmobile.proto.oracle import NatKind, Verdict, Way, oracle
from ntmobile.wire.nat import Behaviour as Kind
from ntmobile.wire.nat import PortAssignment

RS = "203.0.113.241"
PORTS = {
    Ports.PRESERVED: PortAssignment.PRESERVING,
    Ports.SEQUENTIAL: PortAssignment.SEQUENTIAL,
    Ports.RANDOM: PortAssignment.RANDOM,
}
LETTERS = {Kind.ENDPOINT_INDEPENDENT: "EI", Kind.ADDRESS_DEPENDENT: "AD"}
STEP = re.compile(r"^ *([0-9.]+) s ago  \S+ (->|<-) (\S+)  (.*)$", re.M)
PATIENCE_S = 9
"""The examination of both NATs and two attempts; a hopeless pair takes all of it."""
LONG_S = 30
"""For a pair that is foretold a direct path, however busy the machine."""
MEETING_S = 2
GUESS_S = 60
"""Data pass for ten seconds, a node guesses half a minute after its last guess, in six seconds."""
MOST_TRIES = 5
"""One guess in twenty is in vain; the next of the same tunnel would come after two minutes."""


def kinds(ports: Ports) -> list[Behaviour]:
    """Return all nine NATs that pick their ports so."""
    return [
        Behaviour(mapping, filtering, ports) for mapping, filtering in product(Mapping, Filtering)
    ]


def kind(behaviour: Behaviour) -> NatKind:
    """Return what the oracle is asked of a NAT."""
    return NatKind(
        Kind(behaviour.mapping.value),
        Kind(behaviour.filtering.value),
        PORTS[behaviour.ports],
        behaviour.hairpin,
    )


def name(behaviour: Behaviour) -> str:
    """Return mapping, filtering and ports in short: EI/APD random."""
    told = kind(behaviour)
    mapping, filtering = (LETTERS.get(each, "APD") for each in (told.mapping, told.filtering))
    return f"{mapping}/{filtering} {told.ports.value}"


@dataclass(frozen=True, slots=True)
class Meeting:
    """What came of two nodes that met."""

    here: str
    there: str
    verdict: Verdict
    connected: bool
    direct: bool
    first_ms: float
    """From the node's question to its DC until a tunnel stands."""
    direct_ms: float | None
    """The same to the direct path; None where there is none."""
    probes: int
    """Path Challenges of both ends, or datagrams that both NATs saw in vain, whichever are more."""
    mappings: int
    """Outside ports towards the other NAT, at the one of the two that has more of them."""
    guesses: int = 0
    """Tunnels that were made until one guessed its port; 0 where no port is guessed."""

    @property
    def as_foretold(self) -> bool:
        """Connected in any case, and direct wherever the oracle says so."""
        return self.connected and (self.direct or not self.verdict.direct)


@dataclass(frozen=True, slots=True)
class Price:
    """What both NATs tracked from one node to the other, past RS."""

    mappings: int
    """Outside ports, at the one of the two that has more of them."""
    datagrams: int
    """Of both."""
    in_vain: int
    """The same without the flow of either NAT that has most: that is the path, once there is one.
    """

    @classmethod
    def of(cls, *nats: Sequence[Flow]) -> Self:
        """Add up the flows at both."""
        sent = [sorted(flow.packets for flow in flows) for flows in nats]
        mappings = max(len({flow.outside_port for flow in flows}) for flows in nats)
        return cls(mappings, sum(map(sum, sent)), sum(sum(each[:-1]) for each in sent))


class Matrix:
    """An organisation, and one node behind each NAT; all are up."""

    def __init__(self, world: World, here: Sequence[Behaviour], there: Sequence[Behaviour]) -> None:
        """Its RS is another host than the DC, so that filters are seen."""
        self.world = world
        self.pairs = list(product(here, there))
        organisation = world.organisation("ntm.example.org", rs_ipv4=RS)
        self._nats: dict[tuple[str, Behaviour], Nat] = {}
        self._nodes: dict[tuple[str, Behaviour], NtmNode] = {}
        for side, behaviours in (("a", here), ("b", there)):
            for number, behaviour in enumerate(behaviours):
                label = f"{side}{number}"
                nat = world.lab.nat(f"nat-{label}", world.internet, behaviour)
                nat.count_packets()
                self._nats[side, behaviour] = nat
                self._nodes[side, behaviour] = world.machine(
                    label, "alice", organisation, nat, ipv6=None
                )
        world.bring_up(*self._nodes.values())

    def foretold(self, here: Behaviour, there: Behaviour) -> Verdict:
        """Return what the oracle says of two NATs."""
        return oracle(kind(here), kind(there))

    def meet(self, here: Behaviour, there: Behaviour) -> Meeting:
        """Have the first node ping the second until the path is direct, or for long enough.

        Where a port is guessed, data pass too; a tunnel that guesses in vain is made anew.
        """
        if self.foretold(here, there).way is not Way.GUESSED:
            return self._meet(here, there)
        met = self._meet(here, there, 1)
        while not met.direct and met.guesses < MOST_TRIES:
            for node in (self._nodes["a", here], self._nodes["b", there]):
                node.ntm("down")
                node.ntm("up")
            met = self._meet(here, there, met.guesses + 1)
        return met

    def _meet(self, here: Behaviour, there: Behaviour, guesses: int = 0) -> Meeting:
        mn, cn = self._nodes["a", here], self._nodes["b", there]
        patience_s = LONG_S if self.foretold(here, there).direct else PATIENCE_S
        count = str(int((MEETING_S if guesses else patience_s) / 0.2))
        pinged = mn.ntm("ping", cn.fqdn, "--until-direct", "-i", "0.2", "-c", count, check=False)
        if guesses and _kind(mn, cn) != "direct":
            _use(mn, cn)
        wait_until(lambda: _kind(mn, cn) == _kind(cn, mn), "both ends to agree", LONG_S)
        direct = mn.peer(cn)["path"]["kind"] == "direct"
        steps = _steps(mn, cn)
        price = self.price(here, there)
        told = sum(each.is_probe for each in (*steps, *_steps(cn, mn)))
        return Meeting(
            name(here),
            name(there),
            self.foretold(here, there),
            "pong" in pinged.stdout,
            direct,
            _first_ms(steps),
            _direct_ms(steps) if direct else None,
            max(told, price.in_vain if direct else price.datagrams),
            price.mappings,
            guesses,
        )

    def price(self, here: Behaviour, there: Behaviour) -> Price:
        """Count what two nodes have cost their NATs, as long as idle mappings live."""
        a, b = self._nats["a", here], self._nats["b", there]
        return Price.of(a.flows(b.outside), b.flows(a.outside))


@dataclass(frozen=True, slots=True)
class _Step:
    """A line of a bug report."""

    at_ms: float
    """Relative to the report."""
    sent: bool
    message: str

    @property
    def is_probe(self) -> bool:
        return self.sent and self.message == "Path Challenge"


def _use(node: NtmNode, peer: NtmNode) -> None:
    """Have data pass until the path is direct, or for long enough."""
    told = node.peer(peer)
    ping = ["ping", "-q", "-i", "0.3", "-w", str(GUESS_S), told["virtual_ipv4"]]
    data = node.host.popen(ping, stdout=subprocess.DEVNULL)
    try:
        count = str(GUESS_S * 5)
        node.ntm(
            "ping",
            peer.fqdn,
            "--until-direct",
            "-i",
            "0.2",
            "-c",
            count,
            check=False,
            timeout=2 * GUESS_S,
        )
    finally:
        data.terminate()
        data.wait()


def _steps(node: NtmNode, peer: NtmNode) -> list[_Step]:
    """What a node and its peer said to each other, oldest first, from the Direction Request on."""
    found: list[_Step] = []
    for ago_s, arrow, there, message in STEP.findall(node.ntm("bugreport").stdout):
        step = _Step(-1000 * float(ago_s), arrow == "->", message.strip())
        if message.startswith("Direction Request"):
            found = [step]
        elif there in (peer.fqdn, "RS"):
            found.append(step)
    return found


def _kind(node: NtmNode, peer: NtmNode) -> str:
    kind: str = node.peer(peer)["path"]["kind"]
    return kind


def _first_ms(steps: list[_Step]) -> float:
    """From the Direction Request to the Tunnel Response."""
    answers = [step.at_ms for step in steps if step.message.startswith("Tunnel Response")]
    return answers[0] - steps[0].at_ms


def _direct_ms(steps: list[_Step]) -> float | None:
    """From the first step to when the choice of the path was told, or heard of."""
    updates = [step.at_ms for step in steps if step.message == "Path Update"]
    return updates[-1] - steps[0].at_ms if updates else None
