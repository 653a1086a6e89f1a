"""Two tunnels on a bad link, with rekeys, moves, negotiations and glare in any order.

Ours: docs/protocol.md sections 4 and 8.
"""

from dataclasses import dataclass

import hypothesis.strategies as st
from hypothesis import example, given, settings
from tests.proto.node.link import Link, Side, connected
from tests.proto.parts import HERE, THERE

from ntmobile.wire.endpoint import Endpoint

PLACES = {
    "a": (HERE, Endpoint("198.51.100.50", 50), Endpoint("198.51.100.51", 51)),
    "b": (THERE, Endpoint("203.0.113.50", 50), Endpoint("203.0.113.51", 51)),
}


@dataclass(frozen=True)
class Rekey:
    who: str


@dataclass(frozen=True)
class Negotiate:
    who: str
    reach_s: float
    """How long after the awaiting end the sender learns that it is done."""


@dataclass(frozen=True)
class AskInVain:
    who: str


@dataclass(frozen=True)
class PassOn:
    """A relay passes on the Tunnel Requests of those that asked in vain."""


@dataclass(frozen=True)
class Move:
    who: str
    number: int


@dataclass(frozen=True)
class Weather:
    loss: float
    jitter_ns: int
    double: float


@dataclass(frozen=True)
class Talk:
    who: str


@dataclass(frozen=True)
class Wait:
    seconds: float


who = st.sampled_from("ab")
acts = st.one_of(
    st.builds(Rekey, who),
    st.builds(Negotiate, who, st.sampled_from((0.0, 0.02, 0.6))),
    st.builds(AskInVain, who),
    st.builds(PassOn),
    st.builds(Move, who, st.integers(0, 2)),
    st.builds(
        Weather,
        st.sampled_from((0.0, 0.2, 0.6, 1.0)),
        st.sampled_from((0, 5_000_000, 60_000_000)),
        st.sampled_from((0.0, 0.3)),
    ),
    st.builds(Talk, who),
    st.builds(Wait, st.sampled_from((0.005, 0.03, 0.3, 4.0, 11.0, 125.0))),
)


def do(link: Link, act: object) -> None:
    match act:
        case Rekey(name):
            side(link, name).tunnel.rekey(link.now)
            link.settle()
        case Negotiate(name, reach_s):
            link.negotiate(side(link, name), reach_ns=round(reach_s * 1e9))
        case AskInVain(name):
            link.ask_in_vain(side(link, name))
        case PassOn():
            link.pass_on()
        case Move(name, number):
            link.move(side(link, name), PLACES[name][number])
        case Weather(loss, jitter_ns, double):
            link.loss, link.jitter_ns, link.double = loss, jitter_ns, double
        case Talk(name):
            link.talk(side(link, name))
        case Wait(seconds):
            link.wait(seconds)


def side(link: Link, name: str) -> Side:
    return link.a if name == "a" else link.b


@given(st.lists(acts, max_size=20), st.integers(0, 2**16))
@example([Weather(0.6, 0, 0.0), Move("a", 1), Wait(11.0), Negotiate("a", 0.6)], 2)
@settings(max_examples=150, deadline=None)
def test_after_any_history_both_ends_meet_in_one_open_epoch_and_at_one_another(
    history: list[object], seed: int
) -> None:
    link = connected(seed)
    for act in history:
        do(link, act)
        for each in link.sides:
            assert each.loops.sending is None or each.loops.sending in each.loops.keys
            assert len(each.keyring) == len(each.loops.keys), "machine and packet loops agree"

    link.loss, link.jitter_ns, link.double = 0.0, 0, 0.0
    for _ in range(20):
        for each in link.sides:
            link.talk(each)
        link.wait(1)

    if not link.a.tunnel.closed:
        assert link.can_talk(link.a)
        assert link.can_talk(link.b)
        assert link.a.loops.sending == link.b.loops.sending


quiet = st.sampled_from([Rekey("a"), Rekey("b"), Wait(0.01), Wait(2.0), Wait(12.0)])
late = st.sampled_from([AskInVain("a"), AskInVain("b"), PassOn()])


@given(st.lists(st.one_of(quiet, late)))
@example([AskInVain("a"), Rekey("a"), Wait(2.0), PassOn(), Wait(2.0)])
@settings(max_examples=150, deadline=None)
def test_on_a_good_link_neither_a_rekey_nor_a_late_tunnel_request_ever_loses_a_packet(
    history: list[object],
) -> None:
    link = connected()
    link.heals = False
    for act in history:
        do(link, act)
        for _ in range(4):
            assert link.talk(link.a)
            assert link.talk(link.b)
            link.wait(0.015)


@given(st.integers(0, 2**16), st.sampled_from((0.0, 0.2)), st.integers(0, 60_000_000))
@settings(max_examples=60, deadline=None)
def test_when_both_rekey_at_once_a_tunnel_that_is_old_goes_on_without_servers(
    seed: int, loss: float, jitter_ns: int
) -> None:
    link = connected(seed)
    link.heals = False
    link.wait(60)
    link.loss, link.jitter_ns = loss, jitter_ns
    link.a.tunnel.rekey(link.now)
    link.b.tunnel.rekey(link.now)
    link.wait(8)
    link.loss = 0.0

    for _ in range(30):
        assert link.talk(link.a)
        assert link.talk(link.b)
        link.wait(1)

    assert link.a.loops.sending == link.b.loops.sending
