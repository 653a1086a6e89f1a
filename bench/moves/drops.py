"""Where packets were dropped in a lab: devices, queues and sockets of all its machines."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

from ntmobile.lab import Lab

SOFTNET = Path("/proc/net/softnet_stat")
ERRORS = ("InErrors", "RcvbufErrors", "SndbufErrors", "MemErrors")
RX_DROPPED, TX_DROPPED = 3, 11
"""Columns of /proc/net/dev."""


def drops(lab: Lab) -> Counter[str]:
    """Packets dropped so far, by machine and place; of the machine as a whole before a stack."""
    found: Counter[str] = Counter()
    for name, machine in lab.machines.items():
        text = machine.run(["cat", "/proc/net/dev", "/proc/net/snmp"]).stdout.splitlines()
        found.update({f"{name} {place}": count for place, count in _devices(text)})
        found.update({f"{name} {place}": count for place, count in _sockets(text)})
    rows = SOFTNET.read_text().splitlines()
    found["backlog of a processor"] = sum(int(row.split()[1], 16) for row in rows)
    return +found


def _devices(text: list[str]) -> list[tuple[str, int]]:
    rows = [line.split(":") for line in text if line[:10].count(":") and ": " in line]
    devices = [(name.strip(), rest.split()) for name, rest in rows if rest.split()[0].isdigit()]
    return [
        (f"{name} {way}", int(columns[at]))
        for name, columns in devices
        for way, at in (("in", RX_DROPPED), ("out", TX_DROPPED))
        if len(columns) > TX_DROPPED
    ]


def _sockets(text: list[str]) -> list[tuple[str, int]]:
    udp = [line.split()[1:] for line in text if line.startswith("Udp:")]
    return [
        (f"UDP {title}", int(count))
        for titles, counts in pairwise(udp)
        for title, count in zip(titles, counts, strict=True)
        if title in ERRORS
    ]
