"""When to try a push service again, and when no more: pure.

A wake-up is worth its while only as long as somebody waits for the node, so the tries are few.
Ours: docs/protocol.md section 9.
"""

from dataclasses import dataclass

from ntmobile.proto.io import Entropy
from ntmobile.runtime.push.outcome import TryLater
from ntmobile.time import SECOND, Instant

FIRST_S = 0.5
"""Doubles with every try; a random half more keeps a crowd from retrying in step."""
MAX_TRIES = 5
BUDGET_S = 8.0
"""From the first try on: the DC keeps what is for the node for 10 s."""
_GRAIN = 1 << 20


@dataclass(slots=True)
class BackOff:
    """The tries of one wake-up."""

    began: Instant
    tries: int = 1

    def left_s(self, now: Instant) -> float:
        """How long this try may take: after that nobody waits for its answer."""
        return max(0.0, BUDGET_S - (now - self.began) / SECOND)

    def pause_s(self, later: TryLater, now: Instant, entropy: Entropy) -> float | None:
        """Return how long to wait before the next try; None when there is to be none."""
        wait = FIRST_S * 2 ** (self.tries - 1)
        wait += wait / 2 * entropy.randrange(_GRAIN) / _GRAIN
        if later.after_s is not None:
            wait = max(wait, later.after_s)
        self.tries += 1
        spent = (now - self.began) / SECOND
        return None if self.tries > MAX_TRIES or spent + wait > BUDGET_S else wait
