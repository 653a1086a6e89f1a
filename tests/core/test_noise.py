import json
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any, Literal, TypedDict

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from ntmobile._core import HandshakeError, Noise, x25519_public

VECTORS = json.loads(Path("vectors/noise.json").read_text())["vectors"]
ALICE, BOB = bytes([1] * 32), bytes([2] * 32)


class Keys(TypedDict, total=False):
    psk: bytes
    ephemeral: bytes
    local_private: bytes | None
    remote_public: bytes | None


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["protocol_name"])
def test_the_public_vectors_come_out_byte_for_byte(vector: dict[str, Any]) -> None:
    initiator, responder = from_vector(vector, "init"), from_vector(vector, "resp")
    handshake, transport = vector["messages"][:2], vector["messages"][2:]

    for message, (writer, reader) in zip(
        handshake, [(initiator, responder), (responder, initiator)], strict=True
    ):
        payload = bytes.fromhex(message["payload"])
        written = writer.write(payload)
        assert written.hex() == message["ciphertext"]
        assert reader.read(written) == payload

    assert initiator.finished
    assert responder.finished
    assert initiator.hash.hex() == responder.hash.hex() == vector["handshake_hash"]
    send, receive = initiator.split()
    assert responder.split() == (receive, send)
    assert transport_opens(vector, transport, send, receive)


def test_kkpsk0_agrees_on_keys_and_carries_payloads_encrypted() -> None:
    alice, bob = kk(initiator=True), kk(initiator=False)

    request = alice.write(b"receiver index 5")
    response = bob.write(bob.read(request)[::-1])
    answer = alice.read(response)

    assert answer == b"receiver index 5"[::-1]
    assert b"receiver" not in request
    assert alice.split() == bob.split()[::-1]
    assert alice.hash == bob.hash


@pytest.mark.parametrize("message", [b"", b"x", bytes(48), bytes(70_000)], ids=len)
def test_garbage_raises_handshake_error_and_spoils_nothing(message: bytes) -> None:
    alice, bob = kk(initiator=True), kk(initiator=False)
    request = alice.write(b"")

    with pytest.raises(HandshakeError):
        bob.read(message)

    assert bob.read(request) == b""


def test_another_psk_is_refused() -> None:
    request = kk(initiator=True).write(b"")

    with pytest.raises(HandshakeError, match="forged"):
        kk(initiator=False, psk=bytes(32)).read(request)


def test_keys_are_not_given_before_the_peer_answered() -> None:
    alice = kk(initiator=True)
    alice.write(b"")

    with pytest.raises(HandshakeError, match="not finished"):
        alice.split()


@pytest.mark.parametrize(
    "keys",
    [
        Keys(psk=bytes(31)),
        Keys(ephemeral=bytes(33)),
        Keys(local_private=b""),
        Keys(remote_public=None),
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_wrong_keys_are_the_callers_fault(keys: Keys) -> None:
    with pytest.raises(ValueError, match=r"32 bytes|both static keys"):
        kk(initiator=True, **keys)


def test_handshake_error_is_a_value_error_of_its_own() -> None:
    assert issubclass(HandshakeError, ValueError)


def kk(
    *,
    initiator: bool,
    psk: bytes = bytes([3] * 32),
    ephemeral: bytes | None = None,
    local_private: bytes | None = None,
    remote_public: bytes | None = b"default",
) -> Noise:
    own, peer = (ALICE, BOB) if initiator else (BOB, ALICE)
    return Noise(
        "KKpsk0",
        initiator=initiator,
        cipher="chacha20-poly1305",
        prologue=b"negotiation 7",
        psk=psk,
        ephemeral=bytes([11 + initiator] * 32) if ephemeral is None else ephemeral,
        local_private=own if local_private is None else local_private,
        remote_public=x25519_public(peer) if remote_public == b"default" else remote_public,
    )


def from_vector(vector: dict[str, Any], side: Literal["init", "resp"]) -> Noise:
    def key(name: str) -> bytes | None:
        text = vector.get(f"{side}_{name}")
        return bytes.fromhex(text) if text else None

    return Noise(
        "KKpsk0" if "KKpsk0" in vector["protocol_name"] else "NNpsk0",
        initiator=side == "init",
        cipher="aes-256-gcm" if "AESGCM" in vector["protocol_name"] else "chacha20-poly1305",
        prologue=key("prologue") or b"",
        psk=bytes.fromhex(vector[f"{side}_psks"][0]),
        ephemeral=key("ephemeral") or b"",
        local_private=key("static"),
        remote_public=key("remote_static"),
    )


def transport_opens(
    vector: dict[str, Any], messages: list[dict[str, str]], send: bytes, receive: bytes
) -> bool:
    """The vectors' transport messages, opened by another implementation with our keys."""
    order: Literal["big", "little"] = "big"
    cipher: Callable[[bytes], AESGCM | ChaCha20Poly1305] = AESGCM
    if "ChaChaPoly" in vector["protocol_name"]:
        order, cipher = "little", ChaCha20Poly1305
    opened = [
        cipher(key).decrypt(
            bytes(4) + (number // 2).to_bytes(8, order), bytes.fromhex(message["ciphertext"]), b""
        )
        for number, (message, key) in enumerate(zip(messages, cycle([send, receive]), strict=False))
    ]
    return opened == [bytes.fromhex(message["payload"]) for message in messages] != []
