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
    names: tuple[str, ...] = ()
    """The nodes that the message names."""


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

    def note(
        self, at: Instant, message: object, there: str, *, sent: bool, of: object = None
    ) -> None:
        """Record that a message was sent or came in; of is what it answers, or is asked for."""
        name = paper_name(type(message))
        detail = _negotiation(message) or _negotiation(of) or _fqdn(message) or _fqdn(of)
        names = _names(message) or _names(of)
        self._steps.append(Step(at, name, self.here, there, sent, detail, names))

    def poll(self) -> Step | None:
        """Next step, oldest first."""
        return self._steps.popleft() if self._steps else None


def paper_name(kind: type) -> str:
    """Return the paper's name of a message type: `NtmAck` is NTM ACK."""
    return _SPECIAL.get(kind.__name__) or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__)


def _negotiation(message: object) -> str:
    found = getattr(message, "negotiation", None)
    return found.hex() if isinstance(found, bytes) else ""


def _fqdn(message: object) -> str:
    found = getattr(message, "fqdn", "")
    return found if isinstance(found, str) else ""


def _names(message: object) -> tuple[str, ...]:
    """The FQDNs in a message: whom it is about, and either end's; a login's is without domain."""
    user, name = getattr(message, "user", None), getattr(message, "name", None)
    if isinstance(user, str) and isinstance(name, str):
        return (f"{name}.{user}",)
    ends = (message, *(getattr(message, end, None) for end in ("mn", "cn", "peer")))
    named = (getattr(end, "fqdn", end) for end in ends)
    return tuple(dict.fromkeys(name for name in named if isinstance(name, str)))


_SPECIAL = {
    "NtmAck": "NTM ACK",
    "UdpKeepAlive": "UDP Keep Alive",
    "TcpKeepAlive": "TCP Keep Alive",
    "FindCoordinator": "NS Query",
    "CoordinatorFound": "NS Answer",
}
