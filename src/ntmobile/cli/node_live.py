"""`ntm ping` and `ntm wait`: what goes on while one watches."""

from contextlib import closing
from typing import Annotated

import msgspec
import typer

from ntmobile.agent.client import Client
from ntmobile.agent.requests import Done, Item, Ping, Said, Wait
from ntmobile.agent.views import PingSummary, PongView, StatusView
from ntmobile.cli.node_output import (
    FAILED,
    IdentityOption,
    JsonOption,
    StateOption,
    ask,
    command,
    directory_of,
    milliseconds,
    note,
    show,
    show_json,
)

SHORTEST_INTERVAL_S = 0.01


@command
def ping(
    fqdn: Annotated[str, typer.Argument(help="The peer.")],
    count: Annotated[
        int | None, typer.Option("--count", "-c", min=1, help="Tries; without it until Ctrl-C.")
    ] = None,
    until_direct: Annotated[
        bool, typer.Option("--until-direct", help="End at the first answer over a direct path.")
    ] = False,
    interval: Annotated[
        float, typer.Option("--interval", "-i", min=SHORTEST_INTERVAL_S, help="Seconds.")
    ] = 1.0,
    identity: IdentityOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Ping a node through its tunnel, naming the path of each answer."""
    request = Ping(fqdn, count, until_direct, round(interval * 1000), identity=identity)
    with closing(Client(directory_of(state)).stream(request)) as answers:
        for answer in answers:
            match answer:
                case Said(text):
                    note(text)
                case Item(value):
                    _show_pong(msgspec.json.decode(value, type=PongView), json=json)
                case Done(value):
                    _end(msgspec.json.decode(value, type=PingSummary), until_direct, json=json)


def _show_pong(pong: PongView, *, json: bool) -> None:
    if json:
        show(msgspec.json.encode(pong).decode())
    elif pong.rtt_ms is None:
        show(f"no answer from {pong.fqdn}: seq={pong.sequence}")
    else:
        rtt = milliseconds(pong.rtt_ms)
        show(f"pong from {pong.fqdn}: seq={pong.sequence} {pong.kind} {pong.remote} time={rtt}")


def _end(summary: PingSummary, until_direct: bool, *, json: bool) -> None:
    if json:
        show(msgspec.json.encode(summary).decode())
    else:
        show(f"{summary.sent} sent, {summary.received} answered")
        if summary.received:
            low, median, high = summary.rtt_min_ms, summary.rtt_median_ms, summary.rtt_max_ms
            show(f"round trip min/median/max {low:.2f}/{median:.2f}/{high:.2f} ms")
    if not summary.received or (until_direct and not summary.direct):
        raise typer.Exit(FAILED)


@command
def wait(
    fqdn: Annotated[
        str | None, typer.Argument(help="Wait for the tunnel to this peer; without it, to be up.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=0.0, help="Seconds; without it, until it is up or cannot be."
        ),
    ] = None,
    identity: IdentityOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Wait until this node is up, or until the tunnel to a peer is."""
    view = ask(state, Wait(fqdn, timeout, identity=identity), StatusView)
    if json:
        show_json(view)
