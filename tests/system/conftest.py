"""Worlds of real processes, one for each module of tests."""

from collections.abc import Iterator

import pytest

from ntmobile.lab import Lab, unavailable
from ntmobile.lab.ntm import World


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """An internet with its DNS; a module adds the organisations and nodes that it needs."""
    if (reason := unavailable()) is not None:
        pytest.skip(f"no lab here: {reason}")
    with Lab() as lab:
        yield World(lab)
