"""Network namespaces of a test's own, for what the agent does to the operating system."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from pyroute2 import netns

PREFIX = "ntmt-"
NUMBERS = count()


class Namespace:
    """A network namespace with its loopback up."""

    def __init__(self) -> None:
        self.name = f"{PREFIX}{os.getpid()}-{next(NUMBERS)}"
        command("ip", "netns", "add", self.name)
        self.ip("link set lo up")

    def ip(self, arguments: str) -> str:
        return command("ip", "-n", self.name, *arguments.split())

    def run(self, *arguments: str, check: bool = True) -> str:
        return command("ip", "netns", "exec", self.name, *arguments, check=check)

    def popen(self, *arguments: str, **options: object) -> "subprocess.Popen[str]":
        line = ("ip", "netns", "exec", self.name, *arguments)
        return subprocess.Popen(line, text=True, **options)  # type: ignore[call-overload, no-any-return]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and what it opens, is inside."""
        with open("/proc/thread-self/ns/net") as home:
            netns.setns(self.name)
            try:
                yield
            finally:
                netns.setns(home.fileno())

    def remove(self) -> None:
        command("ip", "netns", "del", self.name, check=False)


def command(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)
    assert not check or done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


def sweep() -> None:
    """Removes what a killed run left."""
    for path in Path("/run/netns").glob(f"{PREFIX}*"):
        if not Path("/proc", path.name.split("-")[1]).exists():
            command("ip", "netns", "del", path.name, check=False)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A namespace that the test runs outside of."""
    if os.geteuid() != 0:
        pytest.skip("needs root to make a network namespace")
    sweep()
    made = Namespace()
    yield made
    made.remove()


@pytest.fixture
def inside(namespace: Namespace) -> Iterator[Namespace]:
    """A namespace that the test's thread runs inside of."""
    with namespace.entered():
        yield namespace
