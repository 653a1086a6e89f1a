"""What ends a simulated run early."""

from ntmobile.errors import NTMobileError
from ntmobile.time import Instant


class SimulationError(NTMobileError):
    """A machine raised, span, asked for something impossible, or a condition never came true."""

    def __init__(self, at: Instant, problem: str, trace: str = "") -> None:
        """Says when in virtual time, what, and what led there."""
        seconds = at / 1e9
        super().__init__(f"at {seconds:.6f} s: {problem}" + (f"\n{trace}" if trace else ""))
        self.at = at
        self.problem = problem
