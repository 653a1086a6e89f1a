"""What `ntm up` refuses before anything is started."""

from base64 import b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.keys.authorities import DEVICE, FQDN, SECRET, ec_key, rsa_key
from typer.testing import CliRunner, Result

from ntmobile.agent.records import SavedAccount, encode
from ntmobile.cli.main import application

ACCOUNT = SavedAccount(user="alice", name="laptop", domain="ntm.example.org", enrolled=True)


def ntm(state: Path, *arguments: str, input: str | None = None) -> Result:
    command = [*arguments, "--state", str(state)]
    return CliRunner().invoke(application(arguments[0]), command, input=input)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


ELLIPTIC = ec.derive_private_key(9, ec.SECP256R1()).public_key()


@pytest.fixture
def enrolled(state: Path) -> Path:
    state.mkdir()
    (state / "account.json").write_bytes(encode(ACCOUNT))
    return state


def test_a_proxy_without_an_account_says_how_to_get_one(state: Path) -> None:
    done = ntm(state, "proxy")

    assert done.exit_code == 1
    assert f"ntm --state {state} up USER@DOMAIN --name NAME --model proxy" in done.stderr


def test_where_a_proxy_listens_is_judged_before_the_account(state: Path) -> None:
    assert ntm(state, "proxy", "--socks", "foo").exit_code == 2


@pytest.mark.parametrize("place", ["1055", "localhost:1055", "127.0.0.1:port"])
def test_a_proxy_listens_on_an_address_and_a_port(enrolled: Path, place: str) -> None:
    done = ntm(enrolled, "proxy", "--socks", place)

    assert done.exit_code == 2
    assert "not ADDRESS:PORT" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["alice"],
        ["@ntm.example.org"],
        ["alice@"],
        ["alice@ntm.example.org", "--model", "magic"],
        ["alice@ntm.example.org", "--keepalive", "never"],
        ["alice@ntm.example.org", "--keepalive", "push"],
        ["alice@ntm.example.org", "--push", "fcm:short"],
        ["alice@ntm.example.org", "--push", "gcm:0123456789abcdef"],
        ["alice@ntm.example.org", "--push", "web:no such file"],
        ["alice@ntm.example.org", "--push", "web:/dev/null"],
        ["alice@ntm.example.org", "--fingerprint", "SHA256:12"],
        ["alice@ntm.example.org", "--ca", "no such file"],
        ["alice@ntm.example.org", "--certificate", "cert.pem"],
        ["alice@ntm.example.org", "--key", "key.pem"],
        ["alice@ntm.example.org", "--certificate", "no such file", "--key", "no such file"],
        ["alice@ntm.example.org", "--ca", "x", "--fingerprint", "SHA256:" + "0" * 64],
        ["alice@ntm.example.org", "--as", "http://as.ntm.example.org"],
        ["alice@ntm.example.org", "--name", "my laptop"],
        ["al ice@ntm.example.org"],
        ["alice@ntm..org"],
        ["alice@ntm.example.org", "--auth-key", "ntmkey-x"],
        ["--auth-key", "ntmkey-x"],
    ],
)
def test_a_wrong_command_line_is_a_usage_error(state: Path, arguments: list[str]) -> None:
    done = ntm(state, "up", *arguments, "--password-stdin", input="secret password")

    assert done.exit_code == 2
    assert not state.exists()


def test_a_node_without_an_account_is_told_how_to_get_one(state: Path) -> None:
    done = ntm(state, "up")

    assert done.exit_code == 1
    assert "up USER@DOMAIN" in done.stderr


def test_without_a_terminal_a_first_login_asks_for_the_password_on_stdin(state: Path) -> None:
    done = ntm(state, "up", "alice@ntm.example.org", input="secret password")

    assert done.exit_code == 1
    assert "--password-stdin" in done.stderr


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        (ec_key().certificate(FQDN, bytes(32)), SECRET, "for another key"),
        (ec_key().certificate(FQDN, key=ELLIPTIC), SECRET, "must be Ed25519"),
        (rsa_key(4096).certificate(FQDN, DEVICE), SECRET, "too long to travel"),
        (b"", SECRET, "not a certificate in PEM"),
        (ec_key().certificate(FQDN, DEVICE), b"", "not a private key in PEM"),
    ],
    ids=["another key", "elliptic", "too long", "no certificate", "no key"],
)
def test_a_certificate_that_cannot_do_is_refused_before_anything_is_changed(
    state: Path, tmp_path: Path, certificate: bytes, key: bytes, said: str
) -> None:
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    files[0].write_text(
        f"-----BEGIN CERTIFICATE-----\n{b64encode(certificate).decode()}\n"
        "-----END CERTIFICATE-----\n"
    )
    files[1].write_bytes(pem_of_key(key) if key else b"nothing")

    who = ("alice@ntm.example.org", "--name", "laptop")
    done = ntm(state, "up", *who, "--certificate", str(files[0]), "--key", str(files[1]))

    assert done.exit_code == 1
    assert said in done.stderr
    assert "next: " in done.stderr
    assert not state.exists()


def pem_of_key(secret: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(secret).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


@pytest.mark.parametrize("password", ["", "\n", "x" * 1025])
def test_an_empty_or_endless_password_is_refused(state: Path, password: str) -> None:
    done = ntm(state, "up", "alice@ntm.example.org", "--password-stdin", input=password)

    assert done.exit_code == 1
    assert "empty or too long" in done.stderr


def test_another_user_and_domain_is_a_first_login_of_its_own(enrolled: Path) -> None:
    done = ntm(enrolled, "up", "bob@ntm.example.net")

    assert done.exit_code == 1
    assert "a first login needs a password" in done.stderr


@pytest.fixture
def two(enrolled: Path) -> Path:
    """A state with two identities."""
    further = enrolled / "identities" / "bob@ntm.example.net"
    further.mkdir(parents=True)
    bob = SavedAccount(user="bob", name="laptop", domain="ntm.example.net", enrolled=True)
    (further / "account.json").write_bytes(encode(bob))
    return enrolled


@pytest.mark.parametrize(
    "command", [["up", "--name", "desk"], ["up", "--keepalive", "tcp"], ["logout"]]
)
def test_what_changes_one_of_several_identities_asks_which_one(
    two: Path, command: list[str]
) -> None:
    done = ntm(two, *command)

    assert done.exit_code == 1
    assert "alice@ntm.example.org, bob@ntm.example.net" in done.stderr
    assert "--identity bob@ntm.example.net" in done.stderr


def test_logging_out_one_identity_keeps_the_other(two: Path) -> None:
    done = ntm(two, "logout", "--identity", "ntm.example.net")

    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("bob@ntm.example.net is logged out")
    assert not (two / "identities" / "bob@ntm.example.net" / "account.json").exists()
    assert (two / "account.json").exists()


def test_the_first_identity_can_be_logged_out_too(two: Path) -> None:
    done = ntm(two, "logout", "--identity", "alice@ntm.example.org")

    assert done.exit_code == 0, done.stderr
    assert not (two / "account.json").exists()
    assert (two / "identities" / "bob@ntm.example.net" / "account.json").exists()


def test_an_identity_that_is_not_here_is_told_which_ones_are(two: Path) -> None:
    done = ntm(two, "logout", "--identity", "carol@ntm.example.net")

    assert done.exit_code == 1
    assert "here are alice@ntm.example.org, bob@ntm.example.net" in done.stderr


def test_who_and_identity_must_not_contradict_each_other(two: Path) -> None:
    done = ntm(two, "up", "alice@ntm.example.org", "--identity", "bob@ntm.example.net")

    assert done.exit_code == 2


def test_proxies_are_for_one_identity_alone(enrolled: Path) -> None:
    done = ntm(enrolled, "up", "bob@ntm.example.net", "--model", "proxy")

    assert done.exit_code == 1
    assert "--state DIR" in done.stderr


def test_a_damaged_account_is_named(enrolled: Path) -> None:
    (enrolled / "account.json").write_bytes(b"{")

    done = ntm(enrolled, "up")

    assert done.exit_code == 1
    assert "account.json is damaged" in done.stderr


@pytest.mark.parametrize(
    "command",
    [["status"], ["peers"], ["keys"], ["wait"], ["handovers"], ["set"], ["bugreport"]],
)
def test_without_an_agent_every_command_exits_with_three(state: Path, command: list[str]) -> None:
    done = ntm(state, *command)

    assert done.exit_code == 3
    assert f"ntm --state {state} up" in done.stderr


def test_the_state_may_be_named_before_the_command(
    enrolled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NTM_STATE", raising=False)

    done = CliRunner().invoke(application("--state"), ["--state", str(enrolled), "status"])

    assert done.exit_code == 3
    assert str(enrolled) in done.stderr
    monkeypatch.delenv("NTM_STATE")


def test_down_where_nothing_is_up_does_not_ask_for_an_up(state: Path) -> None:
    done = ntm(state, "down")

    assert done.exit_code == 3
    assert "is down already" in done.stderr
    assert "next:" not in done.stderr


def test_logout_where_nobody_ever_logged_in_has_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for state in (tmp_path / "state", tmp_path / "file" / "state"):
        done = ntm(state, "logout")

        assert done.exit_code == 0, done.stderr
        assert done.stdout.startswith("nobody is logged in")
        assert not state.exists()


def test_logout_works_without_an_agent(enrolled: Path) -> None:
    done = ntm(enrolled, "logout")

    assert done.exit_code == 0
    assert not (enrolled / "account.json").exists()
