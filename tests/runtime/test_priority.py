"""Which thread goes first. Ours: docs/protocol.md section 8."""

import os
import threading
from collections.abc import Callable

import pytest

from ntmobile.runtime.priority import FIRST_BY, as_others, decide_first, wait_turn


def in_a_thread(*acts: Callable[[], None]) -> list[int]:
    """The priority of a thread of its own after each of these."""
    seen: list[int] = []

    def run() -> None:
        for act in acts:
            act()
            seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return seen


def test_a_thread_that_decides_goes_first_and_like_the_others_again() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)

    first, last = in_a_thread(decide_first, wait_turn)

    if first == before:
        pytest.skip("the system does not let this process go first")
    assert (first, last) == (max(before - FIRST_BY, -20), before)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before, "another thread went first too"


def test_what_it_starts_as_others_goes_like_the_others() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    started: list[int] = []

    def start() -> None:
        with as_others():
            started.extend(in_a_thread(lambda: None))

    first, after, last = in_a_thread(decide_first, start, wait_turn)

    assert started == [before]
    assert (after, last) == (first, before)


def test_where_the_system_does_not_allow_it_nothing_happens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setpriority", refuse)
    before = os.getpriority(os.PRIO_PROCESS, 0)

    assert in_a_thread(decide_first, wait_turn) == [before, before]
