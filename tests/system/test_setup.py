"""How long a first contact takes, counted in one-way delays: paper, Figs. 6 and 7."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import pytest

from ntmobile.lab import Impairment
from ntmobile.lab.ntm import NtmNode, World
from tests.system import first_byte
from tests.system.conftest import Figure
from tests.system.programs import await_listening

pytestmark = [pytest.mark.lab, pytest.mark.alone]

ONE_WAY_MS = 50.0
"""Between any two machines: half of it on each machine's wire."""
SLACK = 0.9
"""Of a delay, for what a busy machine computes now faster, now slower."""
NEXT_DOOR, MEETINGS, LOOKS = 2, 6, 20
"""How many tries there are, of which the best counts: on a busy machine the others say little."""
SECOND_TRY_MS = 900
"""TCP and the signalling ask again after about as long, if something is lost."""


class Sequence(NamedTuple):
    """A figure of the paper, and how many one-way delays it takes until the DNS answer."""

    figure: int
    here: str
    """Where MN is; CN is always behind a NAT."""
    paper: int
    ours: int
    byte: int
    """From then to the echoed byte: four times to the other end, for TCP's handshake and the
    byte; by way of RS, that is two delays each time."""


FIGURES = (Sequence(6, "outside", 8, 6, 4), Sequence(7, "inside", 14, 10, 8))


def ids(sequence: Sequence) -> str:
    return f"fig-{sequence.figure}"


@dataclass
class Contacts:
    """An MN in either place, and CNs that none of them ever met; the servers know each other."""

    mn: dict[str, NtmNode]
    friend: NtmNode
    """A CN that both know."""
    strangers: dict[str, list[NtmNode]]


class Timed(NamedTuple):
    """From the DNS query on, in milliseconds."""

    answer_ms: float
    byte_ms: float

    def is_within(self, most: "Timed") -> bool:
        return self.answer_ms <= most.answer_ms and self.byte_ms <= most.byte_ms

    def delays(self, one_way_ms: float = ONE_WAY_MS) -> str:
        """Say it in one-way delays."""
        return f"{self.answer_ms / one_way_ms:.2f} / {self.byte_ms / one_way_ms:.2f}"


@pytest.fixture(scope="module")
def contacts(world: World) -> Contacts:
    org, net = world.federation("ntm.example.org", "ntm.example.net")
    lab, internet = world.lab, world.internet
    home, office = lab.nat("home", internet), lab.nat("office", internet)
    places = {"outside": internet, "inside": home}
    mn = {place: world.machine(place, "alice", org, at) for place, at in places.items()}
    numbers = range(1 + NEXT_DOOR + MEETINGS)
    cn = [world.machine(f"cn{number}", "bob", net, office) for number in numbers]
    world.bring_up(*mn.values(), *cn)
    for node in cn:
        node.host.popen([sys.executable, first_byte.__file__, "serve"])
        await_listening(node.host, first_byte.PORT)
    for node in mn.values():
        # Who asks first has the servers share their keys, and learns of the zone.
        contact(node, cn[0])
    return Contacts(mn, cn[0], {place: cn[1:] for place in places})


@pytest.fixture(scope="module")
def near(contacts: Contacts) -> dict[int, Timed]:
    """First contacts without any delay on the way, by figure."""
    return {
        sequence.figure: min(meet_a_stranger(contacts, sequence) for _ in range(NEXT_DOOR))
        for sequence in FIGURES
    }


@pytest.fixture(scope="module")
def far_apart(world: World, contacts: Contacts, near: dict[int, Timed]) -> Contacts:
    assert near, "measured before"
    lab = world.lab
    ends = [one.host for one in (*world.organisations, contacts.mn["outside"])]
    nats = [lab.machines["home"], lab.machines["office"]]
    for machine in (world.dns.host, *ends, *nats):
        lab.impair(machine, Impairment(delay_ms=ONE_WAY_MS / 2))
    return contacts


@pytest.mark.parametrize("sequence", FIGURES, ids=ids)
def test_a_first_contact_next_door_needs_no_second_try(
    near: dict[int, Timed], sequence: Sequence, figure: Figure
) -> None:
    timed = near[sequence.figure]

    took = f"answer {timed.answer_ms:.1f} ms, first echoed byte {timed.byte_ms:.1f} ms"
    figure(f"set-up, Fig. {sequence.figure}, 0 ms one way", took)
    assert timed.byte_ms < SECOND_TRY_MS


def test_the_machines_are_as_far_apart_as_they_should(far_apart: Contacts) -> None:
    mn, other = far_apart.mn["inside"], far_apart.mn["outside"].host
    mn.host.run(["ping", "-c", "1", str(other.ipv4)])

    shown = mn.host.run(["ping", "-c", "10", "-i", "0.2", str(other.ipv4)]).stdout

    fastest_ms = float(shown.rpartition("= ")[2].split("/")[0])
    assert 2 * ONE_WAY_MS <= fastest_ms < 2 * ONE_WAY_MS + 20


@pytest.mark.parametrize("sequence", FIGURES, ids=ids)
def test_a_first_contact_far_away_takes_the_delays_promised_and_no_more(
    near: dict[int, Timed], far_apart: Contacts, sequence: Sequence, figure: Figure
) -> None:
    # What takes as long next door is computing, of which a busy machine does more.
    computing, slack_ms = near[sequence.figure], SLACK * ONE_WAY_MS
    least = Timed(sequence.ours * ONE_WAY_MS, (sequence.ours + sequence.byte) * ONE_WAY_MS)
    most = Timed(*(a + b + slack_ms for a, b in zip(least, computing, strict=True)))

    timed = best(lambda: meet_a_stranger(far_apart, sequence), most, MEETINGS)

    what = f"set-up, Fig. {sequence.figure}, {ONE_WAY_MS:.0f} ms one way, answer / first byte"
    first_byte_of_paper = sequence.paper + sequence.byte
    figure(what, f"{timed.delays()} delays; paper {sequence.paper} / {first_byte_of_paper}")
    assert least.answer_ms <= timed.answer_ms <= most.answer_ms
    # It may come sooner: what began through RS may be direct before that.
    assert least.answer_ms < timed.byte_ms <= most.byte_ms


@pytest.mark.parametrize("place", ["outside", "inside"])
def test_a_known_peer_is_answered_without_any_delay(
    far_apart: Contacts, place: str, figure: Figure
) -> None:
    mn, cn = far_apart.mn[place], far_apart.friend

    timed = best(lambda: contact(mn, cn), Timed(ONE_WAY_MS / 2, inf), LOOKS)

    figure(f"known peer, MN {place}, {ONE_WAY_MS:.0f} ms one way", f"{timed.delays()} delays")
    assert timed.answer_ms < ONE_WAY_MS / 2


def best(meet: Callable[[], Timed], most: Timed, tries: int) -> Timed:
    """Meet until that took no longer, which on a busy machine not every try does."""
    tried: list[Timed] = []
    while len(tried) < tries:
        tried.append(meet())
        if tried[-1].is_within(most):
            return tried[-1]
    return min(tried)


def meet_a_stranger(contacts: Contacts, sequence: Sequence) -> Timed:
    return contact(contacts.mn[sequence.here], contacts.strangers[sequence.here].pop())


def contact(mn: NtmNode, cn: NtmNode) -> Timed:
    """Look a peer up, connect, and wait for the first echoed byte."""
    printed = mn.host.run([sys.executable, first_byte.__file__, cn.fqdn]).stdout
    taken = json.loads(printed)
    return Timed(taken["answer_s"] * 1000, taken["byte_s"] * 1000)
