import pytest

from ntmobile.agent.history import MOST_STEPS, MOST_TRACES, History
from ntmobile.keys.table import KeyAct, KeyRecord, Party
from ntmobile.proto.journal import Step
from ntmobile.proto.node.events import TunnelEstablished
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint

OWN = "laptop.alice.ntm.example.org"
PEER = "pc.bob.ntm.example.net"
THERE = Endpoint("192.0.2.9", 4000)
MINE, OTHER = "aa" * 16, "bb" * 16


def step(at: int, message: str, there: str, detail: str = "", *, sent: bool = True) -> Step:
    return Step(Instant(at), message, OWN, there, sent, detail)


def established(fqdn: str = PEER, elapsed_ns: int = 50) -> TunnelEstablished:
    return TunnelEstablished(fqdn, 7, THERE, False, elapsed_ns)


def test_a_trace_is_the_newest_negotiation_with_its_acknowledgements() -> None:
    history = History()
    led = [
        step(100, "Direction Request", "DC", MINE),
        step(110, "NTM ACK", "DC", sent=False),
        step(120, "Route Direction", "DC", MINE, sent=False),
        step(140, "Tunnel Request", PEER, MINE, sent=False),
        step(150, "Tunnel Response", PEER, MINE),
    ]
    noise = [step(115, "UDP Keep Alive", "DC"), step(125, "Tunnel Request", "x.y.z", OTHER)]
    for each in sorted(led + noise, key=lambda step: step.at):
        history.add_step(each)

    history.add_tunnel(established(), Instant(150))

    trace = history.trace(PEER)
    assert trace is not None
    assert list(trace.steps) == led


def test_an_older_negotiation_with_the_peer_is_not_in_the_trace() -> None:
    history = History()
    history.add_step(step(0, "Tunnel Request", PEER, OTHER))
    history.add_step(step(60 * SECOND, "Tunnel Request", PEER, MINE))

    history.add_tunnel(established(), Instant(60 * SECOND))

    trace = history.trace(PEER)
    assert trace is not None
    assert [each.detail for each in trace.steps] == [MINE]


def test_a_relayed_tunnel_is_traced_through_its_relay() -> None:
    history = History()
    history.add_step(step(1, "Hole Punching", "RS", MINE))
    history.add_step(step(2, "Tunnel Request", "RS", MINE, sent=False))

    history.add_tunnel(established(), Instant(3))

    trace = history.trace(PEER)
    assert trace is not None
    assert len(trace.steps) == 2


def test_what_is_remembered_is_bounded() -> None:
    history = History()
    for number in range(MOST_TRACES + 1):
        history.add_tunnel(established(f"n{number}.bob.ntm.example.net"), Instant(number))

    assert history.trace("n0.bob.ntm.example.net") is None
    assert history.trace(f"n{MOST_TRACES}.bob.ntm.example.net") is not None


def test_key_records_are_kept_in_order() -> None:
    history = History()
    records = [
        KeyRecord(Instant(at), KeyAct.OWNED, Party.NODE, "Kmncn", f"{at:02x}") for at in range(3)
    ]
    for record in records:
        history.add_key_record(record)

    assert list(history.key_records) == records


def test_the_newest_login_and_registration_stay_when_thousands_of_messages_have_come() -> None:
    history = History()
    stood = [
        step(1, "Nonce Request", "AS"),
        step(2, "Nonce", "AS", sent=False),
        step(3, "Login Request", "AS"),
        step(4, "Login Response", "AS", sent=False),
        step(5, "Registration Request", "DC"),
        step(6, "Registration Response", "DC", sent=False),
    ]
    for each in stood:
        history.add_step(each)
    for number in range(2 * MOST_STEPS):
        history.add_step(step(10 + number, "Tunnel Request", PEER, MINE))

    assert list(history.standing(OWN).steps) == stood


def test_a_node_that_never_logged_in_has_nothing_to_draw() -> None:
    assert History().standing(OWN).steps == ()


@pytest.mark.paper("Fig. 5")
def test_what_an_application_waited_for_begins_with_its_query_and_ends_with_its_answer() -> None:
    history = History()
    history.add_hooked(OWN, PEER, Instant(90), answered=False)
    history.add_step(step(100, "Direction Request", "DC", MINE))
    history.add_step(step(150, "Tunnel Response", PEER, MINE))
    history.add_tunnel(established(), Instant(150))
    history.add_hooked(OWN, PEER, Instant(160), answered=True)
    history.add_hooked(OWN, "tv.bob.ntm.example.net", Instant(161), answered=True)

    trace = history.trace(PEER)

    assert trace is not None
    assert [(each.message, each.there) for each in trace.steps] == [
        ("DNS Query", "application"),
        ("Direction Request", "DC"),
        ("Tunnel Response", PEER),
        ("DNS Answer", "application"),
    ]


def test_a_query_that_came_when_the_tunnel_stood_is_not_what_began_it() -> None:
    history = History()
    history.add_step(step(100, "Tunnel Request", PEER, MINE))
    history.add_tunnel(established(), Instant(150))
    history.add_hooked(OWN, PEER, Instant(200), answered=False)
    history.add_hooked(OWN, PEER, Instant(201), answered=True)

    trace = history.trace(PEER)

    assert trace is not None
    assert [each.message for each in trace.steps] == ["Tunnel Request"]
