"""Waiting for what the kernel or another process is about to do."""

import time
from collections.abc import Callable

from ntmobile.lab.errors import LabError

STEP_S = 0.005


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 5.0) -> None:
    """Return as soon as the condition holds; raises LabError if it never does."""
    for _ in range(int(timeout_s / STEP_S)):
        if condition():
            return
        time.sleep(STEP_S)
    raise LabError(f"waited {timeout_s} s in vain for {what}")
