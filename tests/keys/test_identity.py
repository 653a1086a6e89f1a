from ntmobile.keys.identity import Identity, fingerprint, is_genuine, is_successor, succeed, verify
from ntmobile.wire.identity import PublicIdentity

ONE = Identity.of(bytes(range(32)), bytes(range(32, 64)))
OTHER = Identity.of(bytes(range(1, 33)), bytes(range(33, 65)))


def test_a_device_key_vouches_for_its_tunnel_key() -> None:
    assert is_genuine(ONE.public)


def test_a_swapped_tunnel_key_shows() -> None:
    mixed = PublicIdentity(ONE.public.device, OTHER.public.tunnel, ONE.public.signature)

    assert not is_genuine(mixed)


def test_a_successor_is_signed_by_the_old_key_only() -> None:
    signature = succeed(ONE.device, OTHER.public.device)

    assert is_successor(ONE.public.device, OTHER.public.device, signature)
    assert not is_successor(OTHER.public.device, ONE.public.device, signature)


def test_a_malformed_public_key_verifies_nothing() -> None:
    assert not verify(b"short", bytes(64), b"data")


def test_private_keys_do_not_show() -> None:
    assert ONE.device.hex() not in repr(ONE)
    assert repr(ONE.device) not in repr(ONE)


def test_a_fingerprint_is_what_people_compare() -> None:
    assert fingerprint(b"") == (
        "SHA256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
