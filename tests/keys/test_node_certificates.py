"""Source: paper, Node authentication. Ours: docs/protocol.md sections 2 and 4."""

import hypothesis.strategies as st
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from tests.keys.authorities import (
    DAY_S,
    DEVICE,
    DOMAIN,
    FQDN,
    NOW_S,
    Issuer,
    authority,
    der_of,
    ec_key,
    edwards_key,
    rsa_key,
)

from ntmobile.errors import Remedy
from ntmobile.keys.certificates import make_server
from ntmobile.keys.node_certificates import (
    LIFETIME,
    Anchor,
    Fault,
    authority_of,
    issue,
    judge,
    judge_folded,
    life_of,
)
from ntmobile.wire.certificate import fold

GIVEN = Anchor(ec_key().der, None)
WEEK_S = int(LIFETIME.total_seconds())


def own(**options: object) -> bytes:
    return issue(authority(), FQDN, DEVICE, serial=5, now_s=NOW_S, **options)  # type: ignore[arg-type]


def judged(
    der: bytes,
    *,
    fqdn: str = FQDN,
    device: bytes = DEVICE,
    anchors: tuple[Anchor, ...] = (Anchor(der_of(authority()), DOMAIN),),
    after_s: float = 0,
) -> Fault | None:
    return judge(der, fqdn, device, anchors, NOW_S + after_s)


def test_a_certificate_by_the_domains_ca_proves_that_the_device_key_is_the_names() -> None:
    assert judged(own()) is None
    assert judge_folded(fold(own(), FQDN, DEVICE), FQDN, DEVICE, (GIVEN,), NOW_S) is Fault.AUTHORITY


@pytest.mark.parametrize("ca", [ec_key(), rsa_key(2048), edwards_key()], ids=["ec", "rsa", "ed"])
def test_a_ca_of_any_usual_kind_is_believed_when_it_is_given(ca: Issuer) -> None:
    der = ca.certificate(FQDN)

    assert judged(der, anchors=(Anchor(ca.der, None),)) is None
    assert judged(der, anchors=()) is Fault.AUTHORITY


def test_another_name_is_refused() -> None:
    assert judged(own(), fqdn=f"phone.alice.{DOMAIN}") is Fault.NAME
    assert judged(ec_key().certificate(None), anchors=(GIVEN,)) is not None


def test_another_device_key_is_refused_and_so_is_a_key_of_another_kind() -> None:
    other = ec.derive_private_key(9, ec.SECP256R1()).public_key()

    assert judged(own(), device=bytes(32)) is Fault.KEY
    assert judged(ec_key().certificate(FQDN, key=other), anchors=(GIVEN,)) is Fault.KEY


def test_a_self_signed_certificate_is_refused_by_that_name() -> None:
    alone = Issuer(ec_key().key, "me").certificate(FQDN, subject="me")

    assert judged(alone) is Fault.SELF_SIGNED
    assert judged(alone, anchors=(Anchor(Issuer(ec_key().key, "me").der, None),)) is None


def test_a_ca_that_only_bears_the_name_of_the_known_one_is_found_out() -> None:
    forged = issue(authority(number=2), FQDN, DEVICE, serial=5, now_s=NOW_S)

    assert judged(forged) is Fault.FORGED
    assert judged(forged, anchors=(Anchor(der_of(authority(number=2)), DOMAIN),)) is None


def test_what_is_no_ca_issues_nothing() -> None:
    server = make_server(authority(), (DOMAIN,), (), serial=3, now_s=NOW_S)
    leaf = x509.load_pem_x509_certificate(server.certificate)
    impostor = Issuer(_key_of(server.key), leaf.subject.rfc4514_string().removeprefix("CN="))

    refused = judged(
        impostor.certificate(FQDN), anchors=(Anchor(_der(server.certificate), DOMAIN),)
    )

    assert refused is Fault.CONSTRAINT


@pytest.mark.parametrize(
    ("stated_for", "fqdn"),
    [("ntm.example.net", FQDN), (None, "laptop.alice.ntm.example.net"), (None, f"x{DOMAIN}")],
)
def test_a_domains_ca_speaks_for_no_name_outside_its_domain(
    stated_for: str | None, fqdn: str
) -> None:
    der = issue(authority(), fqdn, DEVICE, serial=5, now_s=NOW_S)

    assert judged(der, fqdn=fqdn, anchors=(Anchor(der_of(authority()), stated_for),)) is (
        Fault.CONSTRAINT
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"purpose": ExtendedKeyUsageOID.SERVER_AUTH},
        {"signs": False},
        {"ca": True},
        {"unknown": True},
    ],
)
def test_a_certificate_for_another_use_is_refused(wrong: dict[str, object]) -> None:
    bad = ec_key().certificate(FQDN, **wrong)  # type: ignore[arg-type]

    assert judged(bad, anchors=(GIVEN,)) is Fault.USAGE
    assert judged(ec_key().certificate(FQDN), anchors=(GIVEN,)) is None


@pytest.mark.parametrize(
    ("after_s", "fault"),
    [
        (-3 * DAY_S, Fault.EARLY),
        (-DAY_S, None),
        (DAY_S, None),
        (WEEK_S - 1, None),
        (WEEK_S, Fault.EXPIRED),
    ],
)
def test_a_clock_off_by_a_day_does_no_harm_and_one_off_by_much_is_named(
    after_s: int, fault: Fault | None
) -> None:
    assert judged(own(), after_s=after_s) is fault


@pytest.mark.parametrize("off_s", [-DAY_S, DAY_S])
def test_at_its_renewal_too_a_certificate_is_good_for_clocks_off_by_a_day(off_s: int) -> None:
    assert judged(own(), after_s=WEEK_S * 2 // 3 + off_s) is None


def test_a_certificate_never_outlives_its_ca() -> None:
    begins_s, ends_s = life_of(der_of(authority())).begins_s, life_of(der_of(authority())).ends_s
    late = issue(authority(), FQDN, DEVICE, serial=5, now_s=ends_s - DAY_S)
    early = issue(authority(), FQDN, DEVICE, serial=5, now_s=begins_s)

    assert life_of(late).ends_s == ends_s
    assert life_of(early).begins_s == begins_s
    assert judged(late, after_s=ends_s - NOW_S) is Fault.EXPIRED


@given(st.data())
def test_a_mangled_certificate_is_refused_and_never_raises(data: st.DataObject) -> None:
    der = bytearray(own())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(der) - 1))
        der[place] ^= data.draw(st.integers(1, 255))
    del der[data.draw(st.integers(0, len(der)) | st.just(len(der))) :]

    assert (judged(bytes(der)) is None) is (bytes(der) == own())


@given(st.binary(max_size=600))
def test_any_bytes_are_refused_and_never_raise(junk: bytes) -> None:
    assert judged(junk) is Fault.MALFORMED


@pytest.mark.parametrize("what", [b"", b"-----BEGIN CERTIFICATE-----\n", b"\x30\x00"])
def test_what_is_no_ca_is_refused_with_what_to_give_instead(what: bytes) -> None:
    with pytest.raises(Remedy, match="in PEM"):
        authority_of(what)


def test_a_certificate_of_a_node_is_no_ca() -> None:
    with pytest.raises(Remedy, match="CA's own"):
        authority_of(own())


def _key_of(pem: bytes) -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _der(pem: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
