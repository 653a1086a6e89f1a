"""Python's search for garbage, kept out of where there is none."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def modules_only() -> Iterator[None]:
    """Search for no garbage while modules are read: what they make stays.

    Python would look through it again and again, a fifth of a start. What was made until
    the end is not looked at any more later either.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
