"""`ntm`: finds the command's module, and imports only that one."""

import importlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final

import typer

from ntmobile.runtime.garbage import modules_only

SERVER: Final = {"server": "server", "admin": "admin", "serve": "serve"}
NODE: Final = "node"
MODULES: Final = (*SERVER.values(), NODE)
"""Each module of this package has `register(app)`, which adds its commands."""


def application(command: str | None) -> typer.Typer:
    """Return the program with the command's module, or with all when it names none."""
    app = typer.Typer(
        name="ntm",
        help="A permanent name and permanent addresses for every machine.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for module in _modules(command):
        importlib.import_module(module).register(app)
    _keep_group(app)
    return app


def main() -> None:
    """Run the command of the process's arguments; exits."""
    arguments = sys.argv[1:]
    with modules_only():
        app = application(arguments[0] if arguments else None)
    app(prog_name="ntm")


def _modules(command: str | None) -> list[str]:
    wanted = [SERVER[command]] if command in SERVER else MODULES
    if command is not None and not command.startswith("-") and command not in SERVER:
        wanted = (NODE,)
    names = [f"{__package__}.{module}" for module in wanted]
    return [name for name in names if find_spec(name) is not None]


def _keep_group(app: typer.Typer) -> None:
    # With a single command typer would leave its name out of the command line.
    @app.callback()
    def ntm(
        state: Annotated[
            Path | None,
            typer.Option("--state", help="Which node: its state directory.", readable=False),
        ] = None,
        identity: Annotated[
            str | None,
            typer.Option(
                "--identity", metavar="USER@DOMAIN", help="Which of its identities, of several."
            ),
        ] = None,
    ) -> None:
        """NTMobile: a permanent name and permanent addresses for every machine."""
        if state is not None:
            os.environ["NTM_STATE"] = str(state)
        if identity is not None:
            os.environ["NTM_IDENTITY"] = identity
