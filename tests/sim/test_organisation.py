"""The servers of two domains, asked as a node's driver and another DC ask them."""

from dataclasses import dataclass, field

import pytest

from ntmobile.errors import DecodeError
from ntmobile.keys.identity import Identity
from ntmobile.proto.io import CoordinatorFound, Failed, random_bytes
from ntmobile.sim.directory import HTTPS_PORT, Directory, reachable
from ntmobile.sim.entropy import SeededEntropy
from ntmobile.sim.exchange import Client
from ntmobile.sim.internet import ONE_WAY, Internet
from ntmobile.sim.organisation import Organisation
from ntmobile.sim.recorder import Recorder
from ntmobile.sim.web import Signer, post, read_answer, read_post, signed_post
from ntmobile.time import SECOND, Instant
from ntmobile.wire.federation import KeySharing, SharedKey
from ntmobile.wire.login import (
    LoginRefusal,
    LoginRefused,
    LoginRequest,
    LoginResponse,
    Nonce,
    NonceRequest,
    login_bytes,
)
from ntmobile.wire.message import Message
from ntmobile.wire.registration import NtmAck, Reason, Refusal


def test_a_password_logs_in_and_the_coordinator_holds_the_key() -> None:
    two = TwoDomains()

    response = two.log_in("right")

    assert isinstance(response, LoginResponse)
    assert response.fqdn == "laptop.alice.example.org"
    stored = two.org.registrations.nodes[response.fqdn]
    assert stored.kntmdc == response.kntmdc


def test_a_wrong_password_is_refused_and_nothing_is_stored() -> None:
    two = TwoDomains()

    response = two.log_in("wrong")

    assert response == LoginRefusal(LoginRefused.CREDENTIALS)
    assert two.org.registrations.nodes == {}


def test_the_second_login_needs_only_the_device_key() -> None:
    two = TwoDomains()
    two.log_in("right")

    assert isinstance(two.log_in(None), LoginResponse)


def test_the_coordinator_of_a_foreign_name_is_found_over_dns_and_https_then_from_cache() -> None:
    two = TwoDomains()

    assert two.find("pc.bob.example.net") == (two.net_found(), 2 + 6)
    assert two.find("tv.bob.example.net") == (two.net_found(), 0)


def test_a_name_outside_every_zone_has_no_coordinator() -> None:
    two = TwoDomains()

    found, _ = two.find("www.example.com")

    assert isinstance(found, Failed)
    assert found.reason is Reason.UNKNOWN_NAME


def test_a_domain_whose_dc_is_down_is_unreachable() -> None:
    two = TwoDomains()
    two.net.coordinator.kill()

    found, _ = two.find("pc.bob.example.net")

    assert isinstance(found, Failed)
    assert found.reason is Reason.DOMAIN_UNREACHABLE


def test_a_domain_key_that_does_not_validate_is_refused() -> None:
    two = TwoDomains()
    two.org.coordinator.resolver.distrusted.add("example.net")

    found, _ = two.find("pc.bob.example.net")

    assert isinstance(found, Failed)
    assert found.reason is Reason.DOMAIN_KEY


def test_a_key_signed_by_its_domain_is_taken_and_one_in_anothers_name_is_not() -> None:
    two = TwoDomains()

    assert two.share_key(two.org.signer, creator="example.org") == NtmAck()
    assert isinstance(two.share_key(two.org.signer, creator="example.net"), Refusal)


def test_a_request_signed_with_a_wrong_key_never_reaches_the_machine() -> None:
    two = TwoDomains()
    thief = Signer("example.org", bytes(32))

    with pytest.raises(DecodeError):
        two.share_key(thief, creator="example.org")
    assert two.net.coordinator.refused == {"a request with a wrong signature": 1}


def test_a_request_is_good_for_its_addressee_and_for_five_minutes_only() -> None:
    two = TwoDomains()
    body = signed_post(NonceRequest(), two.org.signer, "example.net", b"n", Instant(0))

    read_post(body, "example.net", two.directory, "192.0.2.1", Instant(300 * SECOND))
    for own, now in (("example.org", 0), ("example.net", 301)):
        with pytest.raises(DecodeError):
            read_post(body, own, two.directory, "192.0.2.1", Instant(now * SECOND))


@dataclass
class TwoDomains:
    """example.org and example.net, and a client on the core."""

    internet: Internet = field(default_factory=Internet)

    def __post_init__(self) -> None:
        recorder, self.directory = Recorder(), Directory()
        self.org = Organisation(self.internet, recorder, self.directory, "example.org")
        self.net = Organisation(self.internet, recorder, self.directory, "example.net")
        self.org.add_user("alice", "right")
        self._entropy = SeededEntropy("client")
        self._host = self.internet.host("client")
        self._client = Client(self._host, self.internet.calendar, self._entropy)
        keys = random_bytes(self._entropy, 32), random_bytes(self._entropy, 32)
        self._identity = Identity.of(*keys)

    def log_in(self, password: str | None) -> Message:
        nonce = self._ask(self.org, post(NonceRequest(), b"1", self.internet.now))
        assert isinstance(nonce, Nonce)
        unsigned = LoginRequest(
            "alice", "laptop", self._identity.public, nonce.nonce, bytes(64), password
        )
        signature = self._identity.sign(login_bytes("example.org", unsigned))
        login = LoginRequest(
            "alice", "laptop", self._identity.public, nonce.nonce, signature, password
        )
        return self._ask(self.org, post(login, b"2", self.internet.now))

    def find(self, fqdn: str) -> tuple[CoordinatorFound | Failed, float]:
        """Return what example.org's DC finds, and the time in one-way delays."""
        answers, start = list[CoordinatorFound | Failed](), self.internet.now
        self.org.coordinator.resolver.find(fqdn, answers.append)
        self._run(lambda: bool(answers))
        return answers[0], (self.internet.now - start) / ONE_WAY.delay_ns

    def net_found(self) -> CoordinatorFound:
        domain = self.directory.domain("example.net")
        assert domain is not None
        return CoordinatorFound("example.net", domain.endpoints)

    def share_key(self, signer: Signer, creator: str) -> Message:
        message = KeySharing(SharedKey.KDCDC, bytes(8), bytes(32), 60, creator)
        nonce = random_bytes(self._entropy, 16)
        body = signed_post(message, signer, "example.net", nonce, self.internet.now)
        return self._ask(self.net, body, coordinator=True)

    def _ask(self, org: Organisation, body: bytes, *, coordinator: bool = False) -> Message:
        domain = self.directory.domain(org.domain)
        assert domain is not None
        ends = domain.endpoints if coordinator else org.account_endpoints
        answers = list[bytes | None]()
        self._client.ask(reachable(self._host, ends, HTTPS_PORT), body, answers.append)
        self._run(lambda: bool(answers))
        assert answers[0] is not None
        return read_answer(answers[0])

    def _run(self, done: object) -> None:
        assert callable(done)
        limit = Instant(self.internet.now + 30 * SECOND)
        assert self.internet.calendar.run_until(done, limit)
