"""The outcomes as a table of Markdown, and the page that holds it."""

import os
import platform
import statistics
from collections.abc import Iterable, Sequence

from moves.measure import PATIENCE_S, Outcome
from moves.rows import ROWS

HEAD = (
    "move",
    "by",
    "peer",
    "mover",
    "RTT",
    "runs",
    "others",
    "gap: median",
    "90th",
    "worst",
    "lost",
    "depth",
    "sent again",
    "TCP again",
    "must",
)
LOSSLESS = {row.name for row in ROWS if row.lossless}
CARRIES = {"down": "downloads", "up": "uploads", "udp": "50 Mbit/s UDP"}

TEXT = """# What applications notice of moves

Written by `build/venv/bin/python bench/handover.py {arguments}` as root; change the program,
not this page.

Each row is one kind of move, made again and again while bytes flow between the mover and its peer.

- **gap**: the longest time in ms between two bytes *delivered to the application*, counted from
  the moment the new address is usable (the kernel's own notification of a default route over
  a link that carries); in the rows with two uplinks and with rebooting NATs from the beginning.
- **others**: how many CPUs other programs used meanwhile (median), commands of this bench that ran
  at the same time among them. What has to wait for a processor is late.
- **RTT**: the round trip between the ends in ms, of the wires of [the lab](lab.md) alone.
- Streams are TCP at {rate} MB/s; *50 Mbit/s UDP* are numbered datagrams of 1,200 B in both
  directions at once. **lost** counts those that never came, of all runs; **depth** by how many
  later ones the latest was overtaken.
- **sent again**: median number of capsules that the tunnels' ends sent again because the path had
  swallowed them (docs/protocol.md section 8). **TCP again**: median of TCP's own retransmissions.
- **must**: what is asked of us, in ms; `ok` where median and 90th percentile keep it.

Measured on {machine}; others used {foreign} of its CPUs meanwhile (median; worst {worst_foreign}).
*without Resend* is NTMobile whose agents repeat nothing that a path has swallowed; what they held
while there was no path they send all the same. Only TCP brings the rest back.
The peer is *relayed* (behind a NAT, and `seek-direct=no`), *punched* (behind a NAT, and the direct
path to it was found) or *direct* (an address of its own, which is what the neighbours need).
Neighbours keep alive every 25 s or less.

A NAT that *reboots* has lost its mappings; it makes the same ones again, *other ports* or, *with
another address*, all others. Neither end is told. Where both lost theirs, an end that only
receives is found again by its next keep-alive. In a network that *blocks UDP* a node waits for its
DC for 1.5 s before it goes by WebSocket. Asleep are agent and wires; datagrams sent meanwhile are
lost beyond what is kept. During *20 % loss* each packet is lost by itself, for two seconds.

{failures}
"""


def table(outcomes: Sequence[Outcome]) -> str:
    """All rows, in the order they were run."""
    lines = [_line(HEAD), _line("---" for _ in HEAD)]
    lines += [_line(_row(group)) for group in _groups(outcomes)]
    return "\n".join(lines)


def page(outcomes: Sequence[Outcome], arguments: str, rate: float) -> str:
    """docs/handover.md."""
    foreign = [each.foreign for each in outcomes]
    text = TEXT.format(
        arguments=arguments,
        rate=f"{rate:g}",
        machine=f"{os.cpu_count()} CPUs, Linux {platform.release().split('-')[0]}",
        foreign=f"{statistics.median(foreign):.1f}",
        worst_foreign=f"{max(foreign):.1f}",
        failures=_failures(outcomes),
    )
    return f"{text}\n{table(outcomes)}\n"


def _failures(outcomes: Sequence[Outcome]) -> str:
    broken = [each for each in outcomes if each.broken]
    if not broken:
        return "No connection broke in any run."
    said = {f"{each.system}: {each.row}, {CARRIES[each.carries]}: {each.broken}" for each in broken}
    return "\n".join(["What did not come back:", "", *(f"- {each}" for each in sorted(said))])


def _groups(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    groups: dict[tuple[object, ...], list[Outcome]] = {}
    for each in outcomes:
        key = (each.row, each.carries, each.peer, each.delay_ms, each.system)
        groups.setdefault(key, []).append(each)
    return list(groups.values())


def _row(group: list[Outcome]) -> Iterable[str]:
    first, gaps = group[0], sorted(each.gap_ms for each in group)
    is_udp = first.carries == "udp"
    lost = sum(each.lost for each in group)
    median, ninth = statistics.median(gaps), gaps[max(0, -(-len(gaps) * 9 // 10) - 1)]
    yield from (first.row, first.system, first.peer, CARRIES[first.carries])
    yield from (f"{first.delay_ms:g}", str(len(group)))
    yield f"{statistics.median(each.foreign for each in group):.1f}"
    yield from (_ms(median), _ms(ninth), _ms(gaps[-1]))
    yield str(lost) if is_udp else ""
    yield str(max(each.deepest for each in group)) if is_udp else ""
    yield f"{statistics.median(each.resent for each in group):.0f}"
    yield "" if is_udp else f"{statistics.median(each.retransmits for each in group):.0f}"
    yield _judged(first, median, ninth, lost)


def _judged(first: Outcome, median: float, ninth: float, lost: int) -> str:
    if first.system == "NTMobile" and first.carries == "udp" and first.row in LOSSLESS:
        return f"0 lost: {'no' if lost else 'ok'}"
    if first.must_ms is None or first.system != "NTMobile" or first.carries == "udp":
        return ""
    limit = first.must_ms + first.delay_ms
    return f"{limit:g}: {'ok' if max(median, ninth) <= limit else 'no'}"


def _ms(value: float) -> str:
    return f"> {PATIENCE_S:g} s" if value >= PATIENCE_S * 1000 else f"{value:.0f}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
