"""Reads docs/paper.md: the sections, figures, messages and keys that can be cited."""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "paper.md"

ROOMS = {
    "node": "node",
    "AS": "account",
    "DC": "coordinator",
    "NS": "notification",
    "RS": "relay",
}
"""Where in ntmobile.proto each participant's machine is; others are outside our code."""


class Kind(StrEnum):
    SECTION = "section"
    FIGURE = "figure"
    MESSAGE = "message"
    KEY = "key"


@dataclass(frozen=True)
class Item:
    """Something of the paper that code and tests cite."""

    name: str
    kind: Kind
    anchor: str
    figures: tuple[str, ...] = ()
    """Of a message: those it is in."""
    ways: tuple[tuple[str, str], ...] = ()
    """Of a message: from whom to whom; of a key: from its creator to each owner."""


@cache
def items() -> tuple[Item, ...]:
    """Return everything that can be cited, in the page's order."""
    text = PAGE.read_text()
    headings = [_heading(line) for line in text.splitlines() if line.startswith("## ")]
    sections = [item for item in headings if item.name not in ("Messages",)]
    rows = [_cells(line) for line in text.splitlines() if line.startswith("| <a id=")]
    return (*sections, *(_message(row) if len(row) == 7 else _key(row) for row in rows))


def named(name: str) -> Item:
    """Return the item of that name; raises KeyError."""
    return {item.name: item for item in items()}[name]


def of_kind(kind: Kind) -> tuple[Item, ...]:
    """Return the items of one kind."""
    return tuple(item for item in items() if item.kind is kind)


def _heading(line: str) -> Item:
    title = line.removeprefix("## ").strip()
    anchor = re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-")
    name = title.split(":", 1)[0]
    return Item(name, Kind.FIGURE if name.startswith("Fig.") else Kind.SECTION, anchor)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _anchored(cell: str) -> tuple[str, str]:
    found = re.fullmatch(r'<a id="([a-z-]+)"></a>(.+)', cell)
    assert found is not None, cell
    return found[2], found[1]


def _message(row: list[str]) -> Item:
    name, anchor = _anchored(row[0])
    figures = tuple(f"Fig. {number.strip()}" for number in row[1].split(","))
    pairs = (way.split("->") for way in row[2].split(","))
    ways = tuple((sender.strip(), receiver.strip()) for sender, receiver in pairs)
    return Item(name, Kind.MESSAGE, anchor, figures, ways)


def _key(row: list[str]) -> Item:
    name, anchor = _anchored(row[0])
    owners = (owner.strip() for owner in row[2].split(","))
    return Item(name, Kind.KEY, anchor, (), tuple((row[1], owner) for owner in owners))
