"""One suite for all implementation models: what each can do with each other, all nine pairs.

The system type and the VpnService type are asked through the machine's own sockets, the framework
built-in type through its own. Source: paper, Abstract; paper, Implementation models.
"""

from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from ntmobile.lab import Impairment
from ntmobile.lab.ntm import World
from tests.system.end import PIECE, expected
from tests.system.models import MODELS, Machine, begin, machines

pytestmark = [pytest.mark.lab, pytest.mark.paper("Abstract", "Implementation models")]
PAIRS = [(mine, yours) for mine in MODELS for yours in MODELS]
FAMILIES = (4, 6)
LARGE = 256 * PIECE
MOVING, PACE_S = 64 * PIECE, 0.02
"""Four megabytes in a second and a quarter."""
DATAGRAMS = 20
LOSSY = 16 * PIECE
"""A second of time-outs would be the exception: some forty segments of it are lost."""
MOST_HELD = 32 << 20
"""What both ends buffer at most before a writer has to wait; a flood has no end."""
FLOODS = count()
"""Numbers that tell one from the other."""
SIZES = [1, 512, 1200, 3000]
"""Of datagrams; the last is larger than any packet."""


@dataclass
class Pair:
    """Who begins, behind one NAT, and who is asked, behind another."""

    world: World
    here: Machine
    there: Machine

    def ask(self, verb: str, *arguments: object) -> dict[str, Any]:
        return self.here.ask(verb, self.there.fqdn, *arguments)


@dataclass
class Place:
    world: World
    here: dict[str, Machine]
    there: dict[str, Machine]


@pytest.fixture(scope="module")
def place(world: World) -> Place:
    org, net = world.federation("ntm.example.org", "ntm.example.net")
    home, office = (world.lab.nat(name, world.internet) for name in ("home", "office"))
    here = machines(world, org, "alice", home)
    there = machines(world, net, "bob", office)
    begin(*here.values(), *there.values())
    return Place(world, here, there)


@pytest.fixture(params=PAIRS, ids=["-to-".join(pair) for pair in PAIRS], scope="module")
def pair(place: Place, request: pytest.FixtureRequest) -> Pair:
    mine, yours = request.param
    return Pair(place.world, place.here[mine], place.there[yours])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_name_has_an_address_of_each_family_and_a_name_of_nobody_has_none(
    pair: Pair, family: int
) -> None:
    found = pair.ask("look_up", family)["found"]
    nobody = pair.here.ask("look_up", f"nobody.bob.{pair.there.organisation.domain}", family)

    assert len(found) == 1
    assert (":" in found[0]) == (family == 6)
    assert nobody == {"found": []}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_large_transfer_arrives_as_it_was_sent(pair: Pair, family: int) -> None:
    pair.here.begin_asking("download", pair.there.fqdn, family, LARGE, 0)

    assert "quarter" in pair.here.answer()
    assert pair.here.answer() == {"bytes": LARGE, "sha256": expected(LARGE)}


@pytest.mark.parametrize("family", FAMILIES)
def test_who_has_sent_everything_still_hears_the_answer(pair: Pair, family: int) -> None:
    answer = pair.ask("upload", family, LARGE)

    assert answer == {"bytes": LARGE, "sha256": expected(LARGE)}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_connection_broken_off_is_a_reset_and_a_closed_port_a_refusal(
    pair: Pair, family: int
) -> None:
    assert pair.ask("reset", family) == {"error": "ConnectionResetError"}
    assert pair.ask("refused", family) == {"error": "ConnectionRefusedError"}


@pytest.mark.parametrize("family", FAMILIES)
def test_datagrams_come_back_whole_and_a_port_of_nobody_is_told(pair: Pair, family: int) -> None:
    assert pair.ask("echo", family, SIZES) == {"right": len(SIZES)}
    assert pair.ask("unheard", family) == {"error": "ConnectionRefusedError"}


def test_who_does_not_read_holds_the_writer_back_and_loses_nothing(pair: Pair) -> None:
    flood = next(FLOODS)
    pair.ask("hold", 6, flood)
    held = pair.there.ask("stalled", flood)["bytes"]
    pieces = held // PIECE + 64

    assert 0 < held < MOST_HELD
    assert pair.here.ask("read_on", pieces) == {"sha256": expected(pieces * PIECE)}


def test_a_transfer_survives_a_move(pair: Pair) -> None:
    elsewhere = pair.world.internet
    home = pair.here.host.uplink.network
    pair.here.begin_asking("download", pair.there.fqdn, 6, MOVING, PACE_S)
    assert "quarter" in pair.here.answer()

    pair.here.host.move(elsewhere)
    try:
        arrived = pair.here.answer()
    finally:
        pair.here.host.move(home)

    assert arrived == {"bytes": MOVING, "sha256": expected(MOVING)}


def test_five_percent_of_loss_lose_nothing(pair: Pair) -> None:
    with pair.world.lab.impair(pair.here.host, Impairment(loss=0.05)):
        up = pair.ask("upload", 4, LOSSY)
        back = pair.ask("echo", 4, [100] * DATAGRAMS)

    assert up == {"bytes": LOSSY, "sha256": expected(LOSSY)}
    assert back == {"right": DATAGRAMS}
