"""What a tunnel asks its peer for, and how often it does what it does by itself.

Ours: docs/protocol.md sections 4, 8 and 9.
"""

from enum import Enum, auto

from ntmobile.time import SECOND

REKEY_NS = 120 * SECOND
IDLE_CHECK_NS = 5 * SECOND
KEEPALIVE_NS = 20 * SECOND
KEEPALIVE_PATIENCE_NS = 120 * SECOND
"""Without application data for this long the NATs may forget: no battery is spent on it."""
PONG_NS = 2 * SECOND
"""A ping or probe unanswered for that long is lost, however far the peer may be."""
CONVERSED_NS = 2 * SECOND
STALLED_NS = 700_000_000
"""A path that answers no probe for so long and then does was broken, and is mended."""
RESEND_AGAIN_NS = 250_000_000
"""A copy of a Path Update that comes later than that shows that the answer was lost."""
CROSS_AGAIN_NS = 10 * SECOND
"""How often an uplink that did not answer is asked again, while another one carries."""
DOUBT_NS = 250_000_000
"""How often a hint is followed: a forged one costs no more than that."""


class Purpose(Enum):
    """What an in-band request is for."""

    UPDATE = auto()
    COPY = auto()
    """Of a Path Update, to be sent once."""
    MISSED = auto()
    """What the peer misses, before it is told."""
    VALIDATE = auto()
    REBIND = auto()
    REKEY = auto()
    PROBE = auto()
    PING = auto()
    OFFER = auto()
    STANDBY = auto()
    CROSS = auto()
