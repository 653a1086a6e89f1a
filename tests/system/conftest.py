"""Worlds of real processes, one for each module of tests, and the figures they measure."""

from collections.abc import Callable, Iterator

import pytest

from ntmobile.lab import Lab, unavailable
from ntmobile.lab.ntm import World

Figure = Callable[[str, str], None]
"""Takes what was measured and the result, in words."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """An internet with its DNS; a module adds the organisations and nodes that it needs."""
    if (reason := unavailable()) is not None:
        pytest.skip(f"no lab here: {reason}")
    with Lab() as lab:
        yield World(lab)


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Prints a measured figure at the end of the run, and keeps it in the JUnit report."""
    return record_property
