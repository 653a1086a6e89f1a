"""Removes a lab: every process in it, its namespaces, its directory.

Also run as a program, by path and without the package (so it imports nothing of
it): it then waits until its standard input closes, which the kernel does when the
lab's owner dies however it dies, and removes the owner's lab.

A lab is a directory ``/run/ntmobile-lab/<lab>`` with the file ``owner`` in it, and
the network namespaces ``<lab>-<name>``. Its processes are known by the network
namespace they are in, so that a daemon that left its parents is found as well.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

LABS = Path("/run/ntmobile-lab")
NAMESPACES = Path("/run/netns")
HIDDEN = "."
"""What a lab's directory begins with until its owner is written down."""


def owner_mark(pid: int) -> str:
    """Return the process's number and start time, which no later process shares."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    # The name, in brackets, may hold blanks: count the fields behind it.
    start_time = stat.rpartition(")")[2].split()[19]
    return f"{pid} {start_time}"


def claim(directory: Path) -> None:
    """Make the directory of a lab of this process."""
    # It appears with its owner in it: without one, another process would sweep it away.
    prepared = directory.with_name(f"{HIDDEN}{directory.name}")
    prepared.mkdir(parents=True)
    (prepared / "owner").write_text(owner_mark(os.getpid()))
    prepared.rename(directory)


def is_abandoned(directory: Path) -> bool:
    """Say whether the process that made the lab is gone."""
    try:
        mark = (directory / "owner").read_text()
        return owner_mark(int(mark.split()[0])) != mark
    except (FileNotFoundError, ProcessLookupError):
        return True


def sweep() -> list[str]:
    """Remove every lab whose owner is gone; returns their names."""
    if not LABS.is_dir():
        return []
    labs = [lab for lab in LABS.iterdir() if not lab.name.startswith(HIDDEN)]
    abandoned = [lab for lab in labs if is_abandoned(lab)]
    for directory in abandoned:
        remove(directory)
    return [directory.name for directory in abandoned]


def remove(directory: Path) -> None:
    """Remove one lab; what is gone already does not disturb."""
    namespaces = namespaces_of(directory.name)
    inodes = set(filter(None, map(inode_of, namespaces)))
    while processes := processes_in(inodes):
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _await_end(processes)
    for path in namespaces:
        subprocess.run(["ip", "netns", "del", path.name], stderr=subprocess.DEVNULL)
    shutil.rmtree(directory, ignore_errors=True)


def namespaces_of(lab: str) -> list[Path]:
    """Return the paths of a lab's network namespaces."""
    return sorted(NAMESPACES.glob(f"{lab}-*")) if NAMESPACES.is_dir() else []


def inode_of(path: Path) -> int | None:
    """Return the number of a file, None when somebody else removed it just now."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def processes_in(inodes: set[int]) -> list[int]:
    """Return the living processes that are in one of these network namespaces."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if os.stat(f"{entry.path}/ns/net").st_ino in inodes:
                found.append(int(entry.name))
    return found


def _await_end(processes: list[int]) -> None:
    for pid in processes:
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(pid)
            try:
                select.select([handle], [], [], 2)
            finally:
                os.close(handle)


def main() -> None:
    """Wait for the owner's end, then remove its lab."""
    sys.stdin.buffer.read()
    directory = Path(sys.argv[1])
    if directory.is_dir():
        remove(directory)


if __name__ == "__main__":
    main()
