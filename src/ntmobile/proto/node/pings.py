"""Which Echo Requests of a tunnel are pings that a person waits for."""

MOST = 64
"""Older ones are lost."""


class Pings:
    """Of one tunnel: the sequence of each, by the number that its answer echoes."""

    def __init__(self) -> None:
        """None is under way."""
        self._sequences: dict[int, int] = {}

    def add(self, number: int, sequence: int) -> None:
        """One leaves."""
        self._sequences[number] = sequence
        if len(self._sequences) > MOST:
            self._sequences.pop(next(iter(self._sequences)))

    def take(self, number: int) -> int | None:
        """Return the sequence of what was answered, once; None where it is no ping."""
        return self._sequences.pop(number, None)
