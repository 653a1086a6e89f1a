"""The DC as DCcn. Source: paper, Figs. 5 to 7. Ours: docs/protocol.md section 2."""

from dataclasses import replace

import pytest
from tests.proto.coordinator.rig import DOMAIN, INSIDE, OPEN, OTHER, PLACES, Player, Rig
from tests.proto.parts import ALICE, BOB, CAROL, RS, THERE, Mouth, identity, information, key

from ntmobile.keys.table import Kdcdc, Kntmdc
from ntmobile.proto.coordinator.carriage import MAX_KEYS_A_DOMAIN
from ntmobile.proto.coordinator.coordinator import HINTS
from ntmobile.proto.coordinator.policy import Federation, Policy, Rule
from ntmobile.proto.io import Caller
from ntmobile.wire.datagram import Sender
from ntmobile.wire.direction import (
    Action,
    NodeInformationRequest,
    NodeInformationResponse,
    Role,
    RouteDirection,
    Withdrawal,
)
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.federation import KeySharing, SharedKey
from ntmobile.wire.hint import Hint
from ntmobile.wire.registration import (
    KeepAliveAnswer,
    NtmAck,
    Reason,
    Refusal,
    RegistrationResponse,
    UdpKeepAlive,
)
from ntmobile.wire.round_trip import RoundTrip

pytestmark = pytest.mark.paper("Fig. 5", "Fig. 6", "Fig. 7")

ID = bytes((1,)) * 16


@pytest.fixture
def rig() -> Rig:
    """A DC that serves ALICE, behind a NAT, and knows example.net's DC."""
    return Rig()


@pytest.fixture
def alice(rig: Rig) -> Player:
    return rig.node(ALICE, 1)


@pytest.fixture
def dcmn(rig: Rig) -> Player:
    return rig.share()


def inquiry(fqdn: str = ALICE, mn: str = BOB, **about: object) -> NodeInformationRequest:
    told = information(mn, mapped=(PLACES[BOB],), **about)  # type: ignore[arg-type]
    return NodeInformationRequest(fqdn, told, ID)


def route(fqdn: str = ALICE, mn: str = BOB) -> RouteDirection:
    return RouteDirection(
        ID,
        fqdn,
        Role.CN,
        Action.AWAIT,
        information(mn, mapped=(PLACES[BOB],)),
        b"\x07" * 32,
        b"\x08" * 32,
        b"\x09" * 8,
        (),
        (),
        3600,
    )


@pytest.mark.paper("Node Information Request", "Node Information Response", "Kdcdc")
def test_a_foreign_dc_learns_where_our_node_is_and_no_private_address(
    rig: Rig, alice: Player, dcmn: Player
) -> None:
    answer = rig.ask(dcmn, inquiry())

    assert isinstance(answer, NodeInformationResponse)
    assert (answer.cn.fqdn, answer.cn.mapped) == (ALICE, (PLACES[ALICE],))
    assert answer.cn.identity == identity(ALICE).public
    assert answer.cn.local == ()


THEIR_RS, THEIR_OTHER = Endpoint("192.0.2.80", 4330), Endpoint("192.0.2.81", 4330)


def naming(*relays: Endpoint) -> NodeInformationRequest:
    told = information(BOB, mapped=(PLACES[BOB],))
    return NodeInformationRequest(ALICE, told, ID, relays=tuple((relay,) for relay in relays))


def test_our_node_is_asked_how_far_it_is_from_the_relays_of_who_wants_it(
    rig: Rig, alice: Player, dcmn: Player
) -> None:
    before = rig.ask(alice, UdpKeepAlive(True))
    rig.ask(dcmn, naming(THEIR_RS, THEIR_OTHER))

    told, again = rig.ask(alice, UdpKeepAlive(True)), rig.ask(alice, UdpKeepAlive(True))

    both = ((THEIR_RS,), (THEIR_OTHER,))
    answers = [each for each in (before, told, again) if isinstance(each, KeepAliveAnswer)]
    assert [each.relays for each in answers] == [(), both, ()]
    registered = rig.register(alice)
    assert isinstance(registered, RegistrationResponse)
    assert registered.relays == both


def test_a_foreign_dc_learns_how_far_our_node_is_from_its_relays_and_no_others() -> None:
    rig = Rig()
    alice, dcmn = rig.node(ALICE, 1), rig.share()
    far = (RoundTrip(THEIR_RS, 20), RoundTrip(RS, 5), RoundTrip(THEIR_OTHER, 30))
    rig.ask(alice, UdpKeepAlive(True, far))

    open_answer = rig.ask(dcmn, naming(THEIR_RS, THEIR_OTHER))
    unasked = rig.ask(dcmn, inquiry())
    rig.register(alice, relay_only=True)
    hidden = rig.ask(dcmn, naming(THEIR_RS, THEIR_OTHER))

    answers = [a.round_trips for a in (open_answer, unasked, hidden) if hasattr(a, "round_trips")]
    assert answers == [(far[0], far[2]), (), ()]


def test_a_relay_inside_a_network_is_named_to_nobody(rig: Rig, alice: Player, dcmn: Player) -> None:
    rig.ask(dcmn, naming(Endpoint("192.168.1.1", 80), Endpoint("127.0.0.1", 53)))

    answer = rig.ask(alice, UdpKeepAlive(True))

    assert isinstance(answer, KeepAliveAnswer)
    assert answer.relays == ()


def test_behind_the_same_nat_private_addresses_are_told(
    rig: Rig, alice: Player, dcmn: Player
) -> None:
    same = information(BOB, mapped=(type(THERE)(PLACES[ALICE].host, 7),))

    answer = rig.ask(dcmn, NodeInformationRequest(ALICE, same, ID))

    assert isinstance(answer, NodeInformationResponse)
    assert answer.cn.local == (INSIDE,)


@pytest.mark.paper("Route Direction", "NTM ACK", "Kdcdc")
def test_a_route_direction_is_carried_to_our_node_and_its_answer_back(
    rig: Rig, alice: Player, dcmn: Player
) -> None:
    answers = carry(rig, dcmn, alice, NtmAck(identity(ALICE).public))

    assert answers == [NtmAck(identity(ALICE).public)]
    assert rig.carried() == []


def test_the_keys_are_carried_only_until_the_node_answered(
    rig: Rig, alice: Player, dcmn: Player
) -> None:
    introduce(rig, dcmn)
    rig.inject(dcmn.mouth.say(route(), 900), dcmn.place)
    assert rig.carried() == ["Ktmp", "Ktun"]

    rig.acknowledge(alice, RouteDirection)

    assert rig.carried() == []


def test_what_our_node_refuses_dcmn_hears(rig: Rig, alice: Player, dcmn: Player) -> None:
    refusal = Refusal(Reason.IDENTITY_CHANGED, ID)

    assert carry(rig, dcmn, alice, refusal) == [refusal]
    assert rig.carried() == []


def test_that_our_node_is_silent_dcmn_hears(rig: Rig, alice: Player, dcmn: Player) -> None:
    introduce(rig, dcmn)
    rig.inject(dcmn.mouth.say(route(), 900), dcmn.place)
    dcmn.heard.clear()

    rig.pass_time(20)

    assert [message for _, message in dcmn.heard] == [Refusal(Reason.NOT_REGISTERED)]
    assert rig.carried() == []


def test_a_node_that_is_forgotten_meanwhile_leaves_no_key(
    rig: Rig, alice: Player, dcmn: Player
) -> None:
    introduce(rig, dcmn)
    rig.inject(dcmn.mouth.say(route(), 900), dcmn.place)

    rig.dc.withdraw(ALICE, rig.now)
    rig.gather()

    assert rig.carried() == []


def test_a_route_direction_that_comes_twice_is_carried_once(
    rig: Rig, alice: Player, dcmn: Player
) -> None:
    introduce(rig, dcmn)

    for _ in range(2):
        rig.inject(dcmn.mouth.say(route(), 900), dcmn.place)

    assert alice.kinds().count("RouteDirection") == 1


def test_asked_again_under_a_new_key_it_is_carried_once_and_the_new_key_gets_the_answer(
    rig: Rig, alice: Player, dcmn: Player
) -> None:
    """DCmn takes our silence for a restart; it is the node that is slow."""
    introduce(rig, dcmn)
    rig.inject(dcmn.mouth.say(route(), 900), dcmn.place)
    again = rig.share(number=91)
    introduce(rig, again)
    again.heard.clear()

    rig.inject(again.mouth.say(route(), 901), again.place)
    assert alice.kinds().count("RouteDirection") == 1
    rig.acknowledge(alice, RouteDirection)

    assert again.kinds() == ["NtmAck"]
    assert rig.carried() == []


@pytest.mark.parametrize("message", [inquiry(mn=CAROL), inquiry(mn="x.y.example.com")])
def test_a_dc_may_ask_only_in_the_name_of_its_own_nodes(
    rig: Rig, alice: Player, dcmn: Player, message: NodeInformationRequest
) -> None:
    assert rig.ask(dcmn, message) == Refusal(Reason.NOT_ALLOWED, ID)


@pytest.mark.parametrize(
    ("fqdn", "mn"), [(ALICE, CAROL), (ALICE, "x.y.example.com"), ("no.such.example.org", BOB)]
)
def test_no_route_direction_in_anothers_name_or_to_nobody(
    rig: Rig, alice: Player, dcmn: Player, fqdn: str, mn: str
) -> None:
    alice.heard.clear()

    assert rig.ask(dcmn, route(fqdn, mn)) == Refusal(Reason.UNKNOWN_NAME, ID)
    assert alice.kinds() == []
    assert rig.carried() == []


FORBIDDEN = replace(OPEN, rules=(Rule(BOB, ALICE, allow=False),))
REVOKED = replace(OPEN, revoked=frozenset({ALICE}))


@pytest.mark.parametrize("policy", [FORBIDDEN, REVOKED], ids=["a rule", "revoked"])
def test_strangers_cannot_tell_refused_from_unknown(policy: Policy) -> None:
    rig = Rig(policy=policy)
    rig.node(ALICE, 1)
    dcmn = rig.share()

    refused, unknown = rig.ask(dcmn, inquiry()), rig.ask(dcmn, inquiry("no.such.example.org"))

    assert refused == unknown == Refusal(Reason.UNKNOWN_NAME, ID)
    assert rig.ask(dcmn, route()) == Refusal(Reason.UNKNOWN_NAME, ID)
    assert not rig.audits[0].allowed, "the operator sees the difference"


def test_a_node_that_is_allowed_and_silent_is_not_registered(
    rig: Rig, alice: Player, dcmn: Player
) -> None:
    rig.pass_time(91)

    assert rig.ask(dcmn, inquiry()) == Refusal(Reason.NOT_REGISTERED, ID)


def test_another_domain_withdraws_its_own_nodes(rig: Rig, alice: Player, dcmn: Player) -> None:
    carry(rig, dcmn, alice, NtmAck())
    rig.ask(dcmn, inquiry())

    assert rig.ask(dcmn, Withdrawal(BOB)) == NtmAck()

    assert rig.acknowledge(alice, Withdrawal) == Withdrawal(BOB)


@pytest.mark.parametrize("name", [ALICE, CAROL, "x.y.example.com"])
def test_another_domain_withdraws_nobody_elses(
    rig: Rig, alice: Player, dcmn: Player, name: str
) -> None:
    alice.heard.clear()

    assert rig.ask(dcmn, Withdrawal(name)) == Refusal(Reason.NOT_ALLOWED)
    assert alice.kinds() == []


def test_what_a_dc_has_no_business_asking_is_refused(rig: Rig, dcmn: Player) -> None:
    assert rig.ask(dcmn, UdpKeepAlive(answer=True)) == Refusal(Reason.NOT_ALLOWED)


@pytest.mark.parametrize(
    ("policy", "answer"),
    [
        (OPEN, NtmAck()),
        (Policy(DOMAIN, Federation.LISTED, frozenset({OTHER})), NtmAck()),
        (Policy(DOMAIN, Federation.LISTED), Refusal(Reason.FOREIGN_DOMAIN)),
        (Policy(DOMAIN, Federation.CLOSED), Refusal(Reason.FOREIGN_DOMAIN)),
    ],
)
def test_a_key_is_taken_from_those_only_whom_policy_lets_in(policy: Policy, answer: object) -> None:
    rig = Rig(policy=policy)
    sharing = KeySharing(SharedKey.KDCDC, bytes(8), bytes(32), 60, OTHER)

    assert rig.request(sharing, Caller(OTHER, "192.0.2.77")) == answer


@pytest.mark.parametrize("caller", ["example.com", None, DOMAIN])
def test_a_key_is_taken_only_from_the_domain_it_is_said_to_be_of(caller: str | None) -> None:
    rig = Rig()
    sharing = KeySharing(SharedKey.KDCDC, bytes(8), bytes(32), 60, OTHER)

    assert rig.request(sharing, Caller(caller, "192.0.2.77")) == Refusal(Reason.NOT_ALLOWED)
    assert len(rig.dc.keyring) == 0


def test_of_too_many_keys_of_a_domain_the_oldest_is_forgotten(rig: Rig) -> None:
    players = [rig.share(number=n) for n in range(100, 101 + MAX_KEYS_A_DOMAIN)]

    assert len(rig.dc.keyring) == MAX_KEYS_A_DOMAIN
    rig.inject(players[0].mouth.say(UdpKeepAlive(), 1), players[0].place)
    assert rig.dc.rejected["unknown key"] == 1


def test_a_dc_hears_at_once_that_its_key_was_lost_with_a_restart() -> None:
    rig, restarted = Rig(), Rig(seed=2)
    dcmn = rig.share()
    question = dcmn.mouth.say(inquiry(), 1)

    restarted.inject(question, dcmn.place)

    (hint,) = restarted.hints
    assert hint.destination == dcmn.place
    assert Hint.decode(hint.payload) == Hint.key(dcmn.mouth.identifier)
    assert len(hint.payload) < len(question)


def test_who_is_no_dc_hears_nothing_of_keys_and_a_flood_little(rig: Rig, alice: Player) -> None:
    """The negative twins."""
    stranger = Mouth(Sender.NODE, key(Kntmdc, 77))
    rig.inject(stranger.say(UdpKeepAlive(answer=True)), alice.place)
    assert rig.hints == []

    forger = Mouth(Sender.DCMN, key(Kdcdc, 78))
    for _ in range(10 * HINTS):
        rig.inject(forger.say(inquiry()), alice.place)

    assert len(rig.hints) == HINTS


def test_one_domains_many_keys_push_no_other_domains_out(rig: Rig) -> None:
    quiet = rig.share("example.com", number=99)
    for number in range(100, 120):
        rig.share(number=number)

    assert rig.ask(quiet, UdpKeepAlive(answer=True)) == Refusal(Reason.NOT_ALLOWED)


@pytest.mark.parametrize("lifetime_s", [60, 10 * 365 * 86400])
def test_a_key_ends_on_time_however_long_it_was_said_to_live(rig: Rig, lifetime_s: int) -> None:
    dcmn = rig.share(lifetime_s=lifetime_s)

    rig.pass_time(min(lifetime_s, 86400) + 60)

    assert len(rig.dc.keyring) == 0
    rig.inject(dcmn.mouth.say(inquiry(), 5), dcmn.place)
    assert dcmn.kinds() == []


def test_a_key_that_is_over_is_not_used_though_no_sweep_came_yet(rig: Rig) -> None:
    dcmn = rig.share(lifetime_s=10)

    rig.pass_time(11)
    rig.inject(dcmn.mouth.say(inquiry(), 5), dcmn.place)

    assert dcmn.kinds() == []


def introduce(rig: Rig, dcmn: Player) -> None:
    """Let our DC believe the other's boot."""
    assert rig.ask(dcmn, Withdrawal(BOB)) == NtmAck()


def carry(rig: Rig, dcmn: Player, node: Player, answer: NtmAck | Refusal) -> list[object]:
    """Let DCmn direct our node, and the node answer; return what DCmn hears."""
    introduce(rig, dcmn)
    rig.inject(dcmn.mouth.say(route(), 900), dcmn.place)
    dcmn.heard.clear()
    transmit, carried = node.take(RouteDirection)
    assert carried == route()
    rig.reply(node, transmit, answer)
    return [message for _, message in dcmn.heard]
