"""`ntm up --keepalive --push`, and `ntm wake`: how the DC reaches this node."""

from pathlib import Path

import msgspec
import typer

from ntmobile.agent.records import KeepAlive, SavedAccount
from ntmobile.agent.requests import Wake
from ntmobile.agent.views import StatusView
from ntmobile.cli.node_output import (
    IdentityOption,
    JsonOption,
    StateOption,
    ask,
    command,
    show,
    show_json,
)
from ntmobile.errors import DecodeError
from ntmobile.wire.device_token import parse_device_token, parse_subscription

MAX_FILE = 64 * 1024


def chosen_keepalive(keepalive: str | None, push: str | None) -> KeepAlive | None:
    """Return what the options ask for; None: nothing. A device token alone asks for push."""
    if keepalive is None:
        return None if push is None else KeepAlive.PUSH
    if keepalive not in set(KeepAlive):
        raise typer.BadParameter(f"--keepalive is udp, tcp, push or auto, not {keepalive!r}")
    return KeepAlive(keepalive)


def reached(account: SavedAccount, keepalive: KeepAlive | None, push: str | None) -> SavedAccount:
    """Return the account with what the options ask for; what they do not say stays."""
    token = account.device_token if push is None else device_token(push)
    choice = keepalive or account.keepalive
    if choice is KeepAlive.PUSH and token is None:
        raise typer.BadParameter(
            "--keepalive push needs the device token that the app got from its push service: "
            "--push fcm:TOKEN, --push apns:TOKEN or --push web:FILE"
        )
    return msgspec.structs.replace(account, keepalive=choice, device_token=token)


def reached_as(account: SavedAccount, other: SavedAccount) -> SavedAccount:
    """Return the account, to be reached as the other one is."""
    return msgspec.structs.replace(
        account, keepalive=other.keepalive, device_token=other.device_token
    )


def device_token(text: str) -> str:
    """Return a device token as it is registered; `web:FILE` names a subscription's JSON."""
    kind, _, value = text.partition(":")
    try:
        if kind == "web":
            return str(parse_subscription(_content(Path(value))))
        return str(parse_device_token(text))
    except DecodeError as error:
        raise typer.BadParameter(f"--push: {error}") from None
    except OSError as error:
        raise typer.BadParameter(f"--push {text}: {error.strerror}") from None


def _content(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(MAX_FILE)


@command
def wake(
    identity: IdentityOption = None, state: StateOption = None, json: JsonOption = False
) -> None:
    """What an app calls when its push message arrives: contact the DC at once.

    Returns when the DC has answered; whoever wants to reach this node does so from then on.
    """
    view = ask(state, Wake(identity=identity), StatusView)
    if json:
        show_json(view)
    else:
        show(f"{view.fqdn} is awake")
