"""What the contract names and this version lacks: refused with a word, never accepted silently."""

from typing import Annotated

import typer

from ntmobile.cli.node_output import command
from ntmobile.errors import Remedy


def not_built(what: str, instead: str) -> Remedy:
    """Say that a part is missing and what works today."""
    return Remedy(f"{what} is not built yet in this version", remedy=instead)


@command
def proxy(
    socks: Annotated[str, typer.Option("--socks", help="ADDRESS:PORT")] = "127.0.0.1:1055",
    http: Annotated[str, typer.Option("--http", help="ADDRESS:PORT")] = "127.0.0.1:1056",
) -> None:
    """(not built yet) Reach NTMobile nodes through a SOCKS or HTTP proxy, without root."""
    raise not_built("the proxy model", "ntm up --model system, as root")


@command
def expose(port: Annotated[int, typer.Argument(min=1, max=65535)]) -> None:
    """(not built yet) Offer a local port to NTMobile nodes, without root."""
    raise not_built("expose", "ntm up --model system, as root: every port is reachable")
