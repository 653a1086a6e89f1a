"""Runs a test program on a file system of its own that is soon full."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
Seen = dict[str, dict[str, list[str]]]
"""By operation: `reasons` of each failure, and `faults` that were found."""


def run_on_small_disk(module: str, directory: Path) -> Seen:
    """Run a module with a tmpfs of 2 MB as its argument; returns the JSON that it printed."""
    done = on_small_disk(directory, "-m", module)
    assert done.returncode == 0, done.stderr
    found: Seen = json.loads(done.stdout)
    return found


def on_small_disk(directory: Path, *program: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with a tmpfs of 2 MB at the directory, which is the last argument.

    Needs root; nobody else sees that mount, which ends with the program.
    """
    mount = f'mount -t tmpfs -o size=2m ntm-test {directory} && exec "$@"'
    inside = [sys.executable, "-W", "error", *program, str(directory)]
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", *inside],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
    )
