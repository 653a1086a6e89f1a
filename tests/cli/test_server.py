import json
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner, Result

from ntmobile.cli.main import application
from ntmobile.servers.zone_check import Finding, Free, Taken, Unknown
from ntmobile.wire.device_token import decode64

RECORDS = [
    "ntm.example.org. 3600 IN NS dc.ntm.example.org.",
    "dc.ntm.example.org. 3600 IN A 203.0.113.10",
    "dc.ntm.example.org. 3600 IN AAAA 2001:db8::10",
]
ADDRESSES = ("--address", "203.0.113.10", "--address", "2001:db8::10")


def assert_records(lines: object) -> None:
    """Delegation and glue, then the digest of a key that is another one every time."""
    assert isinstance(lines, list)
    *others, digest = lines
    assert others == RECORDS
    assert re.fullmatch(r"ntm\.example\.org\. 3600 IN DS \d+ 13 2 [0-9a-f]{64}", digest)


def test_init_prints_the_records_and_nothing_else(tmp_path: Path) -> None:
    done = init(tmp_path, "--offline")

    assert done.exit_code == 0
    assert_records(done.stdout.splitlines())


def test_init_says_what_to_do_next_and_how_to_trust_it(tmp_path: Path) -> None:
    done = init(tmp_path, "--offline")

    shown = show(tmp_path)
    assert f"ntm admin --server {tmp_path / 'servers'} user add NAME" in done.stderr
    assert f"--fingerprint {shown['tls_fingerprint']}" in done.stderr
    assert str(shown["domain_key"]) in done.stderr


def test_show_tells_what_init_made(tmp_path: Path) -> None:
    init(tmp_path, "--offline", "--roles", "dc,rs")

    shown = show(tmp_path)

    assert (shown["domain"], shown["roles"]) == ("ntm.example.org", ["dc", "rs"])
    assert shown["addresses"] == ["203.0.113.10", "2001:db8::10"]
    assert_records(shown["records"])


def test_a_new_domain_can_wake_nodes_by_web_push(tmp_path: Path) -> None:
    init(tmp_path, "--offline")

    key = decode64(str(show(tmp_path)["web_push_key"]))

    assert ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
    assert (tmp_path / "servers" / "vapid.key").stat().st_mode & 0o777 == 0o600


def test_rs_on_a_machine_of_its_own_is_told_apart(tmp_path: Path) -> None:
    done = init(tmp_path, "--offline", "--rs-address", "203.0.113.20")

    shown = show(tmp_path)

    assert_records(done.stdout.splitlines())
    assert shown["addresses"] == ["203.0.113.10", "2001:db8::10", "203.0.113.20"]
    assert shown["servers"] == {
        "as.ntm.example.org": ["203.0.113.10", "2001:db8::10"],
        "dc.ntm.example.org": ["203.0.113.10", "2001:db8::10"],
        "ns.ntm.example.org": ["203.0.113.10", "2001:db8::10"],
        "rs.ntm.example.org": ["203.0.113.20"],
    }


def test_the_directory_of_an_rs_is_made_and_says_what_to_do_with_it(tmp_path: Path) -> None:
    init(tmp_path, "--offline", "--rs-address", "203.0.113.20")
    main, made = str(tmp_path / "servers"), tmp_path / "relay"

    done = CliRunner().invoke(application("server"), ["server", "relay", main, "rs", str(made)])

    assert done.exit_code == 0, done.stderr
    assert "copy it to the machine that has 203.0.113.20" in done.stderr
    assert "open UDP 4331, and TCP 443 for nodes" in done.stderr
    shown = CliRunner().invoke(application("server"), ["server", "show", str(made), "--json"])
    assert json.loads(shown.stdout)["domain_key"] == show(tmp_path)["domain_key"]


def test_the_directory_of_an_ns_is_made_and_says_what_to_open(tmp_path: Path) -> None:
    init(tmp_path, "--offline")
    main, made = tmp_path / "servers", tmp_path / "ns2"
    further = '[[notifier]]\nname = "ns2"\naddresses = ["203.0.113.40"]\n'
    settings = main / "server.toml"
    settings.write_text(settings.read_text() + further)

    words = ["server", "notifier", str(main), "ns2", str(made)]
    done = CliRunner().invoke(application("server"), words)

    assert done.exit_code == 0, done.stderr
    assert "copy it to the machine that has 203.0.113.40" in done.stderr
    assert "open port 4434, TCP for nodes and UDP for the DC, and TCP 443" in done.stderr
    assert show(tmp_path)["ports"]["ns2"] == {"tcp": 443, "udp": 4434, "held": 4434}


@pytest.mark.parametrize(
    ("what", "told"), [("relay", "is no RS of ntm.example.org (rs)"), ("notifier", "NS")]
)
def test_a_server_that_there_is_not_is_named(tmp_path: Path, what: str, told: str) -> None:
    init(tmp_path, "--offline")
    main, made = str(tmp_path / "servers"), tmp_path / "made"

    done = CliRunner().invoke(application("server"), ["server", what, main, "s9", str(made)])

    assert done.exit_code == 1
    assert told in done.stderr
    assert f"[[{what}]]" in done.stderr
    assert not made.exists()


def test_a_zone_in_use_is_refused_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finds(monkeypatch, Taken(("ntm.example.org. MX 10 mail.example.org.",)))

    done = init(tmp_path)

    assert done.exit_code == 1
    assert "MX 10 mail.example.org." in done.stderr
    assert "--whole-zone" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_zone_in_use_can_be_taken_over_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finds(monkeypatch, Taken(("ntm.example.org. MX 10 mail.example.org.",)))

    done = init(tmp_path, "--whole-zone")

    assert done.exit_code == 0
    assert (tmp_path / "servers" / "zone").exists()
    assert "whole_zone = true" in (tmp_path / "servers" / "server.toml").read_text()


def test_offline_it_warns_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finds(monkeypatch, Unknown("no answer"))

    done = init(tmp_path)

    assert done.exit_code == 0
    assert_records(done.stdout.splitlines())
    assert "warning: could not look up ntm.example.org (no answer)" in done.stderr


def test_a_free_zone_is_taken_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finds(monkeypatch, Free())

    assert "could not look up" not in init(tmp_path).stderr


def test_ns_is_one_of_the_roles(tmp_path: Path) -> None:
    done = init(tmp_path, "--offline", "--roles", "as,dc,ns,rs")

    assert done.exit_code == 0
    assert show(tmp_path)["ports"]["ns"] == {"tcp": 443, "udp": 4434, "held": 4434}


@pytest.mark.parametrize(
    "wrong",
    [
        ("--domain", "org"),
        ("--address", "example.org"),
        ("--address", "0.0.0.0"),
        ("--roles", "as,xx"),
        ("--roles", ""),
    ],
)
def test_wrong_options_are_wrong_usage_and_make_nothing(
    wrong: tuple[str, ...], tmp_path: Path
) -> None:
    done = init(tmp_path, "--offline", *wrong)

    assert done.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_second_init_changes_nothing(tmp_path: Path) -> None:
    init(tmp_path, "--offline")
    before = show(tmp_path)

    done = init(tmp_path, "--offline")

    assert done.exit_code == 1
    assert "holds a server already" in done.stderr
    assert show(tmp_path) == before


def init(tmp_path: Path, *more: str) -> Result:
    words = ["server", "init", str(tmp_path / "servers"), "--domain", "ntm.example.org"]
    return CliRunner().invoke(application("server"), [*words, *ADDRESSES, *more])


def show(tmp_path: Path) -> dict[str, object]:
    words = ["server", "show", str(tmp_path / "servers"), "--json"]
    done = CliRunner().invoke(application("server"), words)
    assert done.exit_code == 0
    shown = json.loads(done.stdout)
    assert isinstance(shown, dict)
    return shown


def finds(monkeypatch: pytest.MonkeyPatch, finding: Finding) -> None:
    """The DNS says this; what it says is looked up for real in tests/servers/test_zone_check."""
    monkeypatch.setattr("ntmobile.cli.server.examine", lambda _domain, _server: finding)
