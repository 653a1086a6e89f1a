"""What applications sent and received through one tunnel.

The packet loops count every capsule. Keep-alives and probes must not count: a tunnel that only
keeps itself alive is idle.
"""

from ntmobile._core import TunnelStatistics
from ntmobile.proto.node.events import Traffic
from ntmobile.time import Instant


class DataTraffic:
    """Takes the control messages of one tunnel out of what its loops count."""

    __slots__ = ("_heard_bytes", "_last_data", "_seen_data", "_sent", "_sent_bytes")

    def __init__(self) -> None:
        """Nothing passed yet."""
        self._sent = self._sent_bytes = self._heard_bytes = 0
        self._seen_data = 0
        self._last_data: Instant | None = None

    def sent_control(self, size: int) -> None:
        """A control message of that many bytes was sealed."""
        self._sent += 1
        self._sent_bytes += size

    def heard_control(self, size: int) -> None:
        """A control message of that many bytes was opened."""
        self._heard_bytes += size

    def observe(self, seen: TunnelStatistics, now: Instant) -> Traffic:
        """Return the data among what the loops count now."""
        data = seen.tx_packets - self._sent
        if data != self._seen_data:
            self._seen_data, self._last_data = data, _before(now, seen.last_tx_ns)
        return Traffic(
            max(0, seen.tx_bytes - self._sent_bytes),
            max(0, seen.rx_bytes - self._heard_bytes),
            self._last_data,
            _before(now, seen.last_rx_ns),
        )


def _before(now: Instant, age_ns: int | None) -> Instant | None:
    return None if age_ns is None else Instant(now - age_ns)
