"""Registration, renewal, revocation. Source: paper, Figs. 2 and 3."""

from dataclasses import replace
from ipaddress import IPv4Network

import pytest
from tests.proto.coordinator.rig import (
    AS,
    DOMAIN,
    INSIDE,
    OPEN,
    PLACES,
    SETTINGS,
    Rig,
)
from tests.proto.parts import ALICE, BOB, CAROL, STRANGER, Mouth, after, drain, identity, key

from ntmobile.proto.coordinator.registry import domain_prefix
from ntmobile.proto.io import Caller
from ntmobile.wire.datagram import Sender
from ntmobile.wire.direction import RouteDirection, Withdrawal
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.federation import KeySharing, SharedKey
from ntmobile.wire.login import KeyDistribution, LoginRefusal, LoginRefused
from ntmobile.wire.registration import (
    Challenge,
    KeepAliveAnswer,
    NtmAck,
    Reason,
    Refusal,
    RegistrationRequest,
    RegistrationResponse,
    Superseded,
    UdpKeepAlive,
)

ELSEWHERE = Endpoint("203.0.113.200", 2000)


@pytest.mark.paper("Registration Request", "Registration Response", "Kntmdc", "Fig. 3")
def test_a_registration_is_answered_with_addresses_and_what_the_dc_saw() -> None:
    rig = Rig()
    node = rig.distribute(ALICE, 1)

    answer = rig.register(node)

    assert isinstance(answer, RegistrationResponse)
    assert answer.mapped == PLACES[ALICE]
    assert answer.virtual_ipv4 in IPv4Network("100.64.0.0/10")
    assert answer.virtual_ipv6.packed.startswith(domain_prefix(DOMAIN))
    assert [held.fqdn for held in rig.dc.registered(rig.now)] == [ALICE]


def test_two_nodes_never_get_the_same_addresses() -> None:
    rig = Rig()

    answers = [rig.register(rig.distribute(fqdn, n)) for n, fqdn in ((1, ALICE), (2, CAROL))]

    assert all(isinstance(answer, RegistrationResponse) for answer in answers)
    assert len({answer.virtual_ipv4 for answer in answers}) == 2  # type: ignore[union-attr]
    assert len({answer.virtual_ipv6 for answer in answers}) == 2  # type: ignore[union-attr]


def test_what_must_survive_is_given_out_and_brings_the_dc_back_as_it_was() -> None:
    rig = Rig()
    alice = rig.node(ALICE, 1)
    rig.node(CAROL, 2)

    again = Rig(stored=tuple(rig.stored.values()), seed=2, now=after(rig.now, 5))
    again.players = [alice]
    answer = again.register(alice)

    assert {node.fqdn for node in again.dc.registered(again.now)} == {ALICE, CAROL}
    assert isinstance(answer, RegistrationResponse)
    assert answer.virtual_ipv4 == rig.stored[ALICE].virtual_ipv4


def test_a_restored_dc_gives_no_address_out_twice() -> None:
    rig = Rig()
    rig.node(ALICE, 1)
    rig.node(CAROL, 2)

    again = Rig(stored=tuple(rig.stored.values()), seed=2)
    again.distribute("new.dave.example.org", 3)

    assert again.stored["new.dave.example.org"].virtual_ipv4 not in {
        node.virtual_ipv4 for node in rig.stored.values()
    }


def test_a_restart_shows_in_the_boot_id_of_the_next_answered_keep_alive() -> None:
    rig = Rig()
    alice = rig.node(ALICE, 1)
    before = rig.ask(alice, UdpKeepAlive(answer=True))
    again = Rig(stored=tuple(rig.stored.values()), seed=2)
    again.players = [alice]

    after_restart = again.ask(alice, UdpKeepAlive(answer=True))

    assert isinstance(before, KeepAliveAnswer)
    assert isinstance(after_restart, KeepAliveAnswer)
    assert before.boot != after_restart.boot


@pytest.mark.paper("UDP Keep Alive", "Fig. 3")
def test_keep_alives_keep_a_node_registered_and_silence_does_not() -> None:
    rig = Rig()
    alice = rig.node(ALICE, 1)
    rig.node(CAROL, 2)

    for _ in range(6):
        rig.pass_time(20)
        rig.inject(alice.mouth.say(UdpKeepAlive(), rig.transaction), alice.place)
        rig.transaction += 1

    assert [node.fqdn for node in rig.dc.registered(rig.now)] == [ALICE]


def test_a_keep_alive_from_elsewhere_shows_the_other_address_and_moves_nothing() -> None:
    rig = Rig()
    alice = rig.node(ALICE, 1)
    alice.place = ELSEWHERE

    answer = rig.ask(alice, UdpKeepAlive(answer=True))

    assert isinstance(answer, KeepAliveAnswer)
    assert answer.mapped == ELSEWHERE
    assert rig.stored[ALICE].mapped == (PLACES[ALICE],)


def test_a_keep_alive_that_asks_nothing_is_answered_when_it_comes_from_elsewhere() -> None:
    """The node's NAT has restarted, and until the node knows, nobody reaches it."""
    rig = Rig()
    alice = rig.node(ALICE, 1)

    before = len(alice.heard)
    rig.inject(alice.mouth.say(UdpKeepAlive(), 1000), alice.place)
    at_home = len(alice.heard) - before
    alice.place = ELSEWHERE
    elsewhere = rig.ask(alice, UdpKeepAlive())

    assert at_home == 0
    assert isinstance(elsewhere, KeepAliveAnswer)
    assert elsewhere.mapped == ELSEWHERE


def test_a_node_that_leaves_is_not_registered_any_more_nor_after_a_restart() -> None:
    rig = Rig()
    alice = rig.node(ALICE, 1)

    rig.register(alice, local=())

    again = Rig(stored=tuple(rig.stored.values()), seed=2)
    assert rig.dc.registered(rig.now) == again.dc.registered(again.now) == ()


@pytest.mark.paper("Key Distribution", "Fig. 2")
@pytest.mark.parametrize(
    ("caller", "answer"),
    [
        (Caller("example.net", "192.0.2.3"), Refusal(Reason.NOT_ALLOWED)),
        (Caller(None, "192.0.2.3"), Refusal(Reason.NOT_ALLOWED)),
        (AS, NtmAck()),
    ],
)
def test_only_the_own_as_distributes_keys(caller: Caller, answer: object) -> None:
    assert Rig().request(distribution(ALICE), caller) == answer


def test_a_node_of_another_domain_is_not_taken() -> None:
    refusal = LoginRefusal(LoginRefused.COORDINATOR)

    assert Rig().request(distribution(BOB), AS) == refusal
    assert Rig().request(distribution("evil" + DOMAIN), AS) == refusal


def test_when_no_address_is_left_a_login_is_told_to_come_back() -> None:
    rig = Rig(replace(SETTINGS, ipv4_pool=IPv4Network("100.64.0.0/28")))

    assert rig.request(distribution(ALICE), AS) == LoginRefusal(LoginRefused.BUSY)


@pytest.mark.parametrize(
    "message", [NtmAck(), KeySharing(SharedKey.KDCRS, bytes(8), bytes(32), 1, "x.y")]
)
def test_other_requests_are_refused(message: object) -> None:
    assert Rig().request(message, AS) == Refusal(Reason.NOT_ALLOWED)  # type: ignore[arg-type]


def test_a_renewed_key_leaves_the_node_where_it_was() -> None:
    rig = Rig()
    rig.node(ALICE, 1)
    before = rig.stored[ALICE]

    renewed = rig.distribute(ALICE, 7)

    after_renewal = rig.stored[ALICE]
    assert (after_renewal.mapped, after_renewal.sequence) == (before.mapped, before.sequence)
    assert after_renewal.virtual_ipv4 == before.virtual_ipv4
    assert after_renewal.identifier != before.identifier
    renewed.sequence = before.sequence
    assert isinstance(rig.register(renewed), RegistrationResponse)
    assert len([held for held in rig.dc.keyring if held.name == "Kntmdc"]) == 1


def test_another_device_under_the_same_name_starts_from_nothing_but_the_addresses() -> None:
    rig = Rig()
    rig.node(ALICE, 1)
    before = rig.stored[ALICE]
    other = KeyDistribution(ALICE, identity("new device").public, bytes(8), bytes(32), 86400)

    assert rig.request(other, AS) == NtmAck()

    stored = rig.stored[ALICE]
    assert (stored.mapped, stored.sequence, stored.instance) == ((), 0, bytes(16))
    assert stored.virtual_ipv4 == before.virtual_ipv4


def test_what_a_node_was_asked_under_its_old_key_is_asked_again_under_the_new() -> None:
    rig = Rig()
    mn, _ = rig.node(ALICE, 1), rig.node(CAROL, 2)
    rig.direction(mn, CAROL)

    renewed = rig.distribute(CAROL, 8)
    rig.pass_time(1)

    assert "RouteDirection" in renewed.kinds()
    rig.acknowledge(renewed, RouteDirection)
    rig.acknowledge(mn, RouteDirection)


def test_what_a_node_was_asked_before_a_move_reaches_it_at_its_new_place_at_once() -> None:
    rig = Rig()
    mn, cn = rig.node(ALICE, 1), rig.node(CAROL, 2)
    cn.place = STRANGER
    rig.direction(mn, CAROL)
    assert "RouteDirection" not in cn.kinds()

    rig.register(cn)

    assert "RouteDirection" in cn.kinds()


def test_mn_may_renew_its_key_while_its_tunnel_is_directed() -> None:
    rig = Rig()
    mn, cn = rig.node(ALICE, 1), rig.node(CAROL, 2)
    rig.direction(mn, CAROL)
    renewed = rig.distribute(ALICE, 8)

    transmit, _ = cn.take(RouteDirection)
    rig.reply(cn, transmit, Refusal(Reason.IDENTITY_CHANGED))
    rig.pass_time(1)

    assert Refusal(Reason.IDENTITY_CHANGED, bytes((1,)) * 16) in [m for _, m in renewed.heard]


def test_a_forgotten_node_leaves_no_key_that_was_carried_for_it() -> None:
    rig = Rig()
    mn, _ = rig.node(ALICE, 1), rig.node(CAROL, 2)
    rig.direction(mn, CAROL)
    assert rig.carried() == ["Ktmp", "Ktun"]

    rig.dc.withdraw(CAROL, rig.now)
    rig.gather()

    assert rig.carried() == []
    assert Refusal(Reason.NOT_REGISTERED, bytes((1,)) * 16) in [m for _, m in mn.heard]


def test_the_newer_of_two_copies_wins_and_the_older_hears_it() -> None:
    rig = Rig()
    older = rig.node(ALICE, 1)
    newer = rig.player(ALICE, ELSEWHERE, Mouth(Sender.NODE, key(number=1), boot=2))
    newer.instance, newer.started = b"\x02" * 16, 2

    answer = rig.register(newer)

    assert isinstance(answer, RegistrationResponse)
    assert rig.stored[ALICE].mapped == (ELSEWHERE,)
    assert Superseded(older.instance) in [message for _, message in older.heard]
    older.sequence += 10
    assert rig.register(older) == Superseded(older.instance)


def test_an_older_copy_under_an_older_key_hears_it_under_that_key() -> None:
    rig = Rig()
    older = rig.node(ALICE, 1)
    newer = rig.distribute(ALICE, 2)
    newer.place, newer.instance, newer.started = ELSEWHERE, b"\x02" * 16, 2

    rig.register(newer)

    assert Superseded(older.instance) in [message for _, message in older.heard]
    assert rig.register(older) == Superseded(older.instance)


def test_a_stolen_key_alone_moves_no_registration() -> None:
    rig = Rig()
    alice = rig.node(ALICE, 1)
    request = RegistrationRequest(ALICE, alice.instance, 1, 99, (INSIDE,))

    rig.inject(alice.mouth.say(request, 5), STRANGER)

    assert rig.stored[ALICE].mapped == (PLACES[ALICE],), "a token must come back from there"


def test_an_old_registration_replayed_changes_nothing() -> None:
    rig = Rig()
    alice = rig.distribute(ALICE, 1)
    alice.sequence = 5
    rig.register(alice)
    before = rig.stored[ALICE]

    stale = rig.ask(alice, RegistrationRequest(ALICE, alice.instance, 1, 4, (INSIDE,)))

    assert stale == Refusal(Reason.SUPERSEDED)
    assert rig.stored[ALICE] == before


def test_a_name_that_is_not_the_keys_is_refused() -> None:
    rig = Rig()
    alice = rig.node(ALICE, 1)

    answer = rig.ask(alice, RegistrationRequest(CAROL, alice.instance, 1, 9, (INSIDE,)))

    assert answer == Refusal(Reason.NOT_ALLOWED)


def test_a_node_whose_key_is_over_is_forgotten() -> None:
    rig = Rig()
    alice = rig.node(ALICE, 1)

    rig.pass_time(86400 + 61)

    rig.inject(alice.mouth.say(UdpKeepAlive(answer=True)), alice.place)
    assert rig.dc.rejected["unknown key"] == 1
    assert [held.name for held in rig.dc.keyring if held.name == "Kntmdc"] == []


def test_a_revoked_node_its_partners_and_nobody_else_hear_it_at_once() -> None:
    rig = Rig()
    alice, carol, dave = rig.node(ALICE, 1), rig.node(CAROL, 2), rig.node("d.dave.example.org", 3)
    dave.place = ELSEWHERE
    rig.register(dave)
    rig.direction(alice, CAROL)
    for end in (alice, carol):
        rig.acknowledge(end, RouteDirection)
    dave.heard.clear()

    rig.dc.set_policy(replace(OPEN, revoked=frozenset({ALICE})), rig.now)
    rig.gather()

    assert Refusal(Reason.REVOKED) in [message for _, message in alice.heard]
    assert rig.acknowledge(carol, Withdrawal) == Withdrawal(ALICE)
    assert dave.kinds() == []
    assert {node.fqdn for node in rig.dc.registered(rig.now)} == {CAROL, dave.name}


def test_a_revoked_nodes_key_is_worth_nothing() -> None:
    rig = Rig()
    alice = rig.node(ALICE, 1)

    rig.dc.withdraw(ALICE, rig.now)

    with pytest.raises(AssertionError, match="no answer"):
        rig.register(alice)


def test_a_policy_that_revokes_nobody_new_disturbs_nobody() -> None:
    rig = Rig(policy=replace(OPEN, revoked=frozenset({"x.y.example.org"})))
    alice = rig.node(ALICE, 1)
    alice.heard.clear()

    rig.dc.set_policy(replace(OPEN, revoked=frozenset({"x.y.example.org"})), rig.now)
    rig.gather()

    assert alice.kinds() == []


@pytest.mark.parametrize("garbage", [b"", b"\x05", bytes(1201), b"\x05\x01\x01" + bytes(60)])
def test_garbage_is_counted_and_not_answered(garbage: bytes) -> None:
    rig = Rig()
    rig.node(ALICE, 1)
    before = sum(rig.dc.rejected.values())

    rig.dc.handle_datagram(STRANGER, garbage, rig.now)

    assert drain(rig.dc.poll_transmit) == []
    assert sum(rig.dc.rejected.values()) == before + 1


def test_what_a_node_has_no_business_sending_is_counted() -> None:
    rig = Rig()
    alice = rig.node(ALICE, 1)

    rig.inject(alice.mouth.say(Withdrawal(CAROL), 44), alice.place)

    assert rig.dc.rejected["out of place"] == 1


def test_an_unknown_source_is_challenged_with_no_more_than_it_sent() -> None:
    rig = Rig()
    alice = rig.distribute(ALICE, 1)
    data = alice.mouth.say(RegistrationRequest(ALICE, alice.instance, 1, 1, (INSIDE,)), 9)

    rig.inject(data, alice.place)

    transmit, challenge = alice.take(Challenge)
    assert isinstance(challenge, Challenge)
    assert len(transmit.payload) <= len(data)


def test_the_dc_is_called_again_once_a_minute_only_when_nothing_is_open() -> None:
    rig = Rig()
    rig.node(ALICE, 1)
    rig.pass_time(30)

    due = rig.dc.poll_timeout()

    assert due is not None
    assert due.reason == "key expiry sweep"


def distribution(fqdn: str) -> KeyDistribution:
    return KeyDistribution(fqdn, identity(fqdn).public, bytes(8), bytes(32), 86400)
