"""`ntm set`: show and change what a running node does."""

from typing import Annotated

import typer

from ntmobile.agent.requests import Set
from ntmobile.agent.views import ChoicesView
from ntmobile.cli.node_output import JsonOption, StateOption, ask, command, note, show, show_json


@command
def set_(
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE]...",
            help="operator=USER lets that user run ntm without root (operator= ends it); "
            "accept-dns=yes|no; map-port=yes|no; relay-only=yes|no.",
        ),
    ] = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Change settings; without any, show them."""
    view = ask(state, Set(dict(_pair(change) for change in changes or [])), ChoicesView)
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
    return name, value
