"""Draws what one or several participants saw as one chart with the paper's names."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ntmobile.cli.chart import Arrow, draw
from ntmobile.errors import Remedy
from ntmobile.proto.testimony import Carried, Witness, ends_of, merge

WithOption = Annotated[
    list[Path] | None,
    typer.Option("--with", metavar="FILE", help="What another saw: its `trace --json`."),
]


def read_witnesses(files: Iterable[Path]) -> list[Witness]:
    """Read what `ntm trace --json` and `ntm admin trace --json` printed; raises Remedy."""
    return [_witness(file) for file in files]


def chart(witnesses: Sequence[Witness]) -> list[str]:
    """Return the lines of the chart, and who is who above it."""
    carried = merge(witnesses)
    legend = ", ".join(f"{name} {fqdn}" for name, fqdn in ends_of(witnesses) if fqdn)
    began = carried[0].at_s if carried else 0.0
    return [legend, *draw([_arrow(one, began) for one in carried], first=_first(carried))]


def _first(carried: Sequence[Carried]) -> str:
    return carried[0].sender if carried else "node"


def _arrow(one: Carried, began: float) -> Arrow:
    ms = (one.at_s - began) * 1000
    return Arrow(ms, one.sender, one.receiver, one.message, one.lost)


def _witness(file: Path) -> Witness:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Witness)
    except OSError as error:
        raise Remedy(f"{file}: {error.strerror}", remedy="name a file that can be read") from None
    except msgspec.MsgspecError as error:
        raise Remedy(
            f"{file} is not what a trace is: {error}",
            remedy="make it with ntm trace --json, or ntm admin --server DIR trace --json",
        ) from None
