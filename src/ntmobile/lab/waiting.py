"""Waiting for what the kernel or another process is about to do."""

import time
from collections.abc import Callable

from ntmobile.lab.errors import LabError

STEP_S = 0.005
TRIES = 50
"""How often to look at least: on a loaded machine a deadline may pass without a single look."""
PATIENCE_S = 60.0


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Return as soon as the condition holds; raises LabError if it does not.

    It is looked at for so long, and at least TRIES times, however long these take.
    """
    deadline, tries = time.perf_counter() + timeout_s, 0
    while not condition():
        tries += 1
        if tries >= TRIES and time.perf_counter() >= deadline:
            raise LabError(f"waited {timeout_s:g} s, {tries} times in vain for {what}")
        time.sleep(STEP_S)
