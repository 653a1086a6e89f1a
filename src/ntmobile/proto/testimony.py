"""From what several participants saw to one chart, with the paper's names of who took part.

An arrow is a message that one sent and the other got, matched by name and time; their clocks should
agree. Each tells its own journal only (`sequence`). Source: paper, Figs. 2 to 7.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from ntmobile.proto.sequence import BARE

CLOCKS_S = 0.005
"""By how much a message may seem to arrive before it was sent."""
AGAIN_S = 5.0
"""A send that nobody got is a try of a message that was got within that time."""

_Ends = tuple[str, str, str]
"""Message, sender, receiver."""
_Moment = tuple[float, int]
"""When, and the number of the step: what one saw at the same instant stays in its order."""


class Seen(msgspec.Struct, frozen=True):
    """A step as it is handed from one program to another."""

    at: str
    """ISO 8601, to the microsecond, by the clock of who saw it."""
    message: str
    here: str
    there: str
    sent: bool
    detail: str = ""
    names: tuple[str, ...] = ()

    @property
    def at_s(self) -> float:
        """Seconds since 1970; raises ValueError."""
        return datetime.fromisoformat(self.at).timestamp()


class Witness(msgspec.Struct, frozen=True):
    """What one node, or the servers of one domain, saw."""

    steps: tuple[Seen, ...]
    own: str = ""
    """The node's FQDN."""
    domain: str = ""
    """Of servers."""

    @property
    def home(self) -> str:
        """The domain of the one who saw it."""
        return self.domain or self.own.split(".", 2)[-1]


@dataclass(frozen=True, slots=True)
class Carried:
    """One message between two participants."""

    at_s: float
    """When it arrived, as far as that was seen; else when it was sent."""
    message: str
    sender: str
    receiver: str
    lost: bool = False
    """It was sent, and its receiver, who was asked too, never got it."""


def merge(witnesses: Collection[Witness]) -> list[Carried]:
    """Return every message once, in order of arrival, with the paper's names of its ends."""
    names = _Names(witnesses)
    sent: dict[_Ends, list[_Moment]] = {}
    got: dict[_Ends, list[_Moment]] = {}
    present: set[str] = set()
    steps = [(witness, step) for witness in witnesses for step in witness.steps]
    for number, (witness, step) in enumerate(steps):
        here, there = names.here(witness, step), names.there(witness, step)
        present.add(here)
        ends = (step.message, here, there) if step.sent else (step.message, there, here)
        (sent if step.sent else got).setdefault(ends, []).append((step.at_s, number))
    told = [one for ends in {**sent, **got} for one in _of(ends, sent, got)]
    return [replace(one, lost=one.lost and one.receiver in present) for _, one in sorted(told)]


def _of(
    ends: _Ends, sent: Mapping[_Ends, list[_Moment]], got: Mapping[_Ends, list[_Moment]]
) -> Iterator[tuple[_Moment, Carried]]:
    """Every arrival, and the sends that belong to none and are no further tries of one."""
    arrivals = sorted(got.get(ends, []))
    left = sorted(sent.get(ends, []))
    for arrival in arrivals:
        yield arrival, Carried(arrival[0], *ends)
        before = [moment for moment in left if moment[0] <= arrival[0] + CLOCKS_S]
        if before:
            left.remove(before[-1])
    for moment in left:
        if not any(abs(moment[0] - arrival[0]) < AGAIN_S for arrival in arrivals):
            yield moment, Carried(moment[0], *ends, lost=ends[0] not in BARE)


def ends_of(witnesses: Collection[Witness]) -> tuple[tuple[str, str], ...]:
    """Return the name in the chart, and the FQDN, of each node that it is about."""
    names = _Names(witnesses)
    if names.mn:
        return (("MN", names.mn), ("CN", names.cn))
    return (("node", names.only),)


class _Names:
    """Who is who when several tell: the paper's MN, CN, DCmn and DCcn where two nodes are about."""

    def __init__(self, witnesses: Collection[Witness]) -> None:
        nodes = {name for witness in witnesses for name in _nodes(witness)}
        self.mn = _asker(witnesses) or _caller(witnesses)
        self.cn = next(iter(sorted(nodes - {self.mn})), "") if self.mn else ""
        told = [witness.own for witness in witnesses if witness.own]
        self.only = told[0] if told else min(nodes, default="") if len(nodes) == 1 else ""

    def here(self, witness: Witness, step: Seen) -> str:
        return self._node(witness.own) if witness.own else self._server(step.here, witness.home)

    def there(self, witness: Witness, step: Seen) -> str:
        match step.there:
            case "DCmn" | "DCcn" | "RS" | "DNS" | "MN" | "CN" | "push" | "application":
                return self._other(step.there, witness)
            case "AS" | "DC" | "NS":
                return self._server(step.there, witness.home)
            case "node":
                return self._node(self.only)
            case _:
                return self._node(step.there)

    def _other(self, name: str, witness: Witness) -> str:
        """DCmn and DCcn are one where both nodes are of one domain; an RS knows only a DCmn."""
        return "DC" if name in ("DCmn", "DCcn") and not self._has_two_domains() else name

    def _node(self, fqdn: str) -> str:
        if fqdn == self.mn and fqdn:
            return "MN"
        return "CN" if fqdn == self.cn and fqdn else "node"

    def _server(self, role: str, domain: str) -> str:
        if role != "DC" or not self._has_two_domains():
            return role
        return "DCmn" if self.mn.endswith("." + domain) else "DCcn"

    def _has_two_domains(self) -> bool:
        domains = {name.split(".", 2)[-1] for name in (self.mn, self.cn) if name}
        return len(domains) == 2


def _asker(witnesses: Collection[Witness]) -> str:
    """Who asked: the sender of the Direction Request, by its own word or its DC's."""
    for witness in witnesses:
        for step in witness.steps:
            if step.message == "Direction Request" and step.sent is bool(witness.own):
                return witness.own or step.there
    return ""


def _caller(witnesses: Collection[Witness]) -> str:
    """Where nobody saw the question: the peer of the node that was directed."""
    for witness in witnesses:
        for step in witness.steps:
            others = [name for name in step.names if name != witness.own]
            if witness.own and step.message == "Route Direction" and others:
                return others[0]
    return ""


def _nodes(witness: Witness) -> set[str]:
    """The FQDNs that a witness names."""
    named = {name for step in witness.steps for name in step.names if name.count(".") > 1}
    theres = {step.there for step in witness.steps if "." in step.there}
    return named | theres | ({witness.own} if witness.own else set())
