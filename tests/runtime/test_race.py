import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ntmobile.runtime.race import AllFailedError, race

Attempt = Callable[[], Coroutine[Any, Any, str]]
ENOUGH_S = 60


class Runners:
    """Attempts, and what became of those that lost."""

    def __init__(self) -> None:
        self.discarded: list[str] = []
        self.started: list[str] = []
        self.given_up: list[str] = []

    def arriving(self, name: str) -> Attempt:
        async def run() -> str:
            self.started.append(name)
            return name

        return run

    def failing(self, name: str) -> Attempt:
        async def run() -> str:
            self.started.append(name)
            raise OSError(name)

        return run

    def hanging(self, name: str) -> Attempt:
        async def run() -> str:
            self.started.append(name)
            try:
                await asyncio.Event().wait()
            finally:
                self.given_up.append(name)
            return name

        return run

    def stubborn(self, name: str) -> Attempt:
        """Arrives though it was given up."""

        async def run() -> str:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return name
            return name

        return run

    async def run(self, *attempts: Attempt) -> str:
        async with asyncio.timeout(ENOUGH_S):
            return await race(attempts, self._discard)

    async def _discard(self, result: str) -> None:
        self.discarded.append(result)


async def test_the_first_that_arrives_wins_and_the_others_are_not_even_tried() -> None:
    runners = Runners()

    assert await runners.run(runners.arriving("one"), runners.arriving("two")) == "one"
    assert (runners.started, runners.discarded) == (["one"], [])


async def test_one_that_hangs_is_overtaken_and_given_up() -> None:
    runners = Runners()

    assert await runners.run(runners.hanging("one"), runners.arriving("two")) == "two"
    assert runners.given_up == ["one"]


async def test_after_one_that_fails_the_next_is_tried() -> None:
    runners = Runners()

    assert await runners.run(runners.failing("one"), runners.arriving("two")) == "two"


async def test_what_a_loser_reached_all_the_same_is_discarded() -> None:
    runners = Runners()

    assert await runners.run(runners.stubborn("one"), runners.arriving("two")) == "two"
    assert runners.discarded == ["one"]


async def test_where_all_fail_each_reason_is_told_once() -> None:
    runners = Runners()

    with pytest.raises(AllFailedError, match=r"^no; nor here$") as failed:
        await runners.run(*map(runners.failing, ("no", "no", "nor here")))

    assert len(failed.value.errors) == 3


async def test_where_nothing_is_to_be_tried_all_failed() -> None:
    with pytest.raises(AllFailedError):
        await Runners().run()
