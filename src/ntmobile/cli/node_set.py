"""`ntm set`: show and change what a running node does."""

from pathlib import Path
from typing import Annotated

import typer

from ntmobile.agent.requests import Set
from ntmobile.agent.settings import SETTINGS
from ntmobile.agent.views import ChoicesView
from ntmobile.cli.node_output import (
    IdentityOption,
    JsonOption,
    StateOption,
    ask,
    command,
    note,
    show,
    show_json,
)
from ntmobile.errors import Remedy


@command
def set_(
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE]...",
            help="; ".join(SETTINGS.values()) + ".",
        ),
    ] = None,
    identity: IdentityOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Change settings; without any, show them."""
    view = ask(
        state, Set(dict(_pair(change) for change in changes or []), identity=identity), ChoicesView
    )
    if json:
        show_json(view)
        return
    for name, value in view.choices.items():
        show(f"{name}={value}")
    for text in view.notes:
        note(f"ntm: {text}")


def _pair(change: str) -> tuple[str, str]:
    name, equals, value = change.partition("=")
    if not equals:
        raise typer.BadParameter(f"{change!r} is not NAME=VALUE")
    if name == "trusted-ca" and value:
        # The agent keeps the text, so that the file may vanish.
        return name, _text(Path(value))
    return name, value


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise Remedy(f"cannot read {file}: {error}", remedy="name a file in PEM") from None
