"""Ours: docs/protocol.md section 2."""

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.proto.parts import ALICE, BOB, CAROL

from ntmobile.proto.coordinator.policy import Federation, Policy, Rule, Subject, is_below
from ntmobile.wire.registration import Reason

MN, CN, FOREIGN = Subject(ALICE), Subject(CAROL), Subject(BOB)


def policy(*rules: Rule, **options: object) -> Policy:
    return Policy("example.org", rules=rules, **options)  # type: ignore[arg-type]


def test_nodes_of_one_domain_may_talk() -> None:
    assert policy().refuses(MN, CN) is None


@pytest.mark.parametrize(
    ("federation", "listed", "reason"),
    [
        (Federation.OPEN, (), None),
        (Federation.LISTED, ("example.net",), None),
        (Federation.LISTED, ("example.com",), Reason.FOREIGN_DOMAIN),
        (Federation.LISTED, (), Reason.FOREIGN_DOMAIN),
        (Federation.CLOSED, ("example.net",), Reason.FOREIGN_DOMAIN),
    ],
)
@pytest.mark.parametrize("foreign_asks", [True, False])
def test_a_foreign_domain_is_judged_by_the_mode(
    federation: Federation, listed: tuple[str, ...], reason: Reason | None, foreign_asks: bool
) -> None:
    held = policy(federation=federation, listed=frozenset(listed))

    ends = (FOREIGN, CN) if foreign_asks else (CN, FOREIGN)

    assert held.refuses(*ends) is reason
    assert held.refuses_domain("example.net") is reason


def test_a_name_that_only_ends_like_a_listed_domain_is_not_of_it() -> None:
    held = policy(listed=frozenset({"example.net"}))

    assert held.refuses(MN, Subject("pc.bobexample.net")) is Reason.FOREIGN_DOMAIN
    assert not is_below("evilexample.net", "example.net")
    assert not is_below("example.net", "example.net"), "a domain is no node of itself"
    assert is_below("a.example.net", "example.net")


@pytest.mark.parametrize("revoked", [ALICE, CAROL])
def test_a_revoked_end_may_not_talk_whoever_asks(revoked: str) -> None:
    held = policy(Rule("*", "*", allow=True), revoked=frozenset({revoked}))

    assert held.refuses(MN, CN) is Reason.REVOKED
    assert held.refuses(MN, Subject("pad.dave.example.org")) is (
        Reason.REVOKED if revoked == ALICE else None
    )


def test_the_first_rule_that_matches_decides() -> None:
    forbid, allow = Rule("*", "*", allow=False), Rule("*.alice.*", "*", allow=True)

    assert policy(allow, forbid).refuses(MN, CN) is None
    assert policy(forbid, allow).refuses(MN, CN) is Reason.NOT_ALLOWED
    assert policy(allow, forbid).refuses(CN, MN) is Reason.NOT_ALLOWED, "a rule has a direction"


def test_a_rule_may_name_groups() -> None:
    held = policy(Rule("@staff", "@printers", allow=False))
    staff, printer = Subject(ALICE, ("staff",)), Subject(CAROL, ("x", "printers"))

    assert held.refuses(staff, printer) is Reason.NOT_ALLOWED
    assert held.refuses(MN, printer) is None
    assert held.refuses(staff, CN) is None


def test_a_pattern_cannot_be_smuggled_in_by_a_name() -> None:
    held = policy(Rule("laptop.alice.example.org", "*", allow=False))

    assert held.refuses(Subject("laptop.*.example.org"), CN) is None
    assert held.refuses(MN, CN) is Reason.NOT_ALLOWED


def test_no_rule_lets_a_refused_domain_in() -> None:
    held = policy(Rule("*", "*", allow=True), federation=Federation.CLOSED)

    assert held.refuses(MN, FOREIGN) is Reason.FOREIGN_DOMAIN


names = st.sampled_from([ALICE, BOB, CAROL, "x.y.example.com"])
rules = st.lists(
    st.builds(
        Rule, st.sampled_from(["*", ALICE, "*.net", "@g"]), names | st.just("*"), st.booleans()
    )
)


@given(names, names, rules, st.frozensets(names), st.sampled_from(Federation))
def test_nothing_overrules_a_revocation_and_nothing_foreign_slips_in(
    mn: str, cn: str, lines: list[Rule], revoked: frozenset[str], federation: Federation
) -> None:
    held = Policy("example.org", federation, frozenset(), tuple(lines), revoked)

    reason = held.refuses(Subject(mn, ("g",)), Subject(cn))

    if {mn, cn} & revoked:
        assert reason in (Reason.REVOKED, Reason.FOREIGN_DOMAIN)
    foreign = not all(is_below(name, "example.org") for name in (mn, cn))
    if foreign and federation is not Federation.OPEN:
        assert reason in (Reason.FOREIGN_DOMAIN, Reason.REVOKED)
    if reason is Reason.NOT_ALLOWED:
        assert any(not line.allow for line in lines)
