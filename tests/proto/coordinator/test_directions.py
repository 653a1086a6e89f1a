"""The DC as DCmn. Source: paper, Figs. 5 to 7."""

from dataclasses import replace

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings
from tests.proto.coordinator.rig import DOMAIN, OPEN, OTHER_DC, PLACES, SETTINGS, Player, Rig
from tests.proto.parts import ALICE, BOB, CAROL, RS, drain, identity, information

from ntmobile.proto.coordinator.directions import FIND_RETRY_NS, MAX_OPEN_A_NODE, PATIENCE_NS
from ntmobile.proto.coordinator.policy import Federation, Policy, Rule
from ntmobile.proto.coordinator.settings import Relay
from ntmobile.proto.io import Call, CoordinatorFound, Failed, FindCoordinator
from ntmobile.time import SECOND
from ntmobile.wire.direction import (
    Action,
    NodeInformationRequest,
    NodeInformationResponse,
    Purpose,
    RelayDirection,
    Role,
    RouteDirection,
    Withdrawal,
)
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.identity import MAX_FOLDED, certificate_digest
from ntmobile.wire.registration import (
    NtmAck,
    Reason,
    Refusal,
)

pytestmark = pytest.mark.paper("Fig. 5", "Fig. 6", "Fig. 7")

ID = bytes((1,)) * 16
OTHER_RS = Endpoint("192.0.2.10", 4330)
PUBLIC = (PLACES[BOB],)


def pair(rig: Rig, *, mn_public: bool = False, cn_public: bool = False) -> tuple[Player, Player]:
    """Two nodes of the domain; public ones register the address they are seen at as their own."""
    mn = rig.node(ALICE, 1, **({"local": (PLACES[ALICE],)} if mn_public else {}))
    cn = rig.node(CAROL, 2, **({"local": (PLACES[CAROL],)} if cn_public else {}))
    return mn, cn


@pytest.mark.paper("Direction Request", "Relay Direction", "Route Direction", "Kdcrs")
def test_both_behind_nats_as_in_fig_7() -> None:
    rig = Rig()
    mn, cn = pair(rig)

    assert rig.direction(mn, CAROL) == NtmAck()

    assert rig.relay is not None
    relayed = rig.acknowledge(rig.relay, RelayDirection)
    to_cn, to_mn = rig.acknowledge(cn, RouteDirection), rig.acknowledge(mn, RouteDirection)
    assert (to_mn.role, to_mn.action) == (Role.MN, Action.SEND)
    assert (to_cn.role, to_cn.action) == (Role.CN, Action.AWAIT)
    assert to_mn.relay == to_cn.relay == (RS,)
    assert to_mn.targets == to_cn.targets == ()
    assert to_mn.ktun == to_cn.ktun == relayed.ktun
    assert to_mn.ktmp == to_cn.ktmp != relayed.ktun
    assert (to_mn.peer.fqdn, to_cn.peer.fqdn) == (CAROL, ALICE)


@pytest.mark.paper("Direction Request", "Route Direction", "NTM ACK")
def test_only_mn_reachable_as_in_fig_6() -> None:
    rig = Rig()
    mn, cn = pair(rig, mn_public=True)

    rig.direction(mn, CAROL)

    to_cn, to_mn = rig.acknowledge(cn, RouteDirection), rig.acknowledge(mn, RouteDirection)
    assert (to_cn.action, to_cn.targets) == (Action.SEND, (PLACES[ALICE],))
    assert (to_mn.action, to_mn.targets, to_mn.relay) == (Action.AWAIT, (), ())
    assert rig.relay is not None
    assert "RelayDirection" not in rig.relay.kinds()


def test_cn_reachable_and_mn_sends() -> None:
    rig = Rig()
    mn, cn = pair(rig, cn_public=True)

    rig.direction(mn, CAROL)

    assert rig.acknowledge(mn, RouteDirection).targets == (PLACES[CAROL],)
    assert rig.acknowledge(cn, RouteDirection).action is Action.AWAIT


def test_the_keys_of_a_negotiation_are_erased_once_all_have_them_and_not_before() -> None:
    rig = Rig()
    mn, cn = pair(rig)
    rig.direction(mn, CAROL)
    assert rig.relay is not None

    for who, kind in ((cn, RouteDirection), (mn, RouteDirection)):
        rig.acknowledge(who, kind)
        assert rig.carried() == ["Ktmp", "Ktun"]
    rig.acknowledge(rig.relay, RelayDirection)

    assert rig.carried() == []


def test_a_direction_request_that_comes_twice_is_one_negotiation() -> None:
    rig = Rig()
    mn, cn = pair(rig)

    assert rig.direction(mn, CAROL) == rig.direction(mn, CAROL) == NtmAck()

    assert cn.kinds().count("RouteDirection") == 1


def test_two_negotiations_never_share_a_key() -> None:
    rig = Rig()
    mn, cn = pair(rig)
    for number in (1, 2):
        rig.direction(mn, CAROL, number)

    first, second = rig.acknowledge(cn, RouteDirection), rig.acknowledge(cn, RouteDirection)

    secrets = {first.ktun, first.ktmp, second.ktun, second.ktmp}
    assert len(secrets) == 4
    assert first.ktun_identifier != second.ktun_identifier


def test_nodes_with_many_addresses_and_groups_are_directed_in_one_datagram() -> None:
    """Sixteen addresses an end, behind one NAT: all of them are told, as far as there is room."""
    rig = Rig()
    many = tuple(Endpoint(f"2001:db8::1:{n:x}", 40000 + n) for n in range(13)) + tuple(
        Endpoint(f"10.{n}.0.1", 40000) for n in range(3)
    )
    groups = tuple(f"group-number-{n}" for n in range(32))
    names = [f"{'n' * 40}{n}.{'u' * 40}.example.org" for n in range(2)]
    mn, cn = (rig.node(name, n, many, groups=groups) for n, name in enumerate(names, start=1))

    rig.direction(mn, cn.name)

    told = rig.acknowledge(mn, RouteDirection)
    assert {end.version for end in told.targets} == {4, 6}
    assert rig.acknowledge(cn, RouteDirection).peer.groups == groups[: len(told.peer.groups)]


@pytest.mark.paper("Node authentication")
@pytest.mark.parametrize("size", [190, MAX_FOLDED], ids=["own CA", "longest"])
@pytest.mark.parametrize("succeeds", [False, True], ids=["", "new device key"])
def test_certificates_of_both_ends_fit_beside_all_the_rest(size: int, succeeds: bool) -> None:
    """Names of 100 letters, sixteen addresses, 32 groups: what is cut is never the certificate."""
    rig = Rig()
    many = tuple(Endpoint(f"2001:db8::1:{n:x}", 40000 + n) for n in range(13)) + tuple(
        Endpoint(f"10.{n}.0.1", 40000) for n in range(3)
    )
    groups = tuple(f"group-number-{n}" for n in range(32))
    names = [f"{'n' * 40}{n}.{'u' * 40}.example.org" for n in range(2)]
    certificates = [bytes((n,)) * size for n in range(2)]
    ends = []
    for n, name in enumerate(names):
        public = identity(name).public
        if succeeds:
            public = identity(name).after(bytes(32), bytes(64)).public
        end = rig.distribute(name, n + 1, groups, public)
        rig.register(end, many, certificate=certificates[n])
        ends.append(end)
    mn, cn = ends
    public = identity(mn.name)
    if succeeds:
        public = public.after(bytes(32), bytes(64))
    shown = msgspec.structs.replace(public.public, certificate=certificates[0])

    rig.direction(mn, cn.name, identity=shown)

    to_mn, to_cn = (rig.acknowledge(end, RouteDirection) for end in (mn, cn))
    assert to_mn.peer.identity.certificate == certificates[1]
    assert to_cn.peer.identity.certificate == certificates[0]
    assert to_mn.shown == certificate_digest(certificates[0])
    assert to_cn.shown == certificate_digest(certificates[1])


def test_the_purpose_reaches_both_ends_and_relay_means_rs() -> None:
    rig = Rig()
    mn, cn = pair(rig, cn_public=True)

    rig.direction(mn, CAROL, purpose=Purpose.RELAY)

    routes = [rig.acknowledge(end, RouteDirection) for end in (mn, cn)]
    assert [route.purpose for route in routes] == [Purpose.RELAY] * 2
    assert [route.relay for route in routes] == [(RS,)] * 2
    assert routes[0].targets == ()


@pytest.mark.parametrize(
    ("fqdn", "options", "reason"),
    [
        (ALICE, {}, Reason.UNKNOWN_NAME),
        (CAROL, {"identity": identity("another").public}, Reason.IDENTITY_CHANGED),
        ("nobody.x.example.org", {}, None),
        (CAROL, {}, None),
    ],
)
def test_some_requests_are_refused_at_once(
    fqdn: str, options: dict[str, object], reason: Reason | None
) -> None:
    rig = Rig()
    mn, _ = pair(rig)

    answer = rig.direction(mn, fqdn, **options)

    assert answer == (NtmAck() if reason is None else Refusal(reason, ID))


def test_a_name_that_nobody_has_is_refused() -> None:
    rig = Rig()
    mn, _ = pair(rig)

    rig.direction(mn, "nobody.x.example.org")

    assert refusal(rig, mn) is Reason.UNKNOWN_NAME


def test_a_node_that_is_silent_for_long_is_refused_and_one_that_is_not_is_directed() -> None:
    rig = Rig()
    mn, cn = pair(rig)
    rig.pass_time(91)
    rig.direction(mn, CAROL, 1)
    assert refusal(rig, mn) is Reason.NOT_REGISTERED

    rig.register(cn)
    rig.direction(mn, CAROL, 2)

    assert rig.acknowledge(mn, RouteDirection).negotiation == bytes((2,)) * 16


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (replace(OPEN, rules=(Rule(ALICE, CAROL, allow=False),)), Reason.NOT_ALLOWED),
        (replace(OPEN, revoked=frozenset({CAROL})), Reason.REVOKED),
        (replace(OPEN, rules=(Rule(CAROL, ALICE, allow=False),)), None),
    ],
)
def test_policy_decides_and_every_decision_is_written_down(
    policy: Policy, reason: Reason | None
) -> None:
    rig = Rig(policy=policy)
    mn, cn = pair(rig)

    answer = rig.direction(mn, CAROL)

    assert answer == (NtmAck() if reason is None else Refusal(reason, ID))
    assert [(a.mn, a.cn, a.allowed, a.reason) for a in rig.audits] == [
        (ALICE, CAROL, reason is None, reason)
    ]
    assert ("RouteDirection" in cn.kinds()) is (reason is None)


def test_a_name_that_nobody_has_is_not_written_down_as_allowed() -> None:
    rig = Rig()
    mn, _ = pair(rig)

    rig.direction(mn, "nobody.dave.ntm.example.org")

    assert refusal(rig, mn) is Reason.UNKNOWN_NAME
    assert [(a.allowed, a.reason) for a in rig.audits] == [(False, Reason.UNKNOWN_NAME)]


def test_a_node_has_only_so_many_negotiations_open() -> None:
    rig = Rig()
    mn, _ = pair(rig)
    for number in range(1, MAX_OPEN_A_NODE + 1):
        assert rig.direction(mn, CAROL, number) == NtmAck()

    one_more = rig.direction(mn, CAROL, 200)

    assert one_more == Refusal(Reason.BUSY, bytes((200,)) * 16)


def test_without_an_rs_two_behind_nats_are_refused() -> None:
    rig = Rig(replace(SETTINGS, relays=()))
    mn, _ = pair(rig)

    rig.direction(mn, CAROL)

    assert refusal(rig, mn) is Reason.NO_RELAY
    assert rig.carried() == []


def test_what_cn_refuses_is_told_to_mn_and_the_keys_are_gone() -> None:
    rig = Rig()
    mn, cn = pair(rig)
    rig.direction(mn, CAROL)

    transmit, _ = cn.take(RouteDirection)
    rig.reply(cn, transmit, Refusal(Reason.IDENTITY_CHANGED))

    assert refusal(rig, mn) is Reason.IDENTITY_CHANGED
    assert rig.carried() == []


def test_a_cn_that_does_not_answer_is_told_to_mn() -> None:
    rig = Rig()
    mn, _ = pair(rig)
    rig.direction(mn, CAROL)
    rig.acknowledge(mn, RouteDirection)
    assert rig.relay is not None
    rig.acknowledge(rig.relay, RelayDirection)

    rig.pass_time(20)

    assert refusal(rig, mn) is Reason.NOT_REGISTERED
    assert rig.carried() == []


def test_an_rs_that_refuses_is_told_to_mn() -> None:
    rig = Rig()
    mn, _ = pair(rig)
    rig.direction(mn, CAROL)
    assert rig.relay is not None

    transmit, _ = rig.relay.take(RelayDirection)
    rig.reply(rig.relay, transmit, Refusal(Reason.BUSY))

    assert refusal(rig, mn) is Reason.BUSY


def test_an_rs_that_is_away_for_long_ends_the_negotiation() -> None:
    rig = Rig()
    mn, cn = pair(rig)
    rig.servers_answer = False
    rig.direction(mn, CAROL)
    for end in (mn, cn):
        rig.acknowledge(end, RouteDirection)

    away(rig, 14)

    assert refusal(rig, mn) is Reason.NO_RELAY
    assert rig.carried() == []


def test_of_two_rs_the_one_that_is_silent_is_left() -> None:
    rig = Rig(replace(SETTINGS, relays=(Relay("rs", (RS,)), Relay("other", (OTHER_RS,)))))
    mn, _ = pair(rig)
    rig.direction(mn, CAROL, 1)
    first = rig.acknowledge(mn, RouteDirection)
    rig.pass_time(3)

    second = rig.acknowledge(mn, RouteDirection)

    assert (first.relay, second.relay) == ((RS,), (OTHER_RS,))
    assert first.negotiation == second.negotiation, "MN asked once"
    assert first.ktun_identifier != second.ktun_identifier
    rig.direction(mn, CAROL, 2)
    assert rig.acknowledge(mn, RouteDirection).relay == (OTHER_RS,)


def test_what_the_ends_said_of_the_first_rs_does_not_count_for_the_second() -> None:
    rig = Rig(replace(SETTINGS, relays=(Relay("rs", (RS,)), Relay("other", (OTHER_RS,)))))
    mn, cn = pair(rig)
    rig.direction(mn, CAROL, 1)
    late, _ = mn.take(RouteDirection)
    rig.acknowledge(cn, RouteDirection)
    rig.pass_time(3)
    for end in (mn, cn):
        rig.acknowledge(end, RouteDirection)

    rig.reply(mn, late, Refusal(Reason.INDEX_IN_USE))

    assert rig.carried() == ["Ktmp", "Ktun"], "the other RS has not answered yet"


def test_other_rs_from_now_on_when_told_so() -> None:
    rig = Rig()
    mn, _ = pair(rig)
    rig.dc.set_relays((Relay("other", (OTHER_RS,)),))

    rig.direction(mn, CAROL)

    assert rig.acknowledge(mn, RouteDirection).relay == (OTHER_RS,)


def foreign(rig: Rig) -> Player:
    """MN, whose request for BOB has brought our DC to ask DCcn."""
    mn = rig.node(ALICE, 1)
    assert rig.direction(mn, BOB) == NtmAck()
    rig.found()
    return mn


def inform(rig: Rig, fqdn: str = BOB, asked: str = BOB) -> None:
    """Let DCcn answer Node Information."""
    assert rig.foreign is not None
    transmit, request = rig.foreign.take(NodeInformationRequest)
    assert request.fqdn == asked
    told = information(fqdn, mapped=(PLACES[BOB],), reachable=PUBLIC)
    rig.reply(rig.foreign, transmit, NodeInformationResponse(told))


@pytest.mark.paper(
    "NS Query", "Key Sharing", "Node Information Request", "Node Information Response", "Kdcdc"
)
def test_another_domains_node_is_found_as_in_fig_5() -> None:
    rig = Rig()
    mn = foreign(rig)

    inform(rig)

    to_mn = rig.acknowledge(mn, RouteDirection)
    assert rig.foreign is not None
    to_cn = rig.acknowledge(rig.foreign, RouteDirection)
    assert (to_mn.targets, to_mn.peer.fqdn) == (PUBLIC, BOB)
    assert (to_cn.fqdn, to_cn.role, to_cn.peer.fqdn) == (BOB, Role.CN, ALICE)
    assert rig.carried() == []


def test_another_domain_is_told_no_private_address() -> None:
    rig = Rig()
    mn = foreign(rig)
    assert rig.foreign is not None
    transmit, request = rig.foreign.take(NodeInformationRequest)
    told = information(BOB, mapped=PUBLIC, reachable=PUBLIC)
    rig.reply(rig.foreign, transmit, NodeInformationResponse(told))

    to_cn = rig.acknowledge(rig.foreign, RouteDirection)

    assert request.mn.local == to_cn.peer.local == ()
    assert request.mn.mapped == (PLACES[ALICE],)
    assert mn.name == ALICE


def test_a_second_negotiation_shares_no_second_key_though_dns_turns_its_records_round() -> None:
    rig = Rig()
    mn = foreign(rig)
    inform(rig)
    players = len(rig.players)
    rig.direction(mn, BOB, 2)
    (search,) = [each for each in rig.requests if isinstance(each, FindCoordinator)]

    turned = (Endpoint("192.0.2.78", 4330), OTHER_DC)
    rig.answer(search, CoordinatorFound("example.net", turned))

    assert len(rig.players) == players, "no new Key Sharing"
    assert len([k for k in rig.dc.keyring if k.name == "Kdcdc"]) == 1


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Failed(Reason.UNKNOWN_NAME), Reason.UNKNOWN_NAME),
        (Failed(Reason.DOMAIN_KEY), Reason.DOMAIN_KEY),
        (Failed(Reason.FOREIGN_DOMAIN), Reason.FOREIGN_DOMAIN),
        (NtmAck(), Reason.UNKNOWN_NAME),
    ],
)
def test_a_domain_that_is_not_found_or_not_trusted_is_refused(
    outcome: Failed | NtmAck, reason: Reason
) -> None:
    rig = Rig()
    mn = rig.node(ALICE, 1)
    rig.direction(mn, BOB)

    rig.answer(rig.requests[0], outcome)

    assert refusal(rig, mn) is reason


def test_a_domain_that_cannot_be_reached_now_is_searched_again() -> None:
    rig = Rig()
    mn = rig.node(ALICE, 1)
    rig.direction(mn, BOB)
    rig.answer(rig.requests[0], Failed(Reason.DOMAIN_UNREACHABLE))
    assert rig.requests == []

    rig.pass_time(FIND_RETRY_NS / SECOND)
    rig.found()
    inform(rig)

    assert rig.acknowledge(mn, RouteDirection).peer.fqdn == BOB


def test_a_search_that_never_ends_is_given_up() -> None:
    rig = Rig()
    mn = rig.node(ALICE, 1)
    rig.direction(mn, BOB)

    rig.pass_time(PATIENCE_NS / SECOND)

    assert refusal(rig, mn) is Reason.TIMED_OUT
    late = rig.requests[0]
    rig.answer(late, CoordinatorFound("example.net", (OTHER_DC,)))
    assert rig.foreign is None, "an answer that comes too late starts nothing"


@pytest.mark.parametrize(
    ("listed", "reason"), [((), Reason.FOREIGN_DOMAIN), (("example.net",), None)]
)
def test_a_domain_that_is_not_listed_is_refused_before_it_is_asked(
    listed: tuple[str, ...], reason: Reason | None
) -> None:
    rig = Rig(policy=Policy(DOMAIN, Federation.LISTED, frozenset(listed)))
    mn = rig.node(ALICE, 1)

    answer = rig.direction(mn, BOB)

    assert answer == (NtmAck() if reason is None else Refusal(reason, ID))
    assert bool(rig.requests) is (reason is None)


def test_a_search_that_ends_in_a_domain_that_is_not_listed_is_refused() -> None:
    """`example.net` is listed; its DNS delegates the name to a domain that is not."""
    rig = Rig(policy=Policy(DOMAIN, Federation.LISTED, frozenset({"example.net"})))
    mn = rig.node(ALICE, 1)
    rig.direction(mn, BOB)

    rig.found("bob.example.net")

    assert refusal(rig, mn) is Reason.FOREIGN_DOMAIN


@pytest.mark.parametrize("liar", [CAROL, "pc.eve.example.net", "other.example.com"])
def test_a_dccn_that_tells_of_another_node_is_not_believed(liar: str) -> None:
    rig = Rig()
    mn = foreign(rig)

    inform(rig, liar)

    assert refusal(rig, mn) is Reason.UNKNOWN_NAME


@pytest.mark.parametrize("reason", [Reason.UNKNOWN_NAME, Reason.NOT_REGISTERED, Reason.BUSY])
def test_what_dccn_refuses_reaches_mn(reason: Reason) -> None:
    rig = Rig()
    mn = foreign(rig)
    assert rig.foreign is not None

    transmit, _ = rig.foreign.take(NodeInformationRequest)
    rig.reply(rig.foreign, transmit, Refusal(reason))

    assert refusal(rig, mn) is reason


def test_what_cn_refuses_through_dccn_reaches_mn() -> None:
    rig = Rig()
    mn = foreign(rig)
    inform(rig)
    assert rig.foreign is not None

    transmit, _ = rig.foreign.take(RouteDirection)
    rig.reply(rig.foreign, transmit, Refusal(Reason.NOT_REGISTERED))

    assert refusal(rig, mn) is Reason.NOT_REGISTERED
    assert rig.carried() == []


def test_a_cn_that_is_silent_behind_dccn_costs_no_new_key() -> None:
    rig = Rig()
    mn = foreign(rig)
    inform(rig)
    rig.acknowledge(mn, RouteDirection)

    rig.pass_time(16)

    assert refusal(rig, mn) is Reason.TIMED_OUT
    assert [each.name for each in rig.players].count("ForeignCoordinator") == 1
    assert rig.carried() == []


def test_a_dccn_that_refuses_our_key_ends_the_negotiation() -> None:
    rig = Rig()
    rig.servers_answer = False
    mn = rig.node(ALICE, 1)
    rig.direction(mn, BOB)
    rig.found()

    (call,) = [r for r in rig.requests if isinstance(r, Call) and r.message.creator == DOMAIN][-1:]
    rig.answer(call, Refusal(Reason.FOREIGN_DOMAIN))

    assert refusal(rig, mn) is Reason.FOREIGN_DOMAIN


def test_a_revoked_node_is_withdrawn_at_the_other_domain_too() -> None:
    rig = Rig()
    mn = foreign(rig)
    inform(rig)
    assert rig.foreign is not None
    rig.acknowledge(rig.foreign, RouteDirection)
    rig.acknowledge(mn, RouteDirection)

    rig.dc.withdraw(ALICE, rig.now)
    rig.gather()

    assert rig.acknowledge(rig.foreign, Withdrawal) == Withdrawal(ALICE)


ENDS = ("mn", "cn", "rs")
answers = st.sampled_from(["ack", "refuse", "silence"])


@given(
    st.lists(st.tuples(st.sampled_from(ENDS), answers, st.sampled_from([0, 0.4, 3])), max_size=14),
    st.integers(1, 3),
)
@settings(max_examples=80, deadline=None)
def test_whatever_the_three_answer_every_negotiation_ends_and_no_key_stays(
    acts: list[tuple[str, str, float]], wanted: int
) -> None:
    rig = Rig()
    mn, cn = pair(rig)
    assert rig.relay is not None
    for number in range(1, wanted + 1):
        rig.direction(mn, CAROL, number)
    told: dict[bytes, dict[str, str]] = {bytes((n,)) * 16: {} for n in range(1, wanted + 1)}
    for who, what, wait in acts:
        player, kind = {"mn": (mn, RouteDirection), "cn": (cn, RouteDirection)}.get(
            who, (rig.relay, RelayDirection)
        )
        if what != "silence" and kind.__name__ in player.kinds():
            transmit, message = player.take(kind)
            said = told[message.negotiation].setdefault(who, what)
            rig.reply(player, transmit, NtmAck() if said == "ack" else Refusal(Reason.BUSY))
        rig.pass_time(wait)
    away(rig, 2 * PATIENCE_NS / SECOND)

    assert rig.carried() == []
    refused = {m.negotiation for _, m in mn.heard if isinstance(m, Refusal)}
    for negotiation, answered in told.items():
        stands = answered == dict.fromkeys(ENDS, "ack")
        assert stands or negotiation in refused, answered
        if stands and sum(wait for _, _, wait in acts) < 1:
            assert negotiation not in refused


def refusal(rig: Rig, mn: Player) -> Reason:
    """Why MN is told that there will be no tunnel; MN acknowledges it."""
    return rig.acknowledge(mn, Refusal).reason


def away(rig: Rig, seconds: float) -> None:
    """Every Key Sharing fails meanwhile: the server cannot be reached."""
    rig.servers_answer = False
    for _ in range(round(seconds * 2)):
        for call in [each for each in rig.requests if isinstance(each, Call)]:
            rig.answer(call, Failed(Reason.DOMAIN_UNREACHABLE))
        rig.pass_time(0.5)
    assert drain(rig.dc.poll_reply) == []
