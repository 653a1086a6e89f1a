"""Byte vectors: what is on the wire does not change by accident."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from ntmobile.errors import DecodeError
from ntmobile.wire.datagram import Envelope, Signal, decode_control, encode_control
from ntmobile.wire.direction import DirectionRequest, Role, Withdrawal
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.identity import PublicIdentity
from ntmobile.wire.notification import (
    Notification,
    NotificationDirection,
    NotificationRegistration,
    TcpKeepAlive,
)
from ntmobile.wire.registration import (
    Challenge,
    KeepAliveAnswer,
    NtmAck,
    Reason,
    Refusal,
    RegistrationResponse,
    UdpKeepAlive,
)
from ntmobile.wire.round_trip import LONGEST_MS, MOST_ROUND_TRIPS, RoundTrip
from ntmobile.wire.tunnel import CloseReason, EchoRequest, HolePunching, PathChallenge, TunnelClose

MAPPED = Endpoint("192.0.2.7", 4330)

VECTORS: dict[str, tuple[Signal, str]] = {
    "UDP Keep Alive": (UdpKeepAlive(), "9301c4009303c290"),
    "UDP Keep Alive with a round trip": (
        UdpKeepAlive(True, (RoundTrip(MAPPED, 300),)),
        "9301c4009303c39192c406c000020710eacd012c",
    ),
    "Keep Alive Answer": (KeepAliveAnswer(MAPPED, 5), "9301c4009404c406c000020710ea0590"),
    "Challenge": (Challenge(b"\x01\x02"), "9301c4009205c4020102"),
    "NTM ACK": (NtmAck(), "9301c4009206c0"),
    "Refusal": (Refusal(Reason.BUSY), "9301c4009307a462757379c0"),
    "Withdrawal": (Withdrawal("a.b"), "9301c4009216a3612e62"),
    "Registration Response": (
        RegistrationResponse(IPv4Address("100.64.0.16"), IPv6Address("fd00::1"), MAPPED, 5, 90, 20),
        "9301c4009c02c40464400010c410fd000000000000000000000000000001c406c000020710ea055a1490"
        "a3756470c0c090",
    ),
    "Notification Direction": (
        NotificationDirection("a.b", b"12345678", bytes(32), 60),
        "9301c4009550a3612e62c4083132333435363738c420" + "00" * 32 + "3c",
    ),
    "Notification Registration": (
        NotificationRegistration("a.b", 3, 120),
        "9301c4009451a3612e620378",
    ),
    "TCP Keep Alive": (TcpKeepAlive(60), "9301c40092523c"),
    "Notification": (Notification(b"12345678", b"\x05"), "9301c4009353c4083132333435363738c40105"),
    "Hole Punching": (HolePunching(Role.CN, 1, 7, b""), "9301c4009520a2636e0107c400"),
    "Direction Request": (
        DirectionRequest("a.b", bytes(16), PublicIdentity(bytes(32), bytes(32), bytes(64))),
        "9301c4009610a3612e62c410"
        + "00" * 16
        + "95c420"
        + "00" * 32
        + "c420"
        + "00" * 32
        + "c440"
        + "00" * 64
        + "c400c0"
        + "a7636f6e6e65637490",
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_message_has_these_bytes(name: str) -> None:
    message, expected = VECTORS[name]

    assert Envelope(1, b"", message).encode().hex() == expected
    assert Envelope.decode(bytes.fromhex(expected)) == Envelope(1, b"", message)


def test_control_messages_have_these_bytes() -> None:
    assert encode_control(PathChallenge(9)).hex() == "922409"
    assert encode_control(TunnelClose(CloseReason.IDLE)).hex() == "9226a469646c65"
    assert encode_control(EchoRequest(3)).hex() == "932703c400"


def test_a_field_that_a_later_version_adds_is_ignored() -> None:
    assert decode_control(bytes.fromhex("93240963")) == PathChallenge(9)


def test_who_tells_no_round_trips_and_names_no_relays_is_understood() -> None:
    """As those before this field did, and as they are answered."""
    kept = Envelope.decode(bytes.fromhex("9301c4009203c2"))
    answered = Envelope.decode(bytes.fromhex("9301c4009304c406c000020710ea05"))
    stood = bytes.fromhex(
        "9301c4009b02c40464400010c410fd000000000000000000000000000001c406c000020710ea055a1490"
        "a3756470c0c0"
    )

    assert kept.message == UdpKeepAlive()
    assert answered.message == VECTORS["Keep Alive Answer"][0]
    assert Envelope.decode(stood).message == VECTORS["Registration Response"][0]


@pytest.mark.parametrize(
    "told",
    [
        (RoundTrip(MAPPED, LONGEST_MS + 1),),
        (RoundTrip(MAPPED, -1),),
        (RoundTrip(MAPPED, 0),) * (MOST_ROUND_TRIPS + 1),
    ],
)
def test_round_trips_out_of_bounds_are_refused(told: tuple[RoundTrip, ...]) -> None:
    data = Envelope(1, b"", UdpKeepAlive(True, told)).encode()

    with pytest.raises(DecodeError):
        Envelope.decode(data)


def test_an_endpoint_never_changes() -> None:
    with pytest.raises(AttributeError):
        MAPPED.port = 1  # type: ignore[misc]


@pytest.mark.parametrize("size", [0, 5, 7, 17, 19])
def test_an_endpoint_has_6_or_18_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="6 or 18"):
        Endpoint.unpack(bytes(size))
