"""The agent as a process: in the background (`python -m ntmobile.agent`) or in the foreground."""

import asyncio
import secrets
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from ntmobile.agent.agent import Agent, MakeModel
from ntmobile.agent.files import private_directory
from ntmobile.agent.lock import AgentLock
from ntmobile.agent.logs import log_to_file, log_to_stderr
from ntmobile.agent.requests import Done, Said, Up
from ntmobile.agent.spawn import tell
from ntmobile.agent.state import open_state
from ntmobile.agent.views import StatusView
from ntmobile.errors import Remedy
from ntmobile.runtime.tasks import Tasks


def run_in_background(directory: Path, ready: int, make_model: MakeModel | None = None) -> int:
    """Run an agent until it is told to end; the descriptor ready hears how it began."""
    log_to_file(directory, debug=False)
    try:
        asyncio.run(_serve(directory, lambda: tell(ready, None), make_model))
    except Remedy as error:
        tell(ready, error)
        return 1
    return 0


def run_in_foreground(
    directory: Path,
    request: Up,
    *,
    said: Callable[[str], None],
    up: Callable[[StatusView], None],
    make_model: MakeModel | None = None,
) -> None:
    """Run an agent in this process and bring its node up; raises Remedy when that fails."""
    private_directory(directory)
    log_to_stderr(debug=False)
    asyncio.run(_serve_and_go_up(directory, request, said, up, make_model))


def forget_account(directory: Path, place: Path) -> None:
    """Forget the account of one identity, kept at a place, while the agent is not running."""
    with AgentLock(directory):
        open_state(place, secrets.SystemRandom()).forget_account()


async def _serve(directory: Path, ready: Callable[[], None], make_model: MakeModel | None) -> None:
    agent = Agent(directory, secrets.SystemRandom(), make_model)
    _end_on_signals(agent)
    await agent.run(ready)


async def _serve_and_go_up(
    directory: Path,
    request: Up,
    said: Callable[[str], None],
    up: Callable[[StatusView], None],
    make_model: MakeModel | None,
) -> None:
    agent = Agent(directory, secrets.SystemRandom(), make_model)
    _end_on_signals(agent)
    failures: list[Remedy] = []

    async def go_up() -> None:
        try:
            await _go_up(agent, request, said, up)
        except Remedy as error:
            if not agent.is_useful():
                failures.append(error)
                agent.end()
            else:
                said(str(error))

    async with Tasks() as tasks:

        def begin() -> None:
            tasks.start(go_up(), "up")

        await agent.run(begin)
    if failures:
        raise failures[0]


async def _go_up(
    agent: Agent, request: Up, said: Callable[[str], None], up: Callable[[StatusView], None]
) -> None:
    async for answer in agent.answer(request):
        if isinstance(answer, Said):
            said(answer.text)
        elif isinstance(answer, Done):
            up(msgspec.json.decode(answer.value, type=StatusView))


def _end_on_signals(agent: Agent) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, agent.end)


def main(make_model: MakeModel | None = None) -> None:
    """`python -m ntmobile.agent DIRECTORY READY_DESCRIPTOR`."""
    directory, ready = sys.argv[1:]
    sys.exit(run_in_background(Path(directory), int(ready), make_model))
