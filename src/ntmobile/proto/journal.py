"""What a machine's messages were, in order: for `ntm trace`, the charts and recorded runs."""

import re
from collections import Counter, deque
from dataclasses import dataclass

from ntmobile.time import Instant

KEPT = 4096


@dataclass(frozen=True, slots=True)
class Step:
    """One message of a sequence, never its content."""

    at: Instant
    message: str
    """The paper's name."""
    here: str
    there: str
    sent: bool
    detail: str = ""
    """The negotiation (hex) or the FQDN it belongs to."""


class Journal:
    """Collects the steps of one machine, and counts what it dropped.

    The oldest steps are lost when nobody drains them.
    """

    def __init__(self, here: str) -> None:
        """Names this participant as the charts shall."""
        self.here = here
        self.rejected: Counter[str] = Counter()
        """Datagrams dropped, by reason."""
        self._steps: deque[Step] = deque(maxlen=KEPT)

    def note(self, at: Instant, message: object, there: str, *, sent: bool) -> None:
        """Record that a message was sent or came in."""
        detail = getattr(message, "negotiation", None) or getattr(message, "fqdn", "")
        text = detail.hex() if isinstance(detail, bytes) else str(detail)
        self._steps.append(Step(at, paper_name(type(message)), self.here, there, sent, text))

    def poll(self) -> Step | None:
        """Next step, oldest first."""
        return self._steps.popleft() if self._steps else None


def paper_name(kind: type) -> str:
    """Return the paper's name of a message type: `NtmAck` is NTM ACK."""
    special = {"NtmAck": "NTM ACK", "UdpKeepAlive": "UDP Keep Alive"}
    return special.get(kind.__name__) or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__)
