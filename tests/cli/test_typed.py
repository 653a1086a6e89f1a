"""What is told to be run next is for the node and the servers that were named."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ntmobile.agent.failures import login_failure, name_failure
from ntmobile.agent.records import SavedAccount
from ntmobile.cli import typed
from ntmobile.cli.main import application
from ntmobile.cli.typed import completed
from ntmobile.proto.node.events import LoginFailed
from ntmobile.wire.login import LoginRefused
from ntmobile.wire.registration import Reason

ACCOUNT = SavedAccount(user="alice", name="laptop", domain="ntm.example.org")
STATE = {"--state": "/srv/my node"}


@pytest.mark.parametrize(
    ("remedy", "told"),
    [
        ("start it: ntm up", "start it: ntm --state '/srv/my node' up"),
        ("ntm status; try again", "ntm --state '/srv/my node' status; try again"),
        (
            "as root: sudo ntm set operator=$USER",
            "as root: sudo ntm --state '/srv/my node' set operator=$USER",
        ),
        ("start it there: ntm up", "start it there: ntm up"),
        ("on that node: ntm up --push", "on that node: ntm up --push"),
        ("ntm server show DIR", "ntm server show DIR"),
    ],
)
def test_a_command_for_this_node_names_its_state_and_one_for_another_does_not(
    remedy: str, told: str
) -> None:
    assert completed(remedy, STATE) == told
    assert completed(remedy, {}) == remedy


def test_a_command_for_the_domain_names_its_directory_once() -> None:
    given = {"--server": "srv"}

    assert completed("ntm admin user list", given) == "ntm admin --server srv user list"
    assert completed("run: ntm admin --server DIR federation add DOMAIN", given) == (
        "run: ntm admin --server DIR federation add DOMAIN"
    )


def test_a_login_that_is_tried_again_trusts_the_same_server() -> None:
    given = {"--as": "https://192.0.2.1", "--ca": "ca.pem", "--name": "laptop"}
    wrong = login_failure(ACCOUNT, LoginFailed(LoginRefused.CREDENTIALS, "", None))

    told = completed(wrong.remedy, given)

    assert told == (
        "ntm up alice@ntm.example.org --as https://192.0.2.1 --ca ca.pem --name laptop, "
        "with the right password"
    )


def test_the_first_word_of_every_command_of_a_node_is_known() -> None:
    app = application("status")
    names = {
        each.name or each.callback.__name__ for each in app.registered_commands if each.callback
    }
    groups = {each.name for each in app.registered_groups}

    assert {name.rstrip("_") for name in names} | groups == set(typed.NODE_WORDS.split("|")) | {
        "version"
    }


@pytest.mark.parametrize("words", ["--state {} status", "status --state {}"])
def test_who_names_a_state_is_told_to_start_that_one(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NTM_STATE", "/nonexistent")
    command = words.format(tmp_path).split()

    done = CliRunner().invoke(application("status"), command)

    assert done.exit_code == 3
    assert f"next: start it: ntm --state {tmp_path} up" in done.stderr


def test_who_has_the_state_in_the_environment_need_not_type_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative twin."""
    monkeypatch.setenv("NTM_STATE", str(tmp_path))

    done = CliRunner().invoke(application("status"), ["status"])

    assert "next: start it: ntm up\n" in done.stderr


def test_remedies_about_other_machines_say_so_in_the_words_that_are_looked_for() -> None:
    """`ntm up` that is for the peer never gets this node's directory."""
    remedies = {reason: name_failure("pc.bob.ntm.example.org", reason).remedy for reason in Reason}

    for_here = {
        reason
        for reason, remedy in remedies.items()
        if re.search("--state .* up", completed(remedy, STATE))
    }

    assert for_here == {Reason.KEY_EXPIRED}
