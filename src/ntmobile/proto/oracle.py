"""Foretells whether two ends behind NATs reach each other directly, and at what price.

An end has a known mapping: the one that the servers see. What it sends elsewhere leaves from the
same one (endpoint-independent mapping) or from another, whose port is known as soon as a packet
from it arrives, can be predicted (sequential ports), or must be guessed (random ones). A path
stands when a probe of one end gets in and the answer to the probe's source gets in at the other.

=========  =================================================================================
known      no port has to be found: each end sends to what it knows or has just heard from
predicted  a port is found among the next few of a NAT that counts
guessed    one end opens many mappings, the other tries many ports (a birthday)
hopeless   two ports must be right at once, or the guess is not worth its price
=========  =================================================================================

Source: RFC 4787 for the words; RFC 5128, section 3.4, for the method. Ours: docs/protocol.md
section 7.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import exp, lgamma

from ntmobile.wire.nat import Behaviour, PortAssignment

EI, AD, APD = Behaviour
ALL_PORTS = 65536 - 1024
LIKELY = 0.99
"""What is less likely is not tried: it would cost the NATs more than it is worth."""
WINDOW = 8
"""Ports that a prediction tries, because others use the NAT too."""


@dataclass(frozen=True, slots=True)
class NatKind:
    """All NATs and firewalls before one end, taken together."""

    mapping: Behaviour = EI
    filtering: Behaviour = EI
    ports: PortAssignment = PortAssignment.RANDOM
    """How the port of one more mapping is picked. Where it is the inner one when that is free, the
    second mapping of a socket gets another, and nobody knows which."""
    hairpin: bool = True
    choice: int = ALL_PORTS
    """Among how many ports it picks; carriers give each customer a small block."""
    udp: bool = True

    @property
    def counts(self) -> bool:
        """Whether the next port can be predicted."""
        return self.ports is PortAssignment.SEQUENTIAL


OPEN = NatKind()


@dataclass(frozen=True, slots=True)
class Budget:
    """What one attempt may cost at most."""

    mappings: int = 256
    """At each NAT: tables of home routers are small."""
    probes: int = 1024
    """Of both ends together, those that open mappings included."""
    guesses: int = 2
    """Attempts at a random port, minutes apart, that the probability of a guess counts."""


class Way(StrEnum):
    """How the ends find each other."""

    KNOWN = "known"
    PREDICTED = "predicted"
    GUESSED = "guessed"
    HOPELESS = "hopeless"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to expect."""

    way: Way
    probability: float
    """Of success within the budget (of a guess, in the attempts that it allows), while nobody else
    makes the NATs count on."""
    mappings: int
    """Opened at one NAT, at most."""
    probes: int
    """Sent by both ends together, without repetitions of lost ones."""
    reason: str
    in_step: bool = False
    """Both predict, and count their own ports exactly: neither may send anything else first."""

    @property
    def direct(self) -> bool:
        """Whether to try."""
        return self.probability >= LIKELY


def behind(inner: NatKind, outer: NatKind) -> NatKind:
    """Return what a NAT behind another one (a carrier's) amounts to: the stricter of each."""
    mapping, ports = _stricter(inner.mapping, outer.mapping), outer.ports
    if outer.ports is PortAssignment.PRESERVING and mapping is inner.mapping:
        # No port of the inner one has two mappings at the outer one, so it keeps them all.
        ports = inner.ports
    return NatKind(
        mapping,
        _stricter(inner.filtering, outer.filtering),
        ports,
        outer.hairpin,
        min(inner.choice, outer.choice),
        inner.udp and outer.udp,
    )


def oracle(a: NatKind, b: NatKind, budget: Budget = Budget(), *, same_nat: bool = False) -> Verdict:
    """Say how two ends reach each other; symmetric in them.

    same_nat: both are behind one outermost NAT, in networks that do not reach each other without
    it, so their packets must turn round there.
    """
    if not (a.udp and b.udp):
        return Verdict(Way.HOPELESS, 0.0, 0, 0, "UDP is blocked")
    if same_nat and not (a.hairpin and b.hairpin):
        return Verdict(Way.HOPELESS, 0.0, 0, 0, "the NAT of both does not turn packets round")
    if _learns(a, b) or _learns(b, a):
        return Verdict(Way.KNOWN, 1.0, 1, 4, "each end sends to what it knows or heard from")
    found = [_find(port, finder, budget) for port, finder in ((a, b), (b, a))]
    verdicts = [verdict for verdict in found if verdict is not None]
    if a.counts and b.counts:
        verdicts.append(
            Verdict(
                Way.PREDICTED,
                1.0,
                3 * WINDOW,
                6 * WINDOW,
                "both NATs count their ports",
                in_step=True,
            )
        )
    if not verdicts:
        return Verdict(Way.HOPELESS, 0.0, 0, 0, "two unknown ports would have to be right at once")
    return max(verdicts, key=lambda verdict: (verdict.probability, -verdict.probes))


def _learns(caller: NatKind, callee: NatKind) -> bool:
    """Whether a probe to the callee's known mapping gets in, and the answer at the caller."""
    admitted = callee.filtering is EI
    if callee.mapping is EI:
        # Its known mapping is the one that it spoke to the caller's known mapping from.
        admitted |= callee.filtering is AD or caller.mapping is EI
    answered = caller.filtering is not APD or callee.mapping is EI
    return admitted and answered


def _find(sought: NatKind, finder: NatKind, budget: Budget) -> Verdict | None:
    """How the finder hits the port that the sought end speaks to it from, if that is enough."""
    once, after_it = _hit_opens(sought, finder)
    if not once:
        return None
    if sought.counts:
        rounds = 1 if after_it else 2
        probes = (rounds + 1) * WINDOW + 2
        mappings = 1 if finder.mapping is not APD else probes
        return Verdict(Way.PREDICTED, 1.0, mappings, probes, "one NAT counts its ports")
    if finder.mapping is not EI:
        return None
    mappings = min(budget.mappings, budget.probes // 2)
    probes = budget.probes - mappings
    missed = 1.0 - birthday(sought.choice, mappings, probes)
    chance = 1.0 - missed**budget.guesses
    reason = f"one port among {sought.choice}, {mappings} mappings, {probes} guesses"
    way = Way.GUESSED if chance >= LIKELY else Way.HOPELESS
    return Verdict(way, chance, mappings, mappings + probes, reason)


def _hit_opens(sought: NatKind, finder: NatKind) -> tuple[bool, bool]:
    """Whether a hit gets in, and whether the answer then gets back without a second one."""
    if sought.mapping is EI:
        return False, False
    if finder.mapping is EI:
        # The finder's mapping is known: the sought end speaks to it, and hears from it.
        return True, True
    if sought.filtering is APD:
        return False, False
    if sought.mapping is AD or finder.filtering is not APD:
        return True, True
    # The answer leaves from yet another port, which the finder's filter must be opened for
    # from the very mapping that the answer goes to.
    return finder.mapping is AD, False


def birthday(choice: int, mappings: int, guesses: int) -> float:
    """Return the chance that one of so many different guesses hits one of so many mappings."""
    if mappings + guesses > choice:
        return 1.0
    missed = (
        lgamma(choice - mappings + 1)
        + lgamma(choice - guesses + 1)
        - lgamma(choice + 1)
        - lgamma(choice - mappings - guesses + 1)
    )
    return 1.0 - exp(missed)


def _stricter(one: Behaviour, other: Behaviour) -> Behaviour:
    return max(one, other, key=list(Behaviour).index)
