"""Ours: docs/protocol.md section 4."""

from dataclasses import replace
from ipaddress import IPv6Address
from random import Random

import pytest
from tests.proto.parts import ALICE, BOB, CAROL, identity

from ntmobile.keys.identity import Identity
from ntmobile.proto.node.handshake import Handshake, HandshakeError, Secrets, Terms, rekey_psk
from ntmobile.wire.direction import Cipher, Mode, Role

PSK = b"\x07" * 32
TERMS = Terms(
    bytes(16),
    Mode.KKPSK0,
    Cipher.AES_256_GCM,
    ALICE,
    BOB,
    Role.CN,
    identity(ALICE).public,
    identity(BOB).public,
    IPv6Address("fd00::1"),
    IPv6Address("fd00::2"),
)


def end(
    role: Role,
    terms: Terms = TERMS,
    psk: bytes = PSK,
    own: Identity | None = None,
    peer: Identity | None = None,
) -> Handshake:
    names = {Role.MN: (ALICE, BOB), Role.CN: (BOB, ALICE)}[role]
    own, peer = own or identity(names[0]), peer or identity(names[1])
    return Handshake(terms, psk, role, own, peer.public, Random(role))


def shake(sender: Handshake, awaiting: Handshake) -> tuple[Secrets, Secrets]:
    awaiting.read(sender.write())
    sender.read(awaiting.write())
    return sender.finish(), awaiting.finish()


@pytest.mark.paper("Kmncn")
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("cipher", Cipher)
@pytest.mark.parametrize("sender", Role)
def test_both_ends_get_the_same_keys_crosswise(mode: Mode, cipher: Cipher, sender: Role) -> None:
    terms = replace(TERMS, mode=mode, cipher=cipher, sender=sender)
    other = Role.CN if sender is Role.MN else Role.MN

    here, there = shake(end(sender, terms), end(other, terms))

    assert here.send_key == there.receive_key
    assert here.receive_key == there.send_key
    assert here.send_key != here.receive_key
    assert here.hash == there.hash
    assert rekey_psk(here) == rekey_psk(there)


OTHERS = {
    "negotiation": bytes(15) + b"\x01",
    "cipher": Cipher.CHACHA20_POLY1305,
    "mn": CAROL,
    "cn": CAROL,
    "mn_identity": identity(CAROL).public,
    "cn_identity": identity(CAROL).public,
    "mn_ipv6": IPv6Address("fd00::3"),
    "cn_ipv6": IPv6Address("fd00::3"),
}


@pytest.mark.parametrize(("field", "value"), OTHERS.items(), ids=OTHERS)
def test_any_difference_in_what_was_negotiated_fails(field: str, value: object) -> None:
    awaiting = end(Role.MN, replace(TERMS, **{field: value}))  # type: ignore[arg-type]

    with pytest.raises(HandshakeError):
        awaiting.read(end(Role.CN).write())


def test_another_ktmp_fails() -> None:
    with pytest.raises(HandshakeError):
        end(Role.MN, psk=b"\x08" * 32).read(end(Role.CN).write())


def test_a_dc_that_knows_ktmp_and_not_the_tunnel_key_cannot_be_the_peer() -> None:
    impostor = end(Role.CN, own=identity("the DC itself"))

    with pytest.raises(HandshakeError):
        end(Role.MN).read(impostor.write())


def test_in_password_mode_ktmp_alone_is_enough_as_in_the_paper() -> None:
    """The negative twin: NNpsk0 proves no device key."""
    terms = replace(TERMS, mode=Mode.NNPSK0)

    shake(end(Role.CN, terms, own=identity("the DC itself")), end(Role.MN, terms))


def test_a_forged_message_does_not_end_the_handshake_with_the_true_peer() -> None:
    sender, awaiting = end(Role.CN), end(Role.MN)
    request = sender.write()
    for place in range(0, len(request), 7):
        forged = bytearray(request)
        forged[place] ^= 1
        with pytest.raises(HandshakeError):
            awaiting.read(bytes(forged))
    awaiting.read(request)
    response = awaiting.write()

    with pytest.raises(HandshakeError):
        sender.read(bytes(48))
    sender.read(response)

    assert sender.finish().hash == awaiting.finish().hash


def test_keys_never_show_in_text() -> None:
    here, _ = shake(end(Role.CN), end(Role.MN))

    assert repr(here.send_key) not in repr(here)
