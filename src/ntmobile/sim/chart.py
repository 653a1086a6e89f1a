"""Draws a recorded run as the paper draws its figures: participants as columns, time downwards."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ntmobile.sim.recorder import Arrow
from ntmobile.time import Instant

NARROWEST = 14
_MARGIN = 7


@dataclass(frozen=True, slots=True)
class Scale:
    """Where time starts, and what one unit of the left margin is."""

    start: Instant
    one_way_ns: int


def chart(arrows: Iterable[Arrow], columns: Mapping[str, str], scale: Scale) -> str:
    """Return the chart; columns gives each host its title, in the order drawn.

    The left margin counts one-way delays from the scale's start to the arrival. Arrows from or to
    hosts that have no column are left out; what went over both families at once is drawn once.
    Source: the form of the paper's Figs. 2 to 7.
    """
    order = list(columns)
    drawn = once(a for a in arrows if a.sender in columns and a.receiver in columns)
    places = _places(drawn, order)
    lines = [_titles(columns, places)]
    lines += [_line(arrow, order, places, scale) for arrow in drawn]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def once(arrows: Iterable[Arrow]) -> list[Arrow]:
    """Return the arrows without those that repeat another at the same instant, by arrival."""
    kept = {(a.arrived, a.message, a.sender, a.receiver, a.over): a for a in reversed(list(arrows))}
    return sorted(reversed(kept.values()), key=lambda arrow: arrow.arrived)


def _label(arrow: Arrow) -> str:
    return arrow.message if arrow.over in ("UDP", "DNS") else f"{arrow.message} ({arrow.over})"


def _places(arrows: Iterable[Arrow], order: list[str]) -> list[int]:
    """Return each column's place, wide enough for the labels between neighbours."""
    widths = [NARROWEST] * (len(order) - 1)
    for arrow in arrows:
        left, right = sorted((order.index(arrow.sender), order.index(arrow.receiver)))
        if left < right:
            share = -(-(len(_label(arrow)) + 6) // (right - left))
            for gap in range(left, right):
                widths[gap] = max(widths[gap], share)
    places = [_MARGIN + 4]
    for width in widths:
        places.append(places[-1] + width)
    return places


def _titles(columns: Mapping[str, str], places: list[int]) -> str:
    line = "delays"
    for title, place in zip(columns.values(), places, strict=True):
        line = line.ljust(place - len(title) // 2) + title
    return line


def _line(arrow: Arrow, order: list[str], places: list[int], scale: Scale) -> str:
    canvas = [" "] * (places[-1] + 1)
    for place in places:
        canvas[place] = "|"
    sender, receiver = order.index(arrow.sender), order.index(arrow.receiver)
    left, right = sorted((places[sender], places[receiver]))
    inside = right - left - 1
    if receiver > sender:
        body = f" {_label(arrow)} ".center(inside - 1, "-") + ">"
    else:
        body = "<" + f" {_label(arrow)} ".center(inside - 1, "-")
    canvas[left + 1 : right] = body
    return _count(arrow, scale) + "".join(canvas)[_MARGIN:]


def _count(arrow: Arrow, scale: Scale) -> str:
    delays = (arrow.arrived - scale.start) / scale.one_way_ns
    text = f"{delays:.0f}" if delays == int(delays) else f"{delays:.1f}"
    return text.rjust(_MARGIN - 1) + " "
