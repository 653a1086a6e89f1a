import asyncio

from structlog.testing import capture_logs

from ntmobile.runtime.tasks import Tasks


async def test_a_failure_is_logged_and_ends_no_other_task() -> None:
    finished = asyncio.Event()

    async def fails() -> None:
        raise ValueError("broken")

    async def works() -> None:
        finished.set()

    with capture_logs() as logs:
        async with Tasks() as tasks:
            failing = tasks.start(fails(), "fails")
            tasks.start(works(), "works")
            await finished.wait()
            await asyncio.wait([failing])

    assert [(entry["event"], entry["task"]) for entry in logs] == [("task failed", "fails")]


async def test_leaving_cancels_what_runs_and_waits_for_its_clean_up() -> None:
    cleaned = False

    async def waits() -> None:
        nonlocal cleaned
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned = True

    async with Tasks() as tasks:
        tasks.start(waits(), "waits")
        await asyncio.sleep(0)

    assert cleaned
    assert len(tasks) == 0


async def test_repeated_work_goes_on_after_it_failed() -> None:
    calls = 0
    thrice = asyncio.Event()

    async def fails_once() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("no space left on device")
        if calls == 3:
            thrice.set()

    with capture_logs() as logs:
        async with Tasks() as tasks:
            tasks.repeat(fails_once, every_s=0)
            await thrice.wait()

    assert len(logs) == 1
