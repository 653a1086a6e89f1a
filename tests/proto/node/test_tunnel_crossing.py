"""A better uplink comes while the old one carries. Ours: docs/protocol.md section 8."""

from ipaddress import IPv4Address
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.proto.node.link import Link, connected
from tests.proto.parts import HERE

from ntmobile.proto.node.events import LocalAddress
from ntmobile.proto.node.uplinks import left_standing
from ntmobile.wire.endpoint import Endpoint

OLD, NEW = 3, 4
BETTER = Endpoint("198.51.100.99", 9)


def crossing(*, works: bool = True) -> Link:
    """The first end has got a better uplink, which carries or not; the old one stays."""
    link = connected()
    link.a.held[OLD], link.a.place = link.a.place, BETTER
    if not works:
        link.a.cut.add(BETTER)
    link.a.tunnel.cross(OLD, link.now)
    link.settle()
    return link


def interface(link: Link) -> int | None:
    return None if link.a.loops.path is None else link.a.loops.path.interface


def test_data_keep_to_the_old_uplink_until_the_better_one_has_answered() -> None:
    link = crossing()

    assert interface(link) == OLD
    assert link.talk(link.a)
    assert link.a.handovers() == []


def test_once_the_better_one_answers_both_ends_use_it_and_the_move_cost_nothing() -> None:
    link = crossing()

    link.wait(0.2)

    assert interface(link) == 0
    assert link.b.path() == BETTER
    [move] = link.a.handovers()
    assert move.outage_ns == 0


def test_answers_by_the_old_uplink_do_not_take_the_peer_back_to_it() -> None:
    """Data go by the old one until the better one has answered: meanwhile the peer asks both."""
    link = connected()
    link.random, link.jitter_ns = Random(22), 1_000_000
    link.a.held[OLD], link.a.place = link.a.place, BETTER
    link.a.tunnel.cross(OLD, link.now)

    for _ in range(250):
        link.talk(link.a)
        link.wait(0.002)

    assert interface(link) == 0
    assert link.b.path() == BETTER


@pytest.mark.parametrize(("after_s", "follows"), [(0.2, False), (3.0, True)])
def test_after_an_update_the_peer_follows_nothing_else_for_two_seconds(
    after_s: float, *, follows: bool
) -> None:
    """Later it follows again: a NAT may have another mapping."""
    link = crossing()
    link.wait(after_s)
    assert link.b.path() == BETTER

    link.b.tunnel.handle_moved(HERE, 0, link.now)
    link.settle()

    assert link.b.path() == (HERE if follows else BETTER)


@pytest.mark.parametrize("seconds", [1.0, 12.0, 60.0])
def test_an_uplink_that_answers_nothing_never_gets_the_data(seconds: float) -> None:
    """The negative twin."""
    link = crossing(works=False)

    for _ in range(round(seconds)):
        link.wait(1.0)
        assert link.talk(link.a)

    assert interface(link) == OLD
    assert link.b.path() == HERE
    assert link.a.handovers() == []


def test_an_uplink_that_works_only_later_is_taken_then() -> None:
    link = crossing(works=False)
    link.wait(30)

    link.a.cut.clear()
    link.wait(11)

    assert interface(link) == 0
    assert link.b.path() == BETTER


def test_when_the_old_uplink_goes_first_the_tunnel_moves_at_once() -> None:
    link = crossing(works=False)
    link.a.cut.clear()
    del link.a.held[OLD]

    link.move(link.a, BETTER)
    link.wait(0.2)

    assert interface(link) == 0
    assert link.b.path() == BETTER


def test_a_new_path_by_negotiation_ends_the_crossing() -> None:
    link = crossing(works=False)
    link.a.cut.clear()

    link.negotiate(link.a)

    assert interface(link) == 0


def local(interface: int, last: int, *, preferred: bool) -> LocalAddress:
    host = str(IPv4Address(f"192.0.2.{last}"))
    return LocalAddress(Endpoint(host, 4330), interface, 1500, preferred=preferred)


ONE = (local(OLD, 1, preferred=True),)
TWO = (local(NEW, 2, preferred=True), local(OLD, 1, preferred=False))


@pytest.mark.parametrize(
    ("before", "now", "held", "stands"),
    [
        (ONE, TWO, 0, OLD),
        (TWO, ONE, 0, 0),
        (ONE, (local(NEW, 2, preferred=True),), 0, 0),
        (ONE, (local(OLD, 1, preferred=True), local(NEW, 2, preferred=False)), 0, 0),
        (ONE, (local(NEW, 2, preferred=True), local(OLD, 7, preferred=False)), 0, 0),
        (ONE, (local(OLD, 1, preferred=False),), 0, 0),
        (TWO, (local(9, 3, preferred=True), *TWO[1:]), OLD, OLD),
        (TWO, (local(9, 3, preferred=True), TWO[0]), OLD, 0),
        (ONE, (), 0, 0),
    ],
    ids=[
        "a better one came",
        "the better one went",
        "the only one was exchanged",
        "a worse one came",
        "the old one has another address",
        "no default route is left",
        "one that was not taken yet was exchanged",
        "the one that is held went",
        "all went",
    ],
)
def test_which_uplink_still_stands(
    before: tuple[LocalAddress, ...], now: tuple[LocalAddress, ...], held: int, stands: int
) -> None:
    assert left_standing(before, now, 4, held) == stands


ADDRESSES = st.lists(
    st.builds(local, st.integers(1, 3), st.integers(1, 3), preferred=st.booleans()), max_size=4
).map(tuple)


@given(ADDRESSES, ADDRESSES, st.integers(0, 3))
def test_what_still_stands_was_there_is_there_and_is_not_preferred(
    before: tuple[LocalAddress, ...], now: tuple[LocalAddress, ...], held: int
) -> None:
    found = left_standing(before, now, 4, held)

    if found:
        was = {each.endpoint for each in before if each.interface == found}
        assert was & {each.endpoint for each in now if each.interface == found}
        assert found not in {each.interface for each in now if each.preferred}
