"""Whether a tunnel's applications use it, as its packet loops count."""

from ntmobile.proto.node.events import Traffic
from ntmobile.proto.node.purpose import CONVERSED_NS
from ntmobile.time import Instant


class Use:
    """Of one tunnel."""

    def __init__(self, now: Instant) -> None:
        """Nothing has passed, and the tunnel is new."""
        self.rx_bytes = 0
        """What came from the peer's applications, when it was looked at last."""
        self.conversed_at = now
        """When something had come since it was looked at before."""
        self._tx_bytes = 0
        self._active_at = now

    def renew(self, now: Instant) -> None:
        """Count the silence from now."""
        self._active_at = now

    def is_conversation(self, now: Instant) -> bool:
        """Whether something came back lately, so that the sender waits for what comes late."""
        return now - self.conversed_at <= CONVERSED_NS

    def look(self, seen: Traffic, now: Instant) -> int:
        """Return for how many nanoseconds nothing has passed."""
        if seen.rx_bytes != self.rx_bytes:
            self.conversed_at = now
        if (seen.tx_bytes, seen.rx_bytes) != (self._tx_bytes, self.rx_bytes):
            self._tx_bytes, self.rx_bytes, self._active_at = seen.tx_bytes, seen.rx_bytes, now
        return now - self._active_at
