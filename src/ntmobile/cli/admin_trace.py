"""`ntm admin trace`: what the servers of this machine saw of a login or of a tunnel's set-up."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ntmobile.cli.admin_common import servers_of
from ntmobile.cli.node_output import JsonOption, command, show, show_json
from ntmobile.cli.trace import WithOption, chart, read_witnesses
from ntmobile.errors import Remedy
from ntmobile.proto.sequence import is_negotiation, negotiation, of_negotiation, standing
from ntmobile.proto.testimony import Seen, Witness
from ntmobile.servers.admin_socket import witnesses

Node = Annotated[
    str,
    typer.Argument(
        metavar="FQDN",
        help="A node; or the number of a negotiation, which is all that an RS knows.",
    ),
]
Peer = Annotated[
    str | None,
    typer.Argument(
        metavar="[PEER]", help="With it the tunnel of the two, else login and registration."
    ),
]


@command
def trace(
    context: typer.Context,
    fqdn: Node,
    peer: Peer = None,
    others: WithOption = None,
    json: JsonOption = False,
) -> None:
    """Draw how a node logged in and registered, or how two nodes' newest tunnel was built.

    Servers see their own messages only, since they started. What nodes and other domains' servers
    saw comes in by --with.
    """
    told = _told(servers_of(context))
    chosen = _chosen(told, fqdn, peer)
    if json:
        show_json(chosen)
        return
    for line in chart([chosen, *read_witnesses(others or ())]):
        show(line)


def _told(directory: Path) -> Witness:
    """What all running servers of the directory saw, as one."""
    all_of_them = [msgspec.json.decode(each, type=Witness) for each in witnesses(directory)]
    if not all_of_them:
        raise Remedy("no server of this directory is running here", remedy=f"ntm serve {directory}")
    steps = sorted((step for one in all_of_them for step in one.steps), key=lambda step: step.at)
    return Witness(tuple(steps), domain=all_of_them[0].domain)


def _chosen(told: Witness, fqdn: str, peer: str | None) -> Witness:
    nodes = [_full(name, told.domain) for name in (fqdn, peer) if name]
    chosen = _sequence(told.steps, nodes)
    if not chosen:
        what = (
            f"tunnel of {' and '.join(nodes)}" if peer else f"login or registration of {nodes[0]}"
        )
        raise Remedy(
            f"these servers saw no {what} since they started", remedy="ntm admin node list"
        )
    return msgspec.structs.replace(told, steps=tuple(chosen))


def _sequence(steps: tuple[Seen, ...], nodes: list[str]) -> list[Seen]:
    if is_negotiation(nodes[0]):
        return of_negotiation(steps, nodes[0])
    return negotiation(steps, *nodes) if len(nodes) > 1 else standing(steps, nodes[0])


def _full(name: str, domain: str) -> str:
    """The FQDN of a name; `laptop.alice` is a node of this domain."""
    name = name.lower().rstrip(".")
    return name if name.count(".") != 1 else f"{name}.{domain}"
