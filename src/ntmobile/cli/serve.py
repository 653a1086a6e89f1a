"""`ntm serve`: runs the servers of a directory until it is told to stop."""

import asyncio
import logging
import signal
from pathlib import Path
from random import SystemRandom
from typing import Annotated

import structlog
import typer

from ntmobile.cli.node_output import command
from ntmobile.cli.server_log import log_to_stderr
from ntmobile.config import one_of
from ntmobile.errors import NTMobileError
from ntmobile.runtime.clock import Clock
from ntmobile.servers.config import Role
from ntmobile.servers.files import ServerDirectory
from ntmobile.servers.serve import Servers

log = structlog.get_logger()
_ROLE = one_of(Role)


def register(app: typer.Typer) -> None:
    """Add `ntm serve` to the program."""
    app.command("serve")(serve)


@command
def serve(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the servers.")],
    roles: Annotated[
        str,
        typer.Option(help="Which of its roles this process runs; by default those at home here."),
    ] = "",
    relay: Annotated[
        str, typer.Option(help="Which RS this machine is, when its addresses do not tell.")
    ] = "",
    notifier: Annotated[
        str, typer.Option(help="Which NS this machine is, when its addresses do not tell.")
    ] = "",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every message.")] = False,
) -> None:
    """Run the servers; prints one line `ready` when every role answers.

    SIGHUP reads server.toml, policy.toml and the certificate again; SIGTERM stops.
    """
    log_to_stderr(logging.DEBUG if verbose else logging.INFO)
    servers = Servers(
        ServerDirectory(directory),
        _parsed(roles),
        named={role: name for role, name in ((Role.RS, relay), (Role.NS, notifier)) if name},
        entropy=SystemRandom(),
        clock=Clock(),
    )
    asyncio.run(_run(servers))


async def _run(servers: Servers) -> None:
    loop = asyncio.get_running_loop()
    asked: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, asked.put_nowait, number)
    started = loop.create_task(_start(servers))
    # A start that fails ends the process as a signal would.
    started.add_done_callback(lambda task: _stop_if_failed(task, asked))
    try:
        while await asked.get() is signal.SIGHUP:
            await started
            await _reload(servers)
        if started.done():
            await started
    finally:
        log.info("stopping")
        started.cancel()
        await asyncio.wait((started,))
        await servers.close()


async def _start(servers: Servers) -> None:
    await servers.start()
    await servers.check()
    print("ready", flush=True)
    log.info("ready", domain=servers.own.name, roles=",".join(servers.roles))


def _stop_if_failed(task: "asyncio.Task[None]", asked: "asyncio.Queue[signal.Signals]") -> None:
    if not task.cancelled() and task.exception() is not None:
        asked.put_nowait(signal.SIGTERM)


async def _reload(servers: Servers) -> None:
    try:
        await servers.reload()
    except NTMobileError as error:
        log.error("not reloaded; the old settings stay", why=str(error))


def _parsed(roles: str) -> tuple[Role, ...] | None:
    try:
        return tuple(_ROLE.parse(each.strip()) for each in roles.split(",")) if roles else None
    except ValueError:
        problem = f"{roles!r}; allowed: {_ROLE.allowed}, with commas between"
        raise typer.BadParameter(problem, param_hint="--roles") from None
