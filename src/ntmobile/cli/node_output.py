"""How the node commands talk: results to stdout, all else to stderr, plain off a terminal."""

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import msgspec
import typer

from ntmobile.agent.client import AgentNotRunning, Client
from ntmobile.agent.places import state_directory
from ntmobile.agent.requests import AnyRequest
from ntmobile.cli.typed import completed, typed
from ntmobile.errors import NTMobileError, Remedy

FAILED = 1
USAGE = 2
NOT_RUNNING = 3
INTERRUPTED = 130

StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state",
        envvar="NTM_STATE",
        help="State directory of the instance.",
        show_default=False,
        # An operator enters it and may not list it.
        readable=False,
    ),
]
IdentityOption = Annotated[
    str | None,
    typer.Option(
        "--identity",
        metavar="USER@DOMAIN",
        envvar="NTM_IDENTITY",
        help="Which one, where the agent has several identities.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

P = ParamSpec("P")
V = TypeVar("V")


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Turn every expected failure into a message on stderr and an exit code."""
    signature = inspect.signature(function)
    has_context = "context" in signature.parameters

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        given = typed(kwargs["context"] if has_context else kwargs.pop("context"))
        try:
            function(*args, **kwargs)
        except AgentNotRunning as error:
            fail(error, NOT_RUNNING, given)
        except NTMobileError as error:
            fail(error, FAILED, given)
        except (KeyboardInterrupt, EOFError):
            # Ctrl-C; Ctrl-D where a password was asked.
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of our output went away; nobody is left to tell.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(FAILED) from None

    if not has_context:
        _take_context(run, signature)
    return run


def _take_context(run: Callable[..., None], signature: inspect.Signature) -> None:
    """Have typer tell a command its context: by that it knows what was typed."""
    kind = inspect.Parameter.KEYWORD_ONLY
    context = inspect.Parameter("context", kind, annotation=typer.Context)
    parameters = (*signature.parameters.values(), context)
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {**run.__annotations__, "context": typer.Context}


def fail(error: NTMobileError, code: int, given: Mapping[str, str]) -> NoReturn:
    """Say what is wrong and what to do, with the options that were typed, and exit."""
    note(f"ntm: {error.problem if isinstance(error, Remedy) else error}")
    if error.remedy:
        note(f"     next: {completed(error.remedy, given)}")
    raise typer.Exit(code)


def directory_of(named: Path | None) -> Path:
    """Return the state directory a command is about."""
    return state_directory(named, os.environ, root=os.geteuid() == 0)


def ask(state: Path | None, request: AnyRequest, kind: type[V]) -> V:
    """Ask the agent, telling the person what it says meanwhile."""
    return Client(directory_of(state)).ask(request, kind, said=note)


def note(text: str) -> None:
    """Tell the person something that is no result."""
    print(text, file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print a result."""
    print(text, flush=True)


def show_json(view: Any) -> None:  # noqa: ANN401
    """Print a view as JSON, indented."""
    show(msgspec.json.format(msgspec.json.encode(view), indent=2).decode())


def show_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under headers: a table on a terminal, aligned columns elsewhere."""
    body = [tuple(row) for row in rows]
    if sys.stdout.isatty():
        # Imported late: it takes longer than all the rest of a command.
        from rich.console import Console
        from rich.table import Table

        table = Table(*headers, box=None, pad_edge=False, header_style="bold")
        for row in body:
            table.add_row(*row)
        Console(highlight=False).print(table)
        return
    widths = [max(len(cell) for cell in column) for column in zip(headers, *body, strict=True)]
    for row in (tuple(headers), *body):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        show("  ".join(cells).rstrip())


def milliseconds(value: float | None) -> str:
    """Format a duration for a person."""
    return "-" if value is None else f"{value:.1f} ms"


def lifetime_text(alive_s: int, dead_s: int | None) -> str:
    """Say how long idle mappings live: at least alive_s (0: not even the shortest time that was
    tried), and less than dead_s (None: that was not seen).
    """
    if dead_s is None:
        return f"at least {alive_s} s" if alive_s else "could not be measured"
    return f"between {alive_s} and {dead_s} s" if alive_s else f"under {dead_s} s"


def bytes_text(count: int) -> str:
    """Format an amount for a person (powers of 1000)."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
