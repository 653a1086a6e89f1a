"""What the commands of `ntm admin` share: the domain they work on, and how they talk."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import SystemRandom
from typing import TypeVar

import typer

from ntmobile.cli.node_output import note, show_json, show_table
from ntmobile.errors import Remedy
from ntmobile.runtime.clock import Clock
from ntmobile.servers.admin import Admin, opened
from ntmobile.servers.admin_socket import Told

T = TypeVar("T")
Row = dict[str, object]


def servers_of(context: typer.Context) -> Path:
    """Return the directory that `--server` or NTM_SERVER names; wrong usage where neither does."""
    named: Path | None = context.obj
    if named is None:
        raise typer.BadParameter(
            "it is missing: ntm admin --server DIR ..., or set NTM_SERVER", param_hint="--server"
        )
    return named


def run(context: typer.Context, verb: Callable[[Admin], Awaitable[T]]) -> T:
    """Do something to the domain of `--server`."""
    directory = servers_of(context)

    async def act() -> T:
        async with opened(directory, SystemRandom()) as domain:
            return await verb(domain)

    return asyncio.run(act())


def wall() -> float:
    """Seconds since 1970."""
    return Clock().wall()


def read_file(file: Path) -> bytes:
    """Read a file that the operator named; raises Remedy."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise Remedy(f"{file}: {error.strerror}", remedy="name a file that can be read") from None


def done(text: str, told: Told, view: Row, *, json: bool) -> None:
    """Say what was done, and whether running servers know."""
    if json:
        show_json({**view, "servers_told": told.servers})
    else:
        running = "the running server knows" if told.servers else "no server is running here now"
        note(f"{text}; {running}")
    for failure in told.failures:
        note(f"ntm: warning: a running server kept its old settings: {failure}")


def show_rows(rows: Sequence[Row], *, json: bool, none: str) -> None:
    """Print records as JSON, or as a table; where there are none a person is told so."""
    if json:
        show_json(list(rows))
    elif rows:
        headers = [name.removesuffix("_at").replace("_", " ") for name in rows[0]]
        show_table(headers, [[_cell(name, value) for name, value in row.items()] for row in rows])
    else:
        note(none)


def _cell(name: str, value: object) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, float) and name.endswith("at"):
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%SZ}"
    return str(value)
