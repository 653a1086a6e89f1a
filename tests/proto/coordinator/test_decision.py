"""Ours: docs/protocol.md section 7, the table row by row."""

from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.proto.parts import ALICE, BOB, information

from ntmobile.proto.coordinator.decision import (
    Decision,
    choose_cipher,
    decide,
    same_mapped,
)
from ntmobile.proto.coordinator.settings import Relay
from ntmobile.wire.direction import Cipher, NodeInformation, Purpose, Role
from ntmobile.wire.endpoint import Endpoint

pytestmark = pytest.mark.paper("Fig. 6", "Fig. 7")

V4, V6 = Endpoint("203.0.113.1", 40001), Endpoint("2001:db8:a::1", 40001)
OTHER4, OTHER6 = Endpoint("203.0.113.2", 40002), Endpoint("2001:db8:b::2", 40002)
INSIDE, INSIDE_TOO = Endpoint("192.168.1.2", 500), Endpoint("192.168.1.3", 500)
HIDDEN = Endpoint("0.0.0.0", 0)
BOTH = Relay("both", (Endpoint("192.0.2.9", 4330), Endpoint("2001:db8::9", 4330)))
FOUR = Relay("four", (Endpoint("192.0.2.8", 4330),))


@dataclass(frozen=True)
class Row:
    mn: NodeInformation
    cn: NodeInformation
    decision: Decision | None
    purpose: Purpose = Purpose.CONNECT


def mn(*mapped: Endpoint, **rest: tuple[Endpoint, ...]) -> NodeInformation:
    return information(ALICE, mapped=mapped, **rest)


def cn(*mapped: Endpoint, **rest: tuple[Endpoint, ...]) -> NodeInformation:
    return information(BOB, mapped=mapped, **rest)


RELAYED = Decision(Role.MN, (), BOTH)
ROWS = {
    "no common family": Row(mn(V4, reachable=(V4,)), cn(OTHER6, reachable=(OTHER6,)), RELAYED),
    "MN is relay-only": Row(mn(HIDDEN), cn(OTHER4, reachable=(OTHER4,)), RELAYED),
    "CN is relay-only": Row(mn(V4, reachable=(V4,)), cn(HIDDEN), RELAYED),
    "same mapped address": Row(
        mn(V4, local=(INSIDE,)),
        cn(Endpoint(V4.host, 7), local=(INSIDE_TOO,)),
        Decision(Role.MN, (INSIDE_TOO,), BOTH),
    ),
    "CN reachable": Row(
        mn(V4), cn(OTHER4, reachable=(OTHER4,)), Decision(Role.MN, (OTHER4,), None)
    ),
    "both reachable": Row(
        mn(V4, reachable=(V4,)),
        cn(OTHER4, reachable=(OTHER4,)),
        Decision(Role.MN, (OTHER4,), None),
    ),
    "only MN reachable: Fig. 6": Row(
        mn(V4, reachable=(V4,)), cn(OTHER4), Decision(Role.CN, (V4,), None)
    ),
    "neither reachable: Fig. 7": Row(mn(V4), cn(OTHER4), RELAYED),
    "both families: IPv6 first": Row(
        mn(V4, V6),
        cn(OTHER4, OTHER6, reachable=(OTHER4, OTHER6)),
        Decision(Role.MN, (OTHER6, OTHER4), None),
    ),
    "the direct path stays silent": Row(
        mn(V4, reachable=(V4,)),
        cn(OTHER4, reachable=(OTHER4,)),
        RELAYED,
        Purpose.RELAY,
    ),
    "reachable only in a family MN lacks": Row(
        mn(V4), cn(OTHER4, OTHER6, reachable=(OTHER6,)), RELAYED
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_each_row_of_the_table(row: Row) -> None:
    assert decide(row.mn, row.cn, (BOTH,), row.purpose) == row.decision


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_without_an_rs_what_needs_one_is_impossible_and_the_rest_is_not(row: Row) -> None:
    decision = decide(row.mn, row.cn, (), row.purpose)

    assert row.decision is not None
    direct = bool(row.decision.targets)
    assert (decision is not None) is direct
    assert decision is None or decision.relay is None


def test_an_rs_must_have_a_family_of_each_end() -> None:
    ends = mn(V4), cn(OTHER6)

    assert decide(*ends, (FOUR,), Purpose.CONNECT) is None
    assert decide(*ends, (FOUR, BOTH), Purpose.CONNECT) == RELAYED


def test_of_the_rs_that_fit_the_first_is_taken() -> None:
    assert decide(mn(V4), cn(OTHER4), (FOUR, BOTH), Purpose.CONNECT) == Decision(Role.MN, (), FOUR)


def test_two_with_one_public_address_and_no_nat_are_not_behind_the_same_nat() -> None:
    left = mn(V4, local=(V4,))
    right = cn(Endpoint(V4.host, 7), local=(Endpoint(V4.host, 7),))

    assert not same_mapped(left, right)
    assert same_mapped(mn(V4, local=(INSIDE,)), cn(Endpoint(V4.host, 7), local=(INSIDE_TOO,)))


@pytest.mark.parametrize(
    ("mn_aes", "cn_aes", "cipher"),
    [
        (True, True, Cipher.AES_256_GCM),
        (True, False, Cipher.CHACHA20_POLY1305),
        (False, True, Cipher.CHACHA20_POLY1305),
        (False, False, Cipher.CHACHA20_POLY1305),
    ],
)
def test_aes_only_where_both_ends_prefer_it(mn_aes: bool, cn_aes: bool, cipher: Cipher) -> None:
    assert choose_cipher(preferring(ALICE, aes=mn_aes), preferring(BOB, aes=cn_aes)) is cipher


def preferring(fqdn: str, *, aes: bool) -> NodeInformation:
    ciphers = (Cipher.AES_256_GCM, Cipher.CHACHA20_POLY1305)
    base = information(fqdn)
    return NodeInformation(
        fqdn,
        base.virtual_ipv4,
        base.virtual_ipv6,
        base.identity,
        (),
        (),
        (),
        (),
        ciphers if aes else ciphers[::-1],
    )


places = st.sampled_from([V4, V6, OTHER4, OTHER6, HIDDEN])
some_mapped = st.lists(places, min_size=1, max_size=2, unique=True).map(tuple)


@given(some_mapped, some_mapped, st.sampled_from(Purpose), st.data())
def test_whatever_the_ends_are_each_could_follow_the_decision(
    mn_mapped: tuple[Endpoint, ...],
    cn_mapped: tuple[Endpoint, ...],
    purpose: Purpose,
    data: st.DataObject,
) -> None:
    left = mn(*mn_mapped, reachable=tuple(data.draw(st.sets(st.sampled_from(mn_mapped)))))
    right = cn(*cn_mapped, reachable=tuple(data.draw(st.sets(st.sampled_from(cn_mapped)))))

    decision = decide(left, right, (BOTH,), purpose)

    assert decision is not None, "a dual-stack RS fits everyone"
    sender, awaiting = (left, right) if decision.sender is Role.MN else (right, left)
    assert set(decision.targets) <= {*awaiting.reachable, *awaiting.local}
    assert {t.version for t in decision.targets} <= {m.version for m in sender.mapped}
    assert decision.targets or decision.relay
    hides = any(end.host.is_unspecified for end in (*mn_mapped, *cn_mapped))
    assert not (hides and decision.targets), "no address of a relay-only node is ever used"
