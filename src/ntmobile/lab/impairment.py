"""Wires with delay, jitter, loss, duplication, reordering and a rate.

A process takes over the network's end of a wire: nftables keeps what arrives there
from the network, and the network is connected to the process's TAP device instead.
The machine's own interface does not notice.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Self

import msgspec

from ntmobile.lab.errors import LabError
from ntmobile.lab.network import INTERFACE_NAME_MAX, Uplink

NS_PER_MS = 1_000_000
QUEUE_PACKETS = 10_000
"""Of the TAP device: more than the largest bursts of TCP, or they would be lost."""

TAKE_OVER = """
table netdev impaired-{far} {{
  chain in {{
    type filter hook ingress device "{far}" priority filter;
    drop
  }}
}}
"""


class Direction(Enum):
    """Of a wire, as its machine sees it."""

    UP = "out"
    """From the machine to the network."""
    DOWN = "back"


@dataclass(frozen=True, slots=True)
class Impairment:
    """What a wire does to the packets of one direction."""

    delay_ms: float = 0.0
    """One way: with the same in both directions, a round trip takes twice as long."""
    jitter_ms: float = 0.0
    """Added to the delay, evenly spread from 0 to this; it does not reorder."""
    loss: float = 0.0
    """Probability that a packet is lost; like the next two, of each by itself."""
    duplicate: float = 0.0
    """Probability that a packet arrives twice."""
    reorder: float = 0.0
    """Probability that a packet is held back, to be overtaken by later ones."""
    reorder_by_ms: float = 5.0
    """How long it is held back."""
    rate_mbit: float = 0.0
    """Megabits a second; 0 is no limit."""
    queue_ms: float = 50.0
    """Longest wait for the rate; a packet that would wait longer is dropped."""

    def __post_init__(self) -> None:
        """Refuse what cannot be; raises LabError."""
        chances = (self.loss, self.duplicate, self.reorder)
        if not all(0.0 <= chance <= 1.0 for chance in chances):
            raise LabError(f"a probability lies between 0 and 1: {self}")
        others = (self.delay_ms, self.jitter_ms, self.reorder_by_ms, self.rate_mbit)
        if min(*others, self.queue_ms) < 0:
            raise LabError(f"times and rates are not negative: {self}")


@dataclass(frozen=True, slots=True)
class Statistics:
    """What happened to the packets of one direction since the wire was impaired."""

    arrived: int
    delivered: int
    """Duplicates included."""
    lost: int
    """On purpose."""
    duplicated: int
    overflowed: int
    """Dropped because the rate's queue, or the link's memory, was full."""
    refused: int
    """Not taken by the other end."""
    late_ns: int
    """The longest that a packet left behind its time."""


class Link:
    """An impaired wire; as a context manager it is mended at the end."""

    def __init__(self, uplink: Uplink, seed: int) -> None:
        """Take the wire over, as yet without any impairment.

        `seed` decides what is left to chance. Raises LabError if it is impaired
        already.
        """
        if uplink.link is not None:
            raise LabError(f"{uplink.far} is impaired already: change its link")
        self.uplink = uplink
        self._tap = f"~{uplink.far}"[:INTERFACE_NAME_MAX]
        program = [sys.executable, "-m", "ntmobile.lab.link"]
        self._process = uplink.network.popen(
            [*program, uplink.far, self._tap, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._read()
        self._take_over()
        uplink.link = self

    def set(self, impairment: Impairment, *directions: Direction) -> None:
        """Impair what is sent from now on, in both directions unless told."""
        for direction in directions or Direction:
            self._ask("set", direction, _settings(impairment))

    def statistics(self, direction: Direction) -> Statistics:
        """Return what happened in one direction so far."""
        return Statistics(**self._ask("statistics", direction))

    def remove(self) -> None:
        """Mend the wire; what is on the way is lost. A second time does nothing."""
        uplink, network = self.uplink, self.uplink.network
        if uplink.link is not self:
            return
        uplink.port, uplink.link = uplink.far, None
        # In this order a few packets may come twice; in the other one the network's
        # question for the machine's address would be lost, and cost a second.
        network.nft(f"delete table netdev impaired-{uplink.far}\n")
        network.connect(uplink)
        self._process.communicate()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Mend the wire."""
        self.remove()

    def _take_over(self) -> None:
        """Lose nothing: the TAP device works before the interface is cut off."""
        uplink, network = self.uplink, self.uplink.network
        address = network.path(f"/sys/class/net/{uplink.far}/address").read_text()
        network.ip(
            # The same address, or the machine would not find its gateway any more.
            f"link set {self._tap} address {address.strip()} mtu {uplink.mtu} "
            f"txqueuelen {QUEUE_PACKETS} up"
        )
        network.nft(TAKE_OVER.format(far=uplink.far))
        uplink.port = self._tap
        network.connect(uplink)
        network.abandon(uplink.far)

    def _ask(self, verb: str, direction: Direction, *settings: dict[str, float]) -> dict[str, int]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, direction.value, *settings]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LabError(f"the link of {self.uplink.far} has ended")
        return msgspec.json.decode(line, type=dict[str, int])


def _settings(impairment: Impairment) -> dict[str, float]:
    return {
        "delay_ns": round(impairment.delay_ms * NS_PER_MS),
        "jitter_ns": round(impairment.jitter_ms * NS_PER_MS),
        "loss": impairment.loss,
        "duplicate": impairment.duplicate,
        "reorder": impairment.reorder,
        "reorder_ns": round(impairment.reorder_by_ms * NS_PER_MS),
        "rate_bps": round(impairment.rate_mbit * 1_000_000),
        "queue_ns": round(impairment.queue_ms * NS_PER_MS),
    }
