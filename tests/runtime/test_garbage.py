import gc
from collections.abc import Iterator

import pytest

from ntmobile.runtime.garbage import modules_only


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_nothing_is_collected_while_modules_are_read_and_everything_behind_them() -> None:
    with modules_only():
        during = gc.isenabled()

    assert (during, gc.isenabled()) == (False, True)
    assert gc.get_freeze_count() > 0


def test_a_module_that_cannot_be_read_leaves_the_collection_on() -> None:
    with pytest.raises(ImportError), modules_only():
        raise ImportError

    assert gc.isenabled()
