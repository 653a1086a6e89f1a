import time

import pytest

from ntmobile.lab.errors import LabError
from ntmobile.lab.waiting import TRIES, wait_until


def test_what_comes_late_but_within_the_least_number_of_looks_is_awaited() -> None:
    """As on a machine so loaded that the whole time passes in one look."""
    looks = 0

    def comes_at_last() -> bool:
        nonlocal looks
        looks += 1
        return looks == TRIES

    wait_until(comes_at_last, "the last look", timeout_s=0.0)

    assert looks == TRIES


def test_what_comes_within_the_time_is_awaited_however_many_looks_it_takes() -> None:
    looks = 0

    def comes_later() -> bool:
        nonlocal looks
        looks += 1
        return looks > 2 * TRIES

    wait_until(comes_later, "many looks")

    assert looks == 2 * TRIES + 1


def test_what_never_comes_is_given_up_and_named() -> None:
    began = time.perf_counter()

    with pytest.raises(LabError, match="in vain for the moon"):
        wait_until(lambda: False, "the moon", timeout_s=0.3)

    assert time.perf_counter() - began >= 0.3
