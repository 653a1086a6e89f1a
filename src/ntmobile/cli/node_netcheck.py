"""`ntm netcheck`: what this network lets through, and how."""

from collections.abc import Iterator
from typing import Annotated

import typer

from ntmobile.agent.requests import AskNetcheck
from ntmobile.agent.views import FamilyView, NetcheckView, PortMappingView
from ntmobile.cli.node_output import (
    FAILED,
    IdentityOption,
    JsonOption,
    StateOption,
    ask,
    command,
    lifetime_text,
    milliseconds,
    show,
    show_json,
    show_table,
)

ONE_ADDRESS = "the servers share one address, or some did not answer"


@command
def netcheck(
    lifetime: Annotated[
        bool,
        typer.Option("--lifetime", help="Also measure how long idle mappings live (5 minutes)."),
    ] = False,
    identity: IdentityOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Examine this network: UDP, addresses, how its NAT or firewall behaves, relays."""
    view = ask(state, AskNetcheck(lifetime, identity=identity), NetcheckView)
    if json:
        show_json(view)
    else:
        for line in lines(view):
            show(line)
        show_table(("SERVER", "NAME", "ADDRESS", "ROUND TRIP"), list(_servers(view)))
    if not view.udp:
        raise typer.Exit(FAILED)


def lines(view: NetcheckView) -> Iterator[str]:
    """Say what was found, for a person."""
    yield f"UDP   {'passes' if view.udp else 'is blocked: no server answered'}"
    yield from _family("IPv4", view.ipv4)
    yield from _family("IPv6", view.ipv6)
    yield f"port mapping  {_port_mapping(view.port_mapping)}"
    yield ""


def _family(name: str, view: FamilyView | None) -> Iterator[str]:
    if view is None:
        yield f"{name}  not here, or not at the servers"
        return
    if view.mapped is None:
        yield f"{name}  {', '.join(view.local)}: no answer over UDP"
        return
    how = "through a NAT" if view.translated else "no NAT"
    yield f"{name}  {', '.join(view.local)}, seen as {view.mapped}: {how}"
    if view.translated:
        yield f"      mapping    {_behaviour(view.mapping, view.mapping_possible)}"
    yield f"      filtering  {_behaviour(view.filtering, view.filtering_possible)}"
    if view.ports is not None:
        yield f"      ports      {view.ports}"
    if view.translated:
        yield f"      hairpin    {_hairpin(view.hairpin)}"
    if view.lifetime is not None:
        yield f"      lifetime   {lifetime_text(view.lifetime.alive_s, view.lifetime.dead_s)}"


def _behaviour(found: str | None, possible: tuple[str, ...]) -> str:
    if found is not None:
        return found
    if len(possible) == 3:
        return f"unknown ({ONE_ADDRESS})"
    return f"{' or '.join(possible)} ({ONE_ADDRESS})"


def _hairpin(hairpin: bool | None) -> str:
    return "cannot be told" if hairpin is None else "yes" if hairpin else "no"


def _port_mapping(view: PortMappingView) -> str:
    if view.protocol is None:
        return f"none: {view.reason}"
    doubt = "; the router is behind another NAT" if view.behind_another_nat else ""
    return f"{view.protocol}: {view.external} leads here{doubt}"


def _servers(view: NetcheckView) -> Iterator[tuple[str, ...]]:
    for server in view.servers:
        rtt = "no answer" if server.rtt_ms is None else milliseconds(server.rtt_ms)
        yield server.role, server.name, server.address, rtt
