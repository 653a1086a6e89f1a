"""`ntm proxy` and `ntm expose`: nodes for browsers and services, without root."""

from typing import Annotated

import typer

from ntmobile.agent.records import parse_endpoint
from ntmobile.agent.requests import Expose, Up
from ntmobile.agent.state import saved_account
from ntmobile.agent.views import StatusView
from ntmobile.cli.node_output import (
    IdentityOption,
    StateOption,
    ask,
    command,
    directory_of,
    note,
    show,
)
from ntmobile.errors import Remedy

SOCKS, HTTP = "127.0.0.1:1055", "127.0.0.1:1056"


@command
def proxy(
    socks: Annotated[str, typer.Option("--socks", help="ADDRESS:PORT")] = SOCKS,
    http: Annotated[str, typer.Option("--http", help="ADDRESS:PORT")] = HTTP,
    state: StateOption = None,
) -> None:
    """Reach nodes through a SOCKS or HTTP proxy, without root; stays until it is interrupted."""
    # Imported late: no other command needs the agent's half of the program.
    from ntmobile.agent.process import run_in_foreground
    from ntmobile.sockets.proxy.model import ProxyModel

    places = _place("--socks", socks), _place("--http", http)
    directory = directory_of(state)
    account = saved_account(directory) if directory.exists() else None
    if account is None:
        raise Remedy(
            "this node has no account yet", remedy="ntm up USER@DOMAIN --name NAME --model proxy"
        )

    def report(view: StatusView) -> None:
        show(f"{view.fqdn} is {view.state}")
        show(f"  SOCKS 5  {socks}    curl --proxy socks5h://{socks} http://NAME/")
        show(f"  HTTP     {http}    curl --proxy http://{http} http://NAME/")

    run_in_foreground(
        directory,
        Up(account),
        said=note,
        up=report,
        make_model=lambda held: ProxyModel(held, socks=places[0], http=places[1]),
    )


@command
def expose(
    port: Annotated[int, typer.Argument(min=1, max=65535)],
    off: Annotated[bool, typer.Option("--off", help="No longer.")] = False,
    identity: IdentityOption = None,
    state: StateOption = None,
) -> None:
    """Offer a local TCP port to peers, without root (of a node of the proxy model)."""
    ask(state, Expose(port, offered=not off, identity=identity), type(None))
    show(f"port {port} of localhost is {'no longer ' if off else ''}offered to peers")


def _place(option: str, text: str) -> tuple[str, int]:
    try:
        place = parse_endpoint(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not ADDRESS:PORT", param_hint=option) from None
    return str(place.host), place.port
