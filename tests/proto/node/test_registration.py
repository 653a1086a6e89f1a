"""Source: paper, Fig. 3. Ours: docs/protocol.md section 3."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from tests.proto.parts import (
    DC,
    DC6,
    HERE,
    HERE6,
    RS,
    T0,
    THERE,
    Mouth,
    after,
    conversation,
    drain,
    key,
)

from ntmobile.proto.conversation import Answered
from ntmobile.proto.node.events import RegistrationLost, RoundTripsWanted
from ntmobile.proto.node.registration import (
    MIN_KEEPALIVE_S,
    RETRY_NS,
    Overtaken,
    Registration,
    RegistrationStood,
)
from ntmobile.proto.node.settings import NodeSettings
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Header, Sender, Signal
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import (
    KeepAliveAnswer,
    Reason,
    Refusal,
    RegistrationRequest,
    RegistrationResponse,
    Superseded,
    UdpKeepAlive,
)
from ntmobile.wire.round_trip import RoundTrip

pytestmark = pytest.mark.paper("Fig. 3")

SETTINGS = NodeSettings("alice", "laptop", "example.org", b"\x01" * 16, 5)
BOOT = 7
ADDRESSES = (IPv4Address("100.64.0.16"), IPv6Address("fd00::16"))
SEEN = {4: HERE, 6: HERE6}


class Rig:
    """A registration whose DC is played by hand."""

    def __init__(self, local: tuple[Endpoint, ...] = (HERE,), *, age_s: int | None = 0) -> None:
        """age_s is at which age its NAT drops mappings, as the person says; 0: never mind."""
        self.now = T0
        self.local = local
        self.coordinators = (DC, DC6)
        self.registration = Registration(
            replace(SETTINGS, mapping_age_s=age_s), self.reachable, opened=lambda: self.opened
        )
        self.conversation = conversation(Sender.NODE)
        self.registration.begin(self.conversation)  # type: ignore[arg-type]
        self.dc = Mouth(Sender.DC, key())
        self.seen = dict(SEEN)
        self.boot = BOOT
        self.opened: tuple[Endpoint, ...] = ()
        self.silent: set[int] = set()
        """Families in which the DC is not heard."""
        self.heard: list[tuple[int, Signal]] = []
        self.keepalive_s = 20
        self.relays: tuple[tuple[Endpoint, ...], ...] = ()
        self.named: tuple[tuple[Endpoint, ...], ...] = ()
        """By the answer to a keep-alive."""

    def reachable(self) -> tuple[Endpoint, ...]:
        families = {endpoint.version for endpoint in self.local}
        return tuple(end for end in self.coordinators if end.version in families)

    def register(self, local: tuple[Endpoint, ...] | None = None) -> None:
        self.local = self.local if local is None else local
        self.registration.register(self.local, self.now)

    def serve(self) -> None:
        """Answer all that the node sent as a DC would."""
        while (sent := self.conversation.poll_transmit()) is not None:
            message = self.dc.hear(sent).message
            family = sent.destination.version
            self.heard.append((family, message))
            answer = self.answer(message, family)
            if answer is not None and family not in self.silent:
                self.hand(self.dc.reply(sent, answer), sent.destination)

    def answer(self, message: Signal, family: int) -> Signal | None:
        match message:
            case RegistrationRequest():
                return RegistrationResponse(
                    *ADDRESSES,
                    self.seen[family],
                    self.boot,
                    90,
                    self.keepalive_s,
                    relays=self.relays,
                )
            case UdpKeepAlive(True):
                return KeepAliveAnswer(self.seen[family], self.boot, self.named)
            case _:
                return None

    def hand(self, data: bytes, source: Endpoint) -> None:
        heard = self.conversation.handle_datagram(Header.decode(data), source, data, self.now)
        if isinstance(heard, Answered):
            self.registration.handle_answer(heard.tag, heard.message, self.now)  # type: ignore[arg-type]

    def refuse(self, answer: Signal) -> None:
        """Answer the first open request with this instead."""
        sent = drain(self.conversation.poll_transmit)[0]
        self.hand(self.dc.reply(sent, answer), sent.destination)

    def pass_time(self, seconds: float) -> None:
        until = after(self.now, seconds)
        self.serve()
        while (at := self.due()) is not None and at <= until:
            self.now = at
            self.registration.handle_timeout(self.now)
            self.conversation.handle_timeout(self.now)
            for lost in drain(self.conversation.poll_unanswered):
                self.registration.handle_silence(lost.tag, self.now)  # type: ignore[arg-type]
            assert (following := self.due()) is None or following > self.now, "spins"
            self.serve()
        self.now = until

    def due(self) -> Instant | None:
        parts = (self.registration.poll_timeout(), self.conversation.poll_timeout())
        return min((due.at for due in parts if due is not None), default=None)

    def sent(self, kind: type) -> list[int]:
        """Families over which messages of that kind were heard; forgets what was heard."""
        families = [family for family, message in self.heard if isinstance(message, kind)]
        self.heard.clear()
        return families

    def events(self) -> list[object]:
        return drain(self.registration.poll_event)


def registered(local: tuple[Endpoint, ...] = (HERE,)) -> Rig:
    rig = Rig(local)
    rig.register()
    rig.serve()
    rig.events()
    rig.heard.clear()
    return rig


@pytest.mark.paper("Registration Response")
def test_a_response_stands_and_says_what_changed() -> None:
    rig = Rig()
    rig.register()

    rig.serve()
    rig.register()
    rig.serve()

    first, second = rig.events()
    assert isinstance(first, RegistrationStood)
    assert isinstance(second, RegistrationStood)
    assert (first.family, first.changed, second.changed) == (4, True, False)
    assert rig.registration.responses[4].mapped == HERE


@pytest.mark.paper("Registration Request")
def test_a_request_tells_who_where_and_how_the_user_wants_to_be_reached() -> None:
    rig = Rig()
    rig.register()

    rig.serve()

    request = rig.heard[0][1]
    assert isinstance(request, RegistrationRequest)
    assert (request.fqdn, request.instance, request.started) == (
        SETTINGS.fqdn,
        SETTINGS.instance,
        SETTINGS.started,
    )
    assert request.endpoints == (HERE,)
    assert request.keepalive is SETTINGS.keepalive


def test_each_family_registers_and_a_round_has_one_sequence_that_grows_from_round_to_round() -> (
    None
):
    rig = Rig((HERE, HERE6))
    for _ in range(2):
        rig.register()
        rig.serve()

    sequences = [m.sequence for _, m in rig.heard if isinstance(m, RegistrationRequest)]
    assert sequences == [1, 1, 2, 2]
    assert sorted(rig.registration.responses) == [4, 6]


@pytest.mark.paper("UDP Keep Alive")
def test_a_keep_alive_goes_out_every_twenty_seconds_and_each_third_asks_for_an_answer() -> None:
    rig = registered()

    rig.pass_time(121)

    asked = [m.answer for _, m in rig.heard if isinstance(m, UdpKeepAlive)]
    assert asked == [False, False, True] * 2


def test_after_a_move_the_first_keep_alive_asks_for_an_answer() -> None:
    rig = registered()
    rig.seen[4] = THERE
    rig.register((THERE,))
    rig.serve()
    rig.heard.clear()

    rig.pass_time(21)

    assert [m.answer for _, m in rig.heard if isinstance(m, UdpKeepAlive)] == [True]


@pytest.mark.parametrize(("asked_s", "every_s"), [(0, MIN_KEEPALIVE_S), (300, 300)])
def test_the_dc_sets_the_interval_within_reason(asked_s: int, every_s: int) -> None:
    rig = Rig()
    rig.keepalive_s = asked_s
    rig.register()
    rig.serve()

    due = rig.registration.poll_timeout()

    assert due is not None
    assert due.at == after(rig.now, every_s)


@pytest.mark.parametrize("change", ["mapped", "boot"])
def test_a_nat_or_a_dc_that_restarted_shows_in_an_answer_and_is_registered_with_again(
    change: str,
) -> None:
    rig = registered()
    if change == "mapped":
        rig.seen[4] = THERE
    else:
        rig.boot += 1

    rig.pass_time(62)

    assert rig.sent(RegistrationRequest) == [4]
    response = rig.registration.responses[4]
    assert (response.mapped, response.boot) == (rig.seen[4], rig.boot)


def test_as_long_as_nothing_changes_no_second_registration_is_needed() -> None:
    rig = registered((HERE, HERE6))

    rig.pass_time(3600)

    assert rig.sent(RegistrationRequest) == []
    assert rig.events() == []


def test_a_dc_that_falls_silent_is_lost_and_found_again() -> None:
    rig = registered()
    rig.silent = {4}

    rig.pass_time(120)
    lost = rig.events()
    rig.silent = set()
    rig.pass_time(15)

    assert RegistrationLost(Reason.TIMED_OUT) in lost
    assert [type(event) for event in rig.events()] == [RegistrationStood]


def test_a_dc_that_is_away_is_asked_at_least_every_second_or_so() -> None:
    rig = registered()
    rig.silent = {4}
    rig.pass_time(120)
    rig.heard.clear()

    rig.pass_time(60)

    assert 35 <= len(rig.sent(RegistrationRequest)) <= 70


def test_when_one_family_falls_silent_the_other_stands_and_nothing_is_lost() -> None:
    rig = registered((HERE, HERE6))
    rig.silent = {6}

    rig.pass_time(300)

    assert sorted(rig.registration.responses) == [4]
    assert [e for e in rig.events() if isinstance(e, RegistrationLost)] == []
    keepalives = [family for family, m in rig.heard if isinstance(m, UdpKeepAlive)]
    assert keepalives.count(4) >= 14, "the family that works is kept alive meanwhile"


def test_a_family_that_comes_back_is_registered_again() -> None:
    rig = registered((HERE, HERE6))
    rig.silent = {6}
    rig.pass_time(200)
    assert sorted(rig.registration.responses) == [4]

    rig.silent = set()
    rig.pass_time(70)

    assert sorted(rig.registration.responses) == [4, 6]


def test_a_family_the_node_lost_is_forgotten_at_once() -> None:
    rig = registered((HERE, HERE6))

    rig.register((HERE,))

    assert sorted(rig.registration.responses) == [4]


def test_moving_drops_the_requests_from_the_old_place() -> None:
    rig = Rig()
    rig.register()
    old = drain(rig.conversation.poll_transmit)[0]

    rig.register((THERE,))
    answer = RegistrationResponse(*ADDRESSES, HERE, BOOT, 90, 20)
    rig.hand(rig.dc.reply(old, answer), DC)

    assert rig.events() == []


def test_a_server_with_two_addresses_in_a_family_leaves_no_request_open() -> None:
    rig = Rig()
    rig.coordinators = (DC, Endpoint("192.0.2.2", 4330))
    rig.register()

    rig.register()
    rig.serve()

    assert rig.conversation.poll_timeout() is None


def test_an_older_sequence_than_the_dc_knows_is_overcome_within_seconds_and_without_haste() -> None:
    rig = Rig()
    rig.register()

    rig.refuse(Refusal(Reason.SUPERSEDED))

    assert rig.events() == []
    due = rig.registration.poll_timeout()
    assert due is not None
    assert due.at == rig.now + RETRY_NS
    rig.pass_time(2)
    assert [type(event) for event in rig.events()] == [RegistrationStood]


@pytest.mark.parametrize("reason", [Reason.NOT_ALLOWED, Reason.BUSY, Reason.KEY_EXPIRED])
def test_any_other_refusal_is_told_and_tried_again(reason: Reason) -> None:
    rig = Rig()
    rig.register()

    rig.refuse(Refusal(reason))

    assert rig.events() == [RegistrationLost(reason)]
    rig.pass_time(RETRY_NS / SECOND)
    assert [type(event) for event in rig.events()] == [RegistrationStood]


def test_a_newer_instance_ends_this_one() -> None:
    rig = Rig()
    rig.register()

    rig.refuse(Superseded(SETTINGS.instance))

    assert rig.events() == [Overtaken()]


def test_leaving_tells_the_dc_over_every_family_and_then_nothing_more_is_sent() -> None:
    rig = registered((HERE, HERE6))

    rig.registration.end(rig.now)
    rig.serve()

    farewells = [m for _, m in rig.heard if isinstance(m, RegistrationRequest)]
    assert [m.endpoints for m in farewells] == [(), ()]
    assert rig.registration.responses == {}
    rig.heard.clear()
    rig.pass_time(3600)
    assert rig.heard == []


def test_a_node_that_never_registered_leaves_without_a_word() -> None:
    rig = Rig()

    rig.registration.end(rig.now)

    assert drain(rig.conversation.poll_transmit) == []


def test_after_a_reset_only_the_sequence_goes_on() -> None:
    rig = registered()

    rig.registration.reset()
    assert rig.registration.responses == {}
    assert rig.registration.poll_timeout() is None
    rig.registration.begin(rig.conversation)  # type: ignore[arg-type]
    rig.register()
    rig.serve()

    assert [m.sequence for _, m in rig.heard if isinstance(m, RegistrationRequest)] == [2]


def test_without_a_network_nothing_is_sent_and_nothing_spins() -> None:
    rig = registered()

    rig.register(())
    rig.pass_time(600)

    assert rig.sent(RegistrationRequest) == []
    assert rig.registration.responses == {}


steps = st.lists(
    st.tuples(
        st.sampled_from(["silence", "speak", "reboot", "rebind", "move", "wait"]),
        st.sampled_from([4, 6]),
        st.sampled_from([0, 1, 19, 61]),
    ),
    max_size=20,
)
PLACES = {(HERE,), (HERE6,), (HERE, HERE6), (THERE, HERE6)}


@given(steps, st.data())
@settings(max_examples=80, deadline=None)
def test_after_any_history_a_dc_that_answers_is_registered_with_where_the_node_is(
    history: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    rig = registered()
    for act, family, wait in history:
        match act:
            case "silence":
                rig.silent.add(family)
            case "speak":
                rig.silent.discard(family)
            case "reboot":
                rig.boot += 1
            case "rebind":
                rig.seen[family] = Endpoint(
                    rig.seen[family].host, rig.seen[family].port % 60000 + 1
                )
            case "move":
                rig.register(data.draw(st.sampled_from(sorted(PLACES, key=str))))
        rig.pass_time(wait)
    rig.silent.clear()

    rig.pass_time(90)

    assert sorted(rig.registration.responses) == sorted({e.version for e in rig.local})
    for family, response in rig.registration.responses.items():
        assert (response.mapped, response.boot) == (rig.seen[family], rig.boot)


RELAYS = ((RS,), (Endpoint("192.0.2.10", 4330),))
MS = SECOND // 1000
FAR = (RoundTrip(RELAYS[0][0], 3), RoundTrip(RELAYS[1][0], 40))


def measured() -> Rig:
    """Registered at a domain of two RS, and told how far they are."""
    rig = Rig()
    rig.relays = RELAYS
    rig.register()
    rig.serve()
    measure(rig)
    return rig


def measure(rig: Rig) -> None:
    [wanted] = [event for event in rig.events() if isinstance(event, RoundTripsWanted)]
    found = {RELAYS[0][0]: 3 * MS, RELAYS[1][0]: 40 * MS}
    rig.registration.handle_round_trips(wanted.number, found, rig.now)
    rig.heard.clear()
    rig.serve()


def told(rig: Rig) -> list[tuple[RoundTrip, ...]]:
    """What the DC heard of round trips; forgets what was heard."""
    heard = [m.round_trips for _, m in rig.heard if isinstance(m, UdpKeepAlive) and m.round_trips]
    rig.heard.clear()
    return heard


def test_how_far_the_relays_are_is_told_in_one_keep_alive_as_soon_as_it_is_known() -> None:
    rig = measured()

    assert told(rig) == [FAR]

    rig.pass_time(300)
    rig.register()
    rig.serve()
    assert told(rig) == [], "not again while nothing changed"


def test_a_dc_that_started_again_is_told_again() -> None:
    rig = measured()
    rig.heard.clear()
    rig.boot += 1

    rig.pass_time(65)

    assert told(rig) == [FAR]


def test_a_keep_alive_that_nobody_answered_leads_to_another() -> None:
    rig = Rig()
    rig.relays = RELAYS
    rig.register()
    rig.serve()
    rig.silent = {4}
    measure(rig)
    rig.heard.clear()

    rig.pass_time(10)
    rig.silent.clear()
    rig.pass_time(30)

    assert told(rig)[-1] == FAR


def test_after_a_move_it_is_measured_and_told_anew() -> None:
    rig = measured()
    rig.heard.clear()

    rig.seen[4] = THERE
    rig.registration.register((THERE,), rig.now, moved=True)
    rig.serve()
    measure(rig)

    assert told(rig) == [FAR]


def test_a_domain_with_one_relay_is_told_nothing() -> None:
    """The negative twin."""
    rig = Rig()
    rig.relays = ()
    rig.register()
    rig.serve()

    assert not [event for event in rig.events() if isinstance(event, RoundTripsWanted)]
    rig.pass_time(4000)
    assert told(rig) == []


def test_every_hour_it_is_measured_again_with_a_keep_alive() -> None:
    rig = measured()

    rig.pass_time(3700)

    assert len([event for event in rig.events() if isinstance(event, RoundTripsWanted)]) == 1


def test_relays_that_a_keep_alive_answer_names_are_measured_too() -> None:
    rig = registered()
    rig.named = RELAYS

    rig.pass_time(61)
    measure(rig)

    assert told(rig) == [FAR]


def test_where_mappings_die_at_an_age_they_are_asked_after_as_that_comes() -> None:
    """Of one that dies at 150 s; the third death is met by more questions than usual."""
    rig = registered()
    for _ in range(2):
        rig.pass_time(150)
        rig.seen[4] = Endpoint(HERE.host, rig.seen[4].port + 1)
    rig.pass_time(30)
    assert rig.registration.mapping_age_s is not None
    rig.heard.clear()

    rig.pass_time(119)
    busy = len(rig.sent(UdpKeepAlive))
    rig.registration.register((THERE,), rig.now, moved=True)
    rig.serve()
    rig.heard.clear()
    rig.pass_time(150)

    assert busy > 40
    assert len(rig.sent(UdpKeepAlive)) <= 8, "another network: nothing is known of it"
    assert rig.registration.mapping_age_s is None
