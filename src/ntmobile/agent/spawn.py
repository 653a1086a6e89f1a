"""Starting an agent in the background, and the pipe that says when it stands.

The child writes one line to the pipe: `ready`, or what is wrong and what to do (JSON, as in the
control protocol). An end without a line is a crash; the log then says more.
"""

import os
import subprocess
import sys
from pathlib import Path

from ntmobile.agent.files import private_directory, unusable
from ntmobile.agent.places import LOG
from ntmobile.agent.records import Model
from ntmobile.agent.requests import Trouble, decode_answer, encode_line
from ntmobile.errors import Remedy

READY = b"ready\n"
PROGRAMS = {Model.SYSTEM: "ntmobile.agent", Model.PROXY: "ntmobile.sockets"}
"""The module that is the agent."""


def start_agent(directory: Path, model: Model = Model.SYSTEM) -> int:
    """Start an agent on a state directory and wait until its control socket answers.

    Returns its process id; raises Remedy with the agent's own words when it could not start.
    """
    private_directory(directory)
    log = _open_log(directory)
    read_end, write_end = os.pipe()
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", PROGRAMS[model], str(directory), str(write_end)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
            cwd="/",
            pass_fds=(write_end,),
        )
    finally:
        os.close(write_end)
        os.close(log)
    with open(read_end, "rb") as pipe:
        line = pipe.readline()
    if line == READY:
        # Popen must not warn of a child that is meant to outlive us.
        child.returncode = 0
        return child.pid
    child.wait()
    raise _why(line, directory)


def _open_log(directory: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(directory / LOG, flags, 0o600)
    except OSError as error:
        raise unusable(directory, error) from None


def tell(descriptor: int, trouble: Remedy | None) -> None:
    """In the child: say that the agent stands, or why not; the descriptor is closed."""
    line = READY if trouble is None else encode_line(Trouble(trouble.problem, trouble.remedy))
    with open(descriptor, "wb") as pipe:
        pipe.write(line)


def _why(line: bytes, directory: Path) -> Remedy:
    try:
        answer = decode_answer(line)
    except ValueError:
        answer = None
    if isinstance(answer, Trouble):
        return Remedy(answer.problem, remedy=answer.remedy)
    return Remedy("the agent did not start", remedy=f"read its log: {directory / LOG}")
