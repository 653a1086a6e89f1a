"""Table 1 over recorded runs: who created, carried, owned and erased each key."""

import pytest

from ntmobile.keys.table import TABLE_1, KeyAct, Party
from ntmobile.sim.figures import figure_6, figure_7
from ntmobile.sim.recorder import KeyLine
from ntmobile.sim.world import World

pytestmark = pytest.mark.paper("Table 1")

BY_NAME = {kind.__name__: kind for kind in TABLE_1}


@pytest.fixture(scope="module", params=[figure_6, figure_7], ids=["Fig. 6", "Fig. 7"])
def run(request: pytest.FixtureRequest) -> World:
    """A run with all servers, left alone for five seconds afterwards."""
    figure = request.param()
    world: World = figure.world
    world.run_for(5)
    return world


def test_only_the_tables_creators_created_and_only_its_owners_owned(run: World) -> None:
    for line in run.recorder.keys:
        kind = BY_NAME[line.record.key]
        if line.record.act is KeyAct.CREATED:
            assert line.record.party in kind.creator, line
        if line.record.act is KeyAct.OWNED:
            assert line.record.party in kind.owners, line


def test_rs_never_holds_ktmp_or_kmncn_and_no_server_ever_kmncn(run: World) -> None:
    holders = {(line.record.key, line.record.party) for line in run.recorder.keys}

    assert ("Ktmp", Party.RS) not in holders
    assert {party for key, party in holders if key == "Kmncn"} == {Party.NODE}


def test_every_key_that_was_carried_was_erased_by_its_carrier(run: World) -> None:
    carried = of_act(run, KeyAct.CARRIED)
    erased = {(line.host, line.record.identifier) for line in of_act(run, KeyAct.ERASED)}

    assert carried
    assert [line for line in carried if (line.host, line.record.identifier) not in erased] == []


def test_ktmp_lives_only_as_long_as_the_negotiation(run: World) -> None:
    lines = run.recorder.of_key("Ktmp")
    held = {(line.host, line.record.identifier) for line in lines}
    erased = {
        (line.host, line.record.identifier) for line in lines if line.record.act is KeyAct.ERASED
    }

    assert held == erased


def test_every_key_of_the_run_has_exactly_one_creator(run: World) -> None:
    created: dict[tuple[str, str], list[str]] = {}
    for line in of_act(run, KeyAct.CREATED):
        created.setdefault((line.record.key, line.record.identifier), []).append(line.host)
    held = {(line.record.key, line.record.identifier) for line in run.recorder.keys}

    assert {key for key, hosts in created.items() if len(hosts) > 1} == set()
    assert held == created.keys()


def test_both_ends_and_nobody_else_own_each_kmncn() -> None:
    figure = figure_7()
    owners: dict[str, set[str]] = {}
    for line in figure.world.recorder.of_key("Kmncn", KeyAct.OWNED):
        owners.setdefault(line.record.identifier, set()).add(line.host)

    assert owners
    assert all(len(hosts) == 2 for hosts in owners.values())


def test_rs_holds_a_ktun_only_where_it_relays() -> None:
    """The negative twin: Fig. 6 needs no RS, so RS learns nothing of that tunnel."""
    held = [
        {k.record.key for k in figure().world.recorder.keys if k.record.party is Party.RS}
        for figure in (figure_6, figure_7)
    ]

    assert held == [{"Kdcrs"}, {"Kdcrs", "Ktun"}]


def of_act(world: World, act: KeyAct) -> list[KeyLine]:
    return [line for line in world.recorder.keys if line.record.act is act]
