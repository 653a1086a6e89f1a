import ssl
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ntmobile.errors import Remedy
from ntmobile.keys.certificates import (
    Credential,
    der_digest,
    fingerprint,
    make_ca,
    make_server,
    names_of,
    needs_renewal,
    read_certificate,
)

NOW_S = 1_800_000_000
YEAR_S = 365 * 86400
DOMAIN = "ntm.example.org"
NAMES = (DOMAIN, f"as.{DOMAIN}", f"dc.{DOMAIN}")
ADDRESSES = (ip_address("203.0.113.10"), ip_address("2001:db8::10"))


@pytest.mark.parametrize("name", [f"as.{DOMAIN}", DOMAIN, "203.0.113.10", "2001:db8::10"])
def test_a_client_that_trusts_the_ca_accepts_the_server(name: str, tmp_path: Path) -> None:
    ca = ca_now()
    server = make_server(ca, NAMES, ADDRESSES, serial=2, now_s=now_s())

    assert handshake(tmp_path, ca, server, name) is None


def test_a_client_refuses_a_name_that_the_certificate_lacks(tmp_path: Path) -> None:
    ca = ca_now()
    server = make_server(ca, NAMES, ADDRESSES, serial=2, now_s=now_s())

    assert "Hostname mismatch" in str(handshake(tmp_path, ca, server, "rs." + DOMAIN))


@pytest.mark.parametrize("name", ["example.org", "as.example.net", "evil-ntm.example.org"])
def test_a_client_refuses_what_the_ca_says_of_names_outside_its_domain(
    name: str, tmp_path: Path
) -> None:
    ca = ca_now()
    server = make_server(ca, (name,), (), serial=2, now_s=now_s())

    assert "permitted subtree violation" in str(handshake(tmp_path, ca, server, name))


def test_an_address_that_came_after_the_ca_is_left_out_of_the_certificate(tmp_path: Path) -> None:
    ca = ca_now()
    later = ip_address("198.51.100.1")

    server = make_server(ca, NAMES, (*ADDRESSES, later), serial=2, now_s=now_s())

    assert handshake(tmp_path, ca, server, f"as.{DOMAIN}") is None
    assert handshake(tmp_path, ca, server, "198.51.100.1") is not None


def test_a_certificate_is_renewed_in_the_last_third_of_its_life() -> None:
    server = make_server(ca_at(NOW_S), NAMES, (), serial=2, now_s=NOW_S)

    assert not needs_renewal(server.certificate, NAMES, NOW_S + 3 * YEAR_S)
    assert needs_renewal(server.certificate, NAMES, NOW_S + 4 * YEAR_S)


def test_a_certificate_is_renewed_when_a_name_was_added() -> None:
    server = make_server(ca_at(NOW_S), NAMES, (), serial=2, now_s=NOW_S)

    assert needs_renewal(server.certificate, (*NAMES, f"rs.{DOMAIN}"), NOW_S)


def test_the_fingerprint_is_that_of_the_certificate_in_der() -> None:
    server = make_server(ca_at(NOW_S), NAMES, (), serial=2, now_s=NOW_S)
    der = ssl.PEM_cert_to_DER_cert(server.certificate.decode())

    assert fingerprint(server.certificate) == "SHA256:" + der_digest(server.certificate).hex()
    assert x509.load_der_x509_certificate(der) == read_certificate(server.certificate)
    assert names_of(read_certificate(server.certificate)) == NAMES


def test_the_private_key_does_not_show_in_a_representation() -> None:
    ca = ca_at(NOW_S)

    assert b"PRIVATE" in ca.key
    assert load_pem_private_key(ca.key, None) is not None
    assert "PRIVATE" not in repr(ca)


def test_what_is_no_certificate_is_refused_with_a_remedy() -> None:
    with pytest.raises(Remedy, match=r"ca\.pem"):
        read_certificate(b"-----BEGIN NONSENSE-----")


def ca_at(now_s: int) -> Credential:
    return make_ca(DOMAIN, ADDRESSES, serial=1, now_s=now_s)


def now_s() -> int:
    # OpenSSL judges by the real clock, so certificates that it checks start from it.
    from ntmobile.runtime.clock import Clock

    return int(Clock().wall())


def ca_now() -> Credential:
    return ca_at(now_s())


def handshake(
    directory: Path, ca: Credential, server: Credential, name: str
) -> ssl.SSLCertVerificationError | None:
    """What a client says of the server in a handshake in memory; None when it is content."""
    file = directory / "server.pem"
    file.write_bytes(server.certificate + ca.certificate + server.key)
    here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    here.load_cert_chain(file)
    there = ssl.create_default_context(cadata=ca.certificate.decode())
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    listening = here.wrap_bio(up, down, server_side=True)
    asking = there.wrap_bio(down, up, server_hostname=name)
    for _ in range(4):
        for end in (asking, listening):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error
    assert asking.version() == "TLSv1.3"
    return None
