"""Table 1 of the paper, held against every key of random histories.

The recorder writes down each participant's act on each key. Whatever the nodes, the networks and
the servers did: who may create, carry and own a key is the table's, a carrier's copy is gone soon,
and what a negotiation needed does not outlive it. Source: paper, Table 1.
"""

from collections import defaultdict

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from tests.model.test_histories import NODES, QUIET_S, Act, Crash, Real, Restart, Talk, acts

from ntmobile.keys.table import TABLE_1, KeyAct, Party
from ntmobile.sim.recorder import KeyLine
from ntmobile.time import SECOND, Instant

pytestmark = pytest.mark.paper("Table 1")

BY_NAME = {kind.__name__: kind for kind in TABLE_1}
CARRIED_S = 20
"""A negotiation that hangs is forgotten after 15 s, a request after 12 tries."""


class Watched(Real):
    """Notes which processes were killed, and when: their memory went with them."""

    def __init__(self) -> None:
        super().__init__()
        self.killed: list[tuple[str, Instant]] = []

    def do(self, act: Act) -> None:
        match act:
            case Crash(node):
                self.killed.append((self.nodes[node].host.name, self.world.now))
            case Restart(domain, server):
                held = self.organisations[domain]
                process = {"dc": held.coordinator, "as": held.account, "rs": held.relay}[server]
                self.killed.append((process.host.name, self.world.now))
        super().do(act)


def run_of(history: list[Act]) -> Watched:
    """Play a history, with some traffic in any case, and let it come to rest."""
    real = Watched()
    for act in (Talk(NODES[0], NODES[2]), *history, Talk(NODES[1], NODES[0])):
        real.do(act)
    real.world.run_for(QUIET_S)
    return real


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(acts, max_size=10))
def test_in_any_history_every_key_is_where_the_table_says_and_nowhere_else(
    history: list[Act],
) -> None:
    real = run_of(history)
    lines = real.world.recorder.keys

    assert lines
    assert [line for line in lines if not is_allowed(line)] == []
    assert [line for line in lines if line.record.party is Party.RS and names(line, "Ktmp")] == []
    servers = [line for line in lines if line.record.party is not Party.NODE]
    assert [line for line in servers if names(line, "Kmncn")] == []
    assert more_than_one_creator(lines) == {}
    assert carried_too_long(real, lines) == []
    assert still_held(real, lines, "Ktmp") == []


def test_a_key_that_stays_with_its_carrier_would_be_noticed() -> None:
    """The negative twin: the checks above can fail."""
    real = run_of([])
    lines = [
        line
        for line in real.world.recorder.keys
        if line.record.act is not KeyAct.ERASED or line.record.party is not Party.DC
    ]

    assert carried_too_long(real, lines)


@pytest.mark.parametrize("kind", TABLE_1, ids=lambda kind: kind.__name__)
def test_each_row_of_the_table_is_the_papers(kind: type) -> None:
    row = BY_NAME[kind.__name__]

    assert (row.creator, row.owners) == PAPER[kind.__name__]


PAPER = {
    "Kntmdc": ({Party.AS}, {Party.NODE, Party.DC}),
    "Kdcns": ({Party.DC}, {Party.DC, Party.NS}),
    "Kntmns": ({Party.DC}, {Party.NODE, Party.NS}),
    "Kdcdc": ({Party.DC}, {Party.DC}),
    "Kdcrs": ({Party.DC}, {Party.DC, Party.RS}),
    "Ktun": ({Party.DC}, {Party.NODE, Party.RS}),
    "Ktmp": ({Party.DC}, {Party.NODE}),
    "Kmncn": ({Party.NODE}, {Party.NODE}),
}


def is_allowed(line: KeyLine) -> bool:
    kind, party = BY_NAME[line.record.key], line.record.party
    match line.record.act:
        case KeyAct.CREATED:
            return party in kind.creator
        case KeyAct.OWNED:
            return party in kind.owners
        case KeyAct.CARRIED:
            return party in kind.couriers | kind.creator
        case KeyAct.ERASED:
            return party in kind.owners | kind.couriers | kind.creator


def names(line: KeyLine, key: str) -> bool:
    return line.record.key == key


def more_than_one_creator(lines: list[KeyLine]) -> dict[tuple[str, str], set[str]]:
    creators: dict[tuple[str, str], set[str]] = defaultdict(set)
    for line in lines:
        if line.record.act is KeyAct.CREATED:
            creators[line.record.key, line.record.identifier].add(line.host)
    return {key: hosts for key, hosts in creators.items() if len(hosts) > 1}


def carried_too_long(real: Watched, lines: list[KeyLine]) -> list[KeyLine]:
    """Keys a creator or courier carried for longer than any hand-over takes."""
    erased = {
        (line.host, line.record.key, line.record.identifier): line.record.at
        for line in lines
        if line.record.act is KeyAct.ERASED
    }
    return [
        line
        for line in lines
        if line.record.act is KeyAct.CARRIED
        and erased.get((line.host, line.record.key, line.record.identifier), real.world.now)
        - line.record.at
        > CARRIED_S * SECOND
        and not restarted(real, line)
    ]


def still_held(real: Watched, lines: list[KeyLine], key: str) -> list[KeyLine]:
    """Keys of that name that somebody who still runs never erased."""
    gone = {(e.host, e.record.identifier) for e in lines if e.record.act is KeyAct.ERASED}
    kept = (KeyAct.OWNED, KeyAct.CARRIED)
    return [
        line
        for line in lines
        if names(line, key)
        and line.record.act in kept
        and (line.host, line.record.identifier) not in gone
        and not restarted(real, line)
    ]


def restarted(real: Watched, line: KeyLine) -> bool:
    """Whether the process that held the key was killed since: its memory went with it."""
    return any(host == line.host and at >= line.record.at for host, at in real.killed)
