"""Randomness that a seed repeats; never for anything but a simulation."""

from hashlib import sha256
from random import Random


class SeededEntropy:
    """Satisfies proto.io.Entropy; each consumer takes its own fork, so none disturbs another."""

    __slots__ = ("_label", "_random")

    def __init__(self, seed: int | str) -> None:
        """The same seed gives the same bits on every machine and Python."""
        self._label = str(seed)
        self._random = Random(int.from_bytes(sha256(self._label.encode()).digest()))

    def fork(self, label: str) -> "SeededEntropy":
        """Return an independent stream that depends on the seed and the label only."""
        return SeededEntropy(f"{self._label}/{label}")

    def getrandbits(self, k: int, /) -> int:
        """Return k random bits."""
        return self._random.getrandbits(k)

    def randrange(self, stop: int, /) -> int:
        """Return an integer in [0, stop)."""
        return self._random.randrange(stop)

    def chance(self, probability: float) -> bool:
        """Whether an event of that probability happens; 0 and 1 draw nothing."""
        if probability <= 0:
            return False
        return probability >= 1 or self._random.random() < probability
