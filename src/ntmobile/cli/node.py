"""The commands of a node; cli.main registers them beside those of the servers."""

import typer

from ntmobile.cli import (
    node_live,
    node_netcheck,
    node_proxy,
    node_reach,
    node_service,
    node_set,
    node_show,
    node_up,
)

_DNS = typer.Typer(help="How names are resolved.", no_args_is_help=True)
_DNS.command("status")(node_show.dns_status)


def register(app: typer.Typer) -> None:
    """Add every node command to the program."""
    for function in (
        node_up.up,
        node_up.down,
        node_up.logout,
        node_show.status,
        node_live.ping,
        node_live.wait,
        node_show.peers,
        node_show.keys,
        node_show.trace,
        node_show.handovers,
        node_show.whois,
        node_show.bugreport,
        node_show.version,
        node_netcheck.netcheck,
        node_reach.wake,
        node_proxy.proxy,
        node_proxy.expose,
    ):
        app.command()(function)
    app.command("set")(node_set.set_)
    app.add_typer(_DNS, name="dns")
    node_service.register(app)
