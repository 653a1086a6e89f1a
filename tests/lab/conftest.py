from collections.abc import Iterator

import pytest

from ntmobile.lab import Lab, unavailable


@pytest.fixture
def lab() -> Iterator[Lab]:
    if (reason := unavailable()) is not None:
        pytest.skip(f"no lab here: {reason}")
    with Lab() as made:
        yield made
