"""What a link does to packets: delay, jitter, loss, duplication, reordering, MTU."""

from dataclasses import dataclass

from ntmobile.sim.entropy import SeededEntropy

MILLISECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Quality:
    """The character of one link or network; probabilities are per packet."""

    delay_ns: int = 0
    """One way."""
    jitter_ns: int = 0
    """Up to this much more, uniformly."""
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    """Chance to be held back by `held_back_ns`, so that later packets overtake."""
    held_back_ns: int = 5 * MILLISECOND
    mtu: int = 1500
    """Larger packets vanish, as on a path that swallows ICMP."""

    def fates(self, entropy: SeededEntropy) -> tuple[int, ...]:
        """Return the delay of each copy that arrives, in nanoseconds; none when it is lost."""
        if entropy.chance(self.loss):
            return ()
        copies = 2 if entropy.chance(self.duplication) else 1
        return tuple(self._delay(entropy) for _ in range(copies))

    def _delay(self, entropy: SeededEntropy) -> int:
        jitter = entropy.randrange(self.jitter_ns + 1) if self.jitter_ns else 0
        held_back = self.held_back_ns if entropy.chance(self.reordering) else 0
        return self.delay_ns + jitter + held_back


PERFECT = Quality()
