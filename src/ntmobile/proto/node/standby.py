"""The way through RS beside a direct path: kept warm, and taken again when that falls silent.

A direct path was once found by probes; its NATs may forget it, a firewall may come up, and it may
let small packets through and swallow large ones. RS carries both ends' packets whatever happens,
so the tunnel keeps its mapping there alive and asks over both ways: what is silent on the direct
one and answered through RS is left for RS within about a second, before any server is asked.

Going back to a direct path is the search's business, which rests longer each time: a path that
comes and goes is tried again after 30 s, 60 s, 120 s, one that was good for a minute at once.
Ours: docs/protocol.md section 8.
"""

from dataclasses import dataclass

from ntmobile.proto.node.ends import Path
from ntmobile.proto.node.liveness import PATIENCE_NS
from ntmobile.time import SECOND, Instant

ASK_AGAIN_NS = 300_000_000
WARM_NS = 20 * SECOND
"""As often as a node shows itself to its DC. Source: paper, Fig. 3."""


@dataclass(frozen=True, slots=True)
class _Suspicion:
    """The direct path is silent; it had brought so many bytes when that began."""

    since: Instant
    rx_bytes: int
    asked_at: Instant | None = None


class Standby:
    """What one tunnel keeps beside its direct path."""

    def __init__(self) -> None:
        """Nothing."""
        self.path: Path | None = None
        self._suspicion: _Suspicion | None = None
        self._warmed_at: Instant | None = None

    def keep(self, path: Path | None, now: Instant) -> None:
        """A direct path takes over from this one; None: there is no way back."""
        self.path, self._suspicion, self._warmed_at = path, None, now

    def is_cold(self, now: Instant) -> bool:
        """Whether to send something that way now; asked while the tunnel is in use."""
        if self.path is None or (self._warmed_at and now - self._warmed_at < WARM_NS):
            return False
        self._warmed_at = now
        return True

    def hear(self) -> None:
        """Something came by the direct path."""
        self._suspicion = None

    def count(self, rx_bytes: int) -> None:
        """So many bytes of application data came so far: more, and the direct path carries."""
        if self._suspicion is not None and self._suspicion.rx_bytes != rx_bytes:
            self._suspicion = None

    def suspect(self, rx_bytes: int, now: Instant, patience_ns: int = PATIENCE_NS) -> bool:
        """The direct path is silent; whether to ask over RS now.

        rx_bytes are those of application data that came so far, by any way; patience_ns is for
        the first time.
        """
        held = self._suspicion
        if self.path is None:
            return False
        if held is None:
            self._suspicion = _Suspicion(now, rx_bytes)
            return False
        asked = held.asked_at
        if now - held.since < patience_ns or (asked and now - asked < ASK_AGAIN_NS):
            return False
        self._suspicion = _Suspicion(held.since, held.rx_bytes, now)
        return True

    @property
    def is_asked(self) -> bool:
        """Whether the way through RS was asked, and the direct path is silent yet."""
        return self._suspicion is not None and self._suspicion.asked_at is not None

    def leaves(self, rx_bytes: int) -> bool:
        """An answer came over RS; whether the direct path brought nothing in all that time."""
        held = self._suspicion
        return held is not None and held.asked_at is not None and held.rx_bytes == rx_bytes
