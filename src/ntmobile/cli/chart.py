"""Draws a sequence chart as text, in the manner of the paper's figures.

Participants are columns with a life line each; a message is an arrow from its sender to its
receiver, with its name above and its time at the left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

_GUTTER = 11
"""Columns for the time, such as "  123.4 ms "."""
_LEAST_SPACING = 12
_ORDER = ("application", "MN", "node", "AS", "DCmn", "DC", "NS", "RS", "DNS", "DCcn", "CN", "push")
"""From left to right as the paper draws them."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """One message."""

    ms: float
    sender: str
    receiver: str
    label: str
    lost: bool = False
    """It never arrived."""


def participants(arrows: Sequence[Arrow], first: str) -> list[str]:
    """Return who takes part: as in the paper's figures, else first and then as they speak."""
    found = dict.fromkeys([first])
    for arrow in arrows:
        found |= dict.fromkeys([arrow.sender, arrow.receiver])
    return sorted(found, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


def draw(arrows: Sequence[Arrow], first: str) -> list[str]:
    """Return the lines of the chart; first is at the left of those the paper does not name."""
    names = participants(arrows, first)
    columns = _columns(names, arrows)
    lines = [_heads(names, columns), _lives(columns)]
    for arrow in arrows:
        begin, end = columns[names.index(arrow.sender)], columns[names.index(arrow.receiver)]
        lines.append(_over(_lives(columns), arrow.label, min(begin, end), abs(end - begin)))
        lines.append(_arrow(_lives(columns), begin, end, arrow))
    return [line.rstrip() for line in lines]


def _columns(names: Sequence[str], arrows: Sequence[Arrow]) -> list[int]:
    """Each participant's place: every label fits between its own two, and no head meets another."""
    gaps = [
        max(_LEAST_SPACING, (len(left) + len(right)) // 2 + 2) for left, right in pairwise(names)
    ]
    for arrow in sorted(arrows, key=lambda arrow: _span(names, arrow)[1]):
        left, span = _span(names, arrow)
        lacking = len(arrow.label) + 4 - sum(gaps[left : left + span])
        for gap in range(left, left + span):
            gaps[gap] += max(0, -(-lacking // span))
    return list(accumulate(gaps, initial=_GUTTER + len(names[0]) // 2))


def _span(names: Sequence[str], arrow: Arrow) -> tuple[int, int]:
    """The leftmost of an arrow's two ends, and how many gaps it crosses."""
    left, right = sorted((names.index(arrow.sender), names.index(arrow.receiver)))
    return left, right - left


def _heads(names: Sequence[str], columns: Sequence[int]) -> str:
    line = ""
    for name, column in zip(names, columns, strict=True):
        line = line.ljust(column - len(name) // 2) + name
    return line


def _lives(columns: Sequence[int]) -> str:
    line = ""
    for column in columns:
        line = line.ljust(column) + "|"
    return line


def _over(line: str, text: str, start: int, width: int) -> str:
    place = start + 1 + max(0, (width - 1 - len(text)) // 2)
    return line[:place] + text + line[place + len(text) :]


def _arrow(line: str, begin: int, end: int, arrow: Arrow) -> str:
    low, high = min(begin, end), max(begin, end)
    shaft, head = "-" * max(0, high - low - 2), "x" if arrow.lost else ">"
    body = f"{shaft}{head}" if begin < end else f"{'x' if arrow.lost else '<'}{shaft}"
    timed = f"{arrow.ms:8.1f} ms"
    return timed + line[len(timed) : low + 1] + body + line[high:]
