import json
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from ntmobile.cli.admin import APP
from ntmobile.cli.main import application
from ntmobile.keys.identity import public_of
from ntmobile.keys.node_certificates import Anchor, authority_of, judge, read_device_credential

RULE = '[[rule]]\naction = "deny"\nfrom = ["*"]\nto = ["*.bob.ntm.example.org"]\n'


@pytest.fixture
def servers(tmp_path: Path) -> Path:
    path = tmp_path / "servers"
    words = ["server", "init", str(path), "--domain", "ntm.example.org", "--offline"]
    made = CliRunner().invoke(application("server"), [*words, "--address", "127.0.0.9"])
    assert made.exit_code == 0
    return path


def test_users_are_added_listed_and_removed(servers: Path) -> None:
    assert admin(servers, "user add alice --password-stdin", "correct horse\n").exit_code == 0
    assert admin(servers, "user add ci --no-password").exit_code == 0

    users = shown(servers, "user list --json")
    assert [(each["name"], each["password"]) for each in users] == [("alice", True), ("ci", False)]

    admin(servers, "user remove ci")
    assert [each["name"] for each in shown(servers, "user list --json")] == ["alice"]


def test_a_password_never_shows(servers: Path) -> None:
    done = admin(servers, "user add alice --password-stdin", "correct horse\n")
    listed = admin(servers, "user list --json")

    assert "correct horse" not in done.output + listed.output
    assert "argon2" not in listed.output


def test_a_short_password_changes_nothing(servers: Path) -> None:
    done = admin(servers, "user add alice --password-stdin", "short\n")

    assert done.exit_code == 1
    assert "nothing was changed" in done.stderr
    assert shown(servers, "user list --json") == []


def test_without_a_terminal_it_says_how_to_give_the_password(servers: Path) -> None:
    done = admin(servers, "user add alice")

    assert done.exit_code == 1
    assert "next: give --password-stdin" in done.stderr


def test_a_user_that_exists_is_not_added_again(servers: Path) -> None:
    admin(servers, "user add alice --no-password")

    done = admin(servers, "user add alice --no-password")

    assert done.exit_code == 1
    assert (
        f"next: to change the password: ntm admin --server {servers} user passwd alice"
        in done.stderr
    )


def test_a_password_can_be_changed(servers: Path) -> None:
    admin(servers, "user add alice --no-password")

    done = admin(servers, "user passwd alice --password-stdin", "correct horse\n")

    assert done.exit_code == 0
    assert shown(servers, "user list --json")[0]["password"] is True


def test_every_command_can_answer_in_json(servers: Path) -> None:
    def leaves(command: Any) -> Iterator[Any]:  # noqa: ANN401
        below = getattr(command, "commands", None)
        yield from [command] if below is None else chain(*map(leaves, below.values()))

    found = list(leaves(typer.main.get_command(APP)))

    lacking = [c.name for c in found if not any(p.name == "json" for p in c.params)]
    assert len(found) > 15
    assert lacking == []
    admin(servers, "user add alice --no-password")
    changed = shown(servers, "user passwd alice --password-stdin --json", "correct horse\n")
    assert changed == {"name": "alice"}


def test_a_key_is_the_only_thing_on_stdout(servers: Path) -> None:
    admin(servers, "user add alice --no-password")

    done = admin(servers, "key create alice --reusable --ephemeral --tag ci --tag lab")

    assert done.stdout.startswith("ntmkey-")
    assert len(done.stdout.split()) == 1
    (key,) = shown(servers, "key list --json")
    assert (key["user"], key["tags"], key["good"]) == ("alice", ["ci", "lab"], True)
    assert done.stdout.strip() not in admin(servers, "key list --json").stdout


def test_nodes_that_do_not_exist_are_not_revoked(servers: Path) -> None:
    done = admin(servers, "node revoke laptop.alice")

    assert done.exit_code == 1
    assert "there is no node laptop.alice.ntm.example.org" in done.stderr
    assert shown(servers, "node list --json") == []


def test_foreign_domains_are_listed_and_removed(servers: Path) -> None:
    pin = "SHA256:" + "ab" * 32
    assert admin(servers, f"federation add ntm.example.net --key {pin}").exit_code == 0
    ca = servers / "ca.pem"
    assert admin(servers, f"federation add ntm.example.com --ca {ca}").exit_code == 0

    listed = shown(servers, "federation list --json")
    assert listed["mode"] == "listed"
    assert [(each["domain"], each["key_pin"], each["ca"]) for each in listed["domains"]] == [
        ("ntm.example.com", None, True),
        ("ntm.example.net", pin, False),
    ]

    admin(servers, "federation remove ntm.example.com")
    assert len(shown(servers, "federation list --json")["domains"]) == 1


@pytest.mark.parametrize("mode", ["open", "closed", "listed"])
def test_the_federation_mode_is_set(mode: str, servers: Path) -> None:
    assert admin(servers, f"federation mode {mode}").exit_code == 0

    assert shown(servers, "federation list --json")["mode"] == mode


def test_an_unknown_mode_is_wrong_usage(servers: Path) -> None:
    assert admin(servers, "federation mode all").exit_code == 2


def test_a_policy_is_set_shown_and_tested(servers: Path, tmp_path: Path) -> None:
    file = tmp_path / "new.toml"
    file.write_text(RULE)

    assert admin(servers, f"policy set {file}").exit_code == 0

    assert admin(servers, "policy show").stdout == RULE
    assert shown(servers, "policy show --json")["rules"] == [
        {"action": "deny", "from": ["*"], "to": ["*.bob.ntm.example.org"]}
    ]
    assert admin(servers, "policy test laptop.alice pc.bob").stdout == "refused: not-allowed\n"
    assert shown(servers, "policy test pc.bob laptop.alice --json")["allowed"] is True


def test_a_policy_is_not_asked_about_what_is_no_node(servers: Path) -> None:
    for names in ("foo pc.bob", "pc.bob foo.bar.baz", "a.b.c.ntm.example.org pc.bob", "a. pc.bob"):
        done = admin(servers, f"policy test {names}")

        assert done.exit_code == 1, names
        assert done.stdout == ""
        assert "is no name of a node" in done.stderr


def test_a_policy_that_is_asked_about_a_node_that_is_not_there_says_so(servers: Path) -> None:
    done = admin(servers, "policy test pc.bob tv.eve.ntm.example.net")

    assert done.stdout == "refused: foreign-domain-not-listed\n"
    assert "there is no node pc.bob.ntm.example.org now" in done.stderr
    assert "tv.eve" not in done.stderr
    asked = shown(servers, "policy test pc.bob laptop.alice --json")
    assert asked["missing"] == ["pc.bob.ntm.example.org", "laptop.alice.ntm.example.org"]


@pytest.mark.parametrize("words", ["user list", "node list", "key list", "audit"])
def test_a_list_of_nothing_says_so(words: str, servers: Path) -> None:
    done = admin(servers, words)

    assert (done.exit_code, done.stdout) == (0, "")
    assert len(done.stderr.split()) > 2
    assert shown(servers, f"{words} --json") == []


def test_what_to_run_next_is_for_the_same_directory(
    servers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = admin(servers, "node revoke laptop.alice")
    monkeypatch.setenv("NTM_SERVER", str(servers))
    unnamed = CliRunner().invoke(application("admin"), ["admin", "node", "revoke", "laptop.alice"])

    assert f"next: ntm admin --server {servers} node list" in named.stderr
    assert "next: ntm admin node list" in unnamed.stderr


def test_a_policy_from_standard_input_that_is_wrong_keeps_the_old(servers: Path) -> None:
    before = admin(servers, "policy show").stdout

    done = admin(servers, "policy set -", "[[rule]]\naction = 'maybe'\n")

    assert done.exit_code == 1
    assert "standard input, line 2: rule[1].action" in done.stderr
    assert 'allowed: "allow", "deny"' in done.stderr
    assert admin(servers, "policy show").stdout == before


def test_an_empty_audit_is_an_empty_list(servers: Path) -> None:
    assert shown(servers, "audit --json") == []


def test_a_certificate_is_written_with_its_key_and_what_to_run_with_it(
    servers: Path, tmp_path: Path
) -> None:
    admin(servers, "user add alice --no-password")

    done = admin(servers, f"certificate issue alice --name laptop --out {tmp_path / 'new'}")

    assert done.exit_code == 0
    assert "ntm up alice@ntm.example.org --name laptop --certificate cert.pem" in done.stderr
    certificate, key = ((tmp_path / "new" / name) for name in ("cert.pem", "key.pem"))
    der, secret = read_device_credential(certificate.read_bytes(), key.read_bytes())
    anchor = Anchor(authority_of((servers / "ca.pem").read_bytes()), "ntm.example.org")
    now_s = certificate.stat().st_mtime
    assert judge(der, "laptop.alice.ntm.example.org", public_of(secret), (anchor,), now_s) is None
    assert key.stat().st_mode & 0o777 == 0o600


def test_a_certificate_is_written_over_no_other_file(servers: Path, tmp_path: Path) -> None:
    admin(servers, "user add alice --no-password")
    (tmp_path / "key.pem").write_text("precious")

    done = admin(servers, f"certificate issue alice --name laptop --out {tmp_path}")

    assert done.exit_code == 1
    assert "nothing was written" in done.stderr
    assert (tmp_path / "key.pem").read_text() == "precious"
    assert not (tmp_path / "cert.pem").exists()


def test_nobody_who_is_no_user_gets_a_certificate(servers: Path, tmp_path: Path) -> None:
    done = admin(servers, f"certificate issue mallory --name laptop --out {tmp_path / 'new'}")

    assert done.exit_code == 1
    assert "there is no user mallory" in done.stderr
    assert not (tmp_path / "new").exists()


def test_without_a_running_server_it_says_so(servers: Path) -> None:
    assert "no server is running here now" in admin(servers, "federation mode open").stderr


def test_a_directory_that_is_none_is_named(tmp_path: Path) -> None:
    done = admin(tmp_path, "user list")

    assert done.exit_code == 1
    assert "is not the directory of a server" in done.stderr


def test_a_vanished_database_is_an_error_without_a_trace(servers: Path) -> None:
    (servers / "ntm.db").unlink()

    done = admin(servers, "user list")

    assert done.exit_code == 1
    assert "the store is unavailable" in done.stderr
    assert "next: put it back, or a backup in its place" in done.stderr
    assert "Traceback" not in done.output


def test_an_emptied_database_is_not_taken_for_a_new_one(servers: Path) -> None:
    admin(servers, "user add alice --no-password")
    os.truncate(servers / "ntm.db", 0)

    done = admin(servers, "user list")

    assert done.exit_code == 1
    assert f"{servers / 'ntm.db'} is empty" in done.stderr
    assert "next: put it back, or a backup in its place" in done.stderr
    assert (servers / "ntm.db").stat().st_size == 0


@pytest.mark.parametrize("words", ["user list", "user add bob", "trace laptop.alice", "audit"])
def test_without_a_directory_it_is_asked_for_before_anything_else(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NTM_SERVER", raising=False)

    done = CliRunner().invoke(application("admin"), ["admin", *words.split()])

    assert done.exit_code == 2
    assert "--server" in done.stderr


def admin(servers: Path, words: str, stdin: str = "") -> Result:
    command = ["admin", "--server", str(servers), *words.split()]
    return CliRunner().invoke(application("admin"), command, input=stdin)


def shown(servers: Path, words: str, stdin: str = "") -> Any:  # noqa: ANN401
    done = admin(servers, words, stdin)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)
