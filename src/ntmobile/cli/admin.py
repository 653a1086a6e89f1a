"""`ntm admin`: what an operator does to a domain; prints only, `servers.admin` does it."""

from pathlib import Path
from typing import Annotated

import typer

from ntmobile.cli.admin_domain import FEDERATION, POLICY, audit
from ntmobile.cli.admin_trace import trace
from ntmobile.cli.admin_users import CERTIFICATE, KEY, NODE, USER

APP = typer.Typer(help="Users, nodes, keys, foreign domains and policy.", no_args_is_help=True)
APP.add_typer(USER, name="user")
APP.add_typer(NODE, name="node")
APP.add_typer(KEY, name="key")
APP.add_typer(CERTIFICATE, name="certificate")
APP.add_typer(FEDERATION, name="federation")
APP.add_typer(POLICY, name="policy")
APP.command("audit")(audit)
APP.command("trace")(trace)


def register(app: typer.Typer) -> None:
    """Add `ntm admin` to the program."""
    app.add_typer(APP, name="admin")


@APP.callback()
def admin(
    context: typer.Context,
    server: Annotated[
        Path | None,
        # Not a required one: it would be asked for before a command below shows its help.
        typer.Option(
            "--server", envvar="NTM_SERVER", metavar="DIR", help="The servers' directory."
        ),
    ] = None,
) -> None:
    """Run a domain: users, nodes, keys, foreign domains and policy."""
    context.obj = server
