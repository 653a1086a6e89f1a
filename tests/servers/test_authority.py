"""Source: paper, Node authentication: login by certificate, and what every login gives.

Ours: docs/protocol.md section 2.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from random import Random

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.keys.authorities import DAY_S, DOMAIN, FQDN, NOW_S, authority, der_of, ec_key, rsa_key

from ntmobile.errors import Remedy
from ntmobile.keys.identity import Identity
from ntmobile.keys.node_certificates import Anchor, authority_of, judge
from ntmobile.proto.io import LoginVerified, VerifyLogin
from ntmobile.runtime.clock import Clock
from ntmobile.servers.authority import NodeAuthority
from ntmobile.servers.config import Authentication, NodeSettings, ServerConfig, ServerSettings
from ntmobile.servers.files import ServerDirectory
from ntmobile.servers.init import initialise
from ntmobile.servers.logins import Logins
from ntmobile.servers.policy import parse_policy
from ntmobile.store import Store, create
from ntmobile.wire.certificate import fold
from ntmobile.wire.login import LoginRefusal, LoginRefused, LoginRequest

pytestmark = pytest.mark.paper("Node authentication")

OUTSIDE = ec_key()
LAPTOP = Identity.of(b"1" * 32, b"t" * 32)
ANOTHER = Identity.of(b"2" * 32, b"t" * 32)
SETTINGS = ServerConfig(
    server=ServerSettings(domain=DOMAIN, addresses=(ip_address("203.0.113.10"),))
)


class Fixed(Clock):
    def __init__(self) -> None:
        self.at = float(NOW_S)

    def wall(self) -> float:
        return self.at


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'ntm.db'}"
    create(url)
    opened = await Store.open(url)
    await opened.users.add("alice", None, 1.0)
    yield opened
    await opened.close()


@pytest.fixture
async def logins(store: Store) -> AsyncIterator[Logins]:
    stated = (der_of(authority()), OUTSIDE.der)
    issuing = NodeAuthority(SETTINGS, authority(), stated, Random(1), Fixed())
    made = Logins(DOMAIN, store, parse_policy(""), Fixed(), issuing)
    yield made
    made.close()


async def test_a_certificate_lets_its_node_in_and_gives_it_a_fresh_one(logins: Logins) -> None:
    answer = await logins.verify(by(OUTSIDE.certificate(FQDN, LAPTOP.public.device)))

    assert isinstance(answer, LoginVerified)
    assert answer.certificate_s == 7 * DAY_S
    fault = judge(
        answer.certificate,
        FQDN,
        LAPTOP.public.device,
        (Anchor(der_of(authority()), DOMAIN),),
        NOW_S,
    )
    assert fault is None


async def test_once_it_let_a_node_in_a_certificate_may_expire(logins: Logins) -> None:
    good = OUTSIDE.certificate(FQDN, LAPTOP.public.device)
    expired = OUTSIDE.certificate(FQDN, LAPTOP.public.device, ends_s=NOW_S - 1)
    assert await logins.verify(by(expired)) == LoginRefusal(LoginRefused.CERTIFICATE_EXPIRED)
    assert isinstance(await logins.verify(by(good)), LoginVerified)

    assert isinstance(await logins.verify(by(expired)), LoginVerified)
    assert isinstance(await logins.verify(by(b"")), LoginVerified)


BAD = {
    LoginRefused.CERTIFICATE_EXPIRED: {"ends_s": NOW_S - 1},
    LoginRefused.CERTIFICATE_EARLY: {"begins_s": NOW_S + DAY_S},
    LoginRefused.CERTIFICATE_USAGE: {"purpose": ExtendedKeyUsageOID.SERVER_AUTH},
    LoginRefused.CERTIFICATE_NAME: {"fqdn": f"phone.alice.{DOMAIN}"},
    LoginRefused.CERTIFICATE_KEY: {"device": ANOTHER.public.device},
}


@pytest.mark.parametrize("reason", BAD, ids=str)
async def test_a_bad_certificate_is_refused_by_its_name_and_enrols_nobody(
    reason: LoginRefused, logins: Logins, store: Store
) -> None:
    options: dict[str, object] = {"fqdn": FQDN, "device": LAPTOP.public.device, **BAD[reason]}

    answer = await logins.verify(by(OUTSIDE.certificate(**options)))  # type: ignore[arg-type]

    assert answer == LoginRefusal(reason)
    assert await store.nodes.get(FQDN) is None


async def test_a_certificate_of_a_ca_that_is_not_trusted_lets_nobody_in(logins: Logins) -> None:
    stranger = ec_key(9)
    named_alike = replace(stranger, name="Another CA")

    for ca, reason in (
        (named_alike, LoginRefused.CERTIFICATE_AUTHORITY),
        (stranger, LoginRefused.CERTIFICATE_FORGED),
    ):
        answer = await logins.verify(by(ca.certificate(FQDN, LAPTOP.public.device)))
        assert answer == LoginRefusal(reason)


async def test_a_revoked_device_key_is_refused_whatever_its_certificate(
    logins: Logins, store: Store
) -> None:
    good = OUTSIDE.certificate(FQDN, LAPTOP.public.device)
    await logins.verify(by(good))

    await store.nodes.revoke(FQDN, NOW_S)

    assert await logins.verify(by(good)) == LoginRefusal(LoginRefused.REVOKED)


async def test_whoever_a_trusted_ca_signs_for_takes_the_name_over(
    logins: Logins, store: Store
) -> None:
    await logins.verify(by(OUTSIDE.certificate(FQDN, LAPTOP.public.device)))

    taken = by(OUTSIDE.certificate(FQDN, ANOTHER.public.device), ANOTHER)

    assert isinstance(await logins.verify(taken), LoginVerified)
    node = await store.nodes.get(FQDN)
    assert node is not None
    assert node.device == ANOTHER.public.device


async def test_a_user_that_does_not_exist_has_no_nodes(logins: Logins) -> None:
    fqdn = f"laptop.mallory.{DOMAIN}"
    der = OUTSIDE.certificate(fqdn, LAPTOP.public.device)

    answer = await logins.verify(by(der, user="mallory"))

    assert answer == LoginRefusal(LoginRefused.CREDENTIALS)


async def test_a_directory_states_its_own_ca_and_those_that_are_trusted(tmp_path: Path) -> None:
    directory = await made(tmp_path)
    (directory.path / "corporation.pem").write_bytes(pem_of(rsa_key(2048).der))
    nodes = NodeSettings(
        trusted_cas=("corporation.pem",), authentication=Authentication.CERTIFICATE
    )
    settings = replace(SETTINGS, nodes=nodes)

    read = NodeAuthority.read(directory, settings, Random(1), Fixed())

    assert read.vouching.authorities == (
        authority_of(directory.ca_file.read_bytes()),
        rsa_key(2048).der,
    )
    assert read.vouching.authentication.value == "certificate"
    assert read.issue(FQDN, LAPTOP.public.device) is not None


async def test_without_the_cas_key_or_told_not_to_nobody_gets_a_certificate(
    tmp_path: Path,
) -> None:
    directory = await made(tmp_path)
    off = replace(SETTINGS, nodes=NodeSettings(certificates=False))

    silent = NodeAuthority.read(directory, off, Random(1), Fixed())
    (directory.path / "ca.key").unlink()
    keyless = NodeAuthority.read(directory, SETTINGS, Random(1), Fixed())

    assert silent.vouching.authorities == ()
    assert [each.issue(FQDN, LAPTOP.public.device) for each in (silent, keyless)] == [None, None]


async def test_a_trusted_ca_that_is_none_is_named_with_its_file(tmp_path: Path) -> None:
    directory = await made(tmp_path)
    (directory.path / "wrong.pem").write_text("nothing")
    settings = replace(SETTINGS, nodes=NodeSettings(trusted_cas=("wrong.pem",)))

    with pytest.raises(Remedy, match=r"wrong\.pem: not a certificate of a CA"):
        NodeAuthority.read(directory, settings, Random(1), Fixed())


def by(der: bytes, identity: Identity = LAPTOP, user: str = "alice") -> VerifyLogin:
    """A login by that certificate; whether the device key is held, the machine checked."""
    fqdn = f"laptop.{user}.{DOMAIN}"
    folded = fold(der, fqdn, identity.public.device) if der else b""
    public = msgspec.structs.replace(identity.public, certificate=folded)
    return VerifyLogin(1, LoginRequest(user, "laptop", public, b"", bytes(64)), "192.0.2.1")


async def made(tmp_path: Path) -> ServerDirectory:
    return await initialise(tmp_path / "servers", SETTINGS, entropy=Random(1), now_s=NOW_S)


def pem_of(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
