"""What `--keepalive` and `--push` make of an account."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ntmobile.agent.records import KeepAlive, SavedAccount, decode, encode
from ntmobile.cli.main import application
from ntmobile.cli.node_reach import chosen_keepalive, device_token, reached
from ntmobile.lab.push.web import Browser

ACCOUNT = SavedAccount(user="alice", name="phone", domain="ntm.example.org")
TOKEN = "fcm:0123456789abcdef"


def test_a_device_token_is_kept_and_asks_for_push() -> None:
    account = reached(ACCOUNT, chosen_keepalive(None, TOKEN), TOKEN)

    assert (account.keepalive, account.device_token) == (KeepAlive.PUSH, TOKEN)
    assert decode(SavedAccount, encode(account)) == account


def test_without_options_everything_stays() -> None:
    asleep = reached(ACCOUNT, KeepAlive.PUSH, TOKEN)

    assert reached(asleep, chosen_keepalive(None, None), None) == asleep


def test_udp_keeps_the_token_for_later() -> None:
    account = reached(reached(ACCOUNT, KeepAlive.PUSH, TOKEN), KeepAlive.UDP, None)

    assert reached(account, KeepAlive.PUSH, None).device_token == TOKEN


def test_push_without_a_token_says_what_is_missing() -> None:
    with pytest.raises(typer.BadParameter, match="--push fcm:TOKEN"):
        reached(ACCOUNT, KeepAlive.PUSH, None)


def test_a_subscription_is_read_from_its_file(tmp_path: Path) -> None:
    browser = Browser.at("https://push.example.net/1", bytes(16))
    (tmp_path / "subscription.json").write_bytes(browser.json())

    token = device_token(f"web:{tmp_path / 'subscription.json'}")

    assert token == str(browser.subscription)


def test_wake_without_an_agent_says_how_to_start_it(tmp_path: Path) -> None:
    done = CliRunner().invoke(application("wake"), ["wake", "--state", str(tmp_path)])

    assert done.exit_code == 3
    assert f"ntm --state {tmp_path} up" in done.stderr
