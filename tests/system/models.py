"""A machine of each implementation model, with the program of the conformance suite on it."""

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ntmobile.lab.host import Host
from ntmobile.lab.network import Network
from ntmobile.lab.ntm import PASSWORD, NtmNode, Organisation, World, together
from tests.system import end
from tests.system.phones import EXAMPLES, POWERLESS, Phone

PATIENCE_S = 180
"""Of a test for the program; only what is broken takes so long."""
MODELS = ("system", "framework", "vpn")
NUMBERS = count(1)
"""Of questions."""


@dataclass
class Machine:
    """One of them; `ask` has its program do something."""

    model: str
    name: str
    user: str
    organisation: Organisation
    host: Host
    state: Path
    process: "subprocess.Popen[str] | None" = None
    _said: "queue.Queue[str]" = field(default_factory=queue.Queue)
    _question: list[object] = field(default_factory=lambda: [0, "serve"])
    """The last, with its number."""

    @property
    def fqdn(self) -> str:
        return f"{self.name}.{self.user}.{self.organisation.domain}"

    def begin(self) -> None:
        """Bring the node up, and start the program on it."""
        match self.model:
            case "system":
                NtmNode(self.name, self.user, self.organisation, self.host, self.state).up()
            case "framework":
                self._log_in()
            case "vpn":
                phone = Phone(self.name, self.user, self.organisation, self.host, self.state)
                phone.login()
                phone.start_system()
                phone.start_node()
        self._start(["node", str(self.state)] if self.model == "framework" else ["sockets"])

    def ask(self, verb: str, *arguments: object) -> dict[str, Any]:
        """Return what the program answers."""
        self.begin_asking(verb, *arguments)
        return self.answer()

    def begin_asking(self, verb: str, *arguments: object) -> None:
        """Say what to do instead of all before it; `answer` waits for it."""
        assert self.process is not None
        assert self.process.stdin is not None
        self._question = [next(NUMBERS), verb, *arguments]
        self.process.stdin.write(json.dumps(self._question) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the next answer to the last question; fails if there is none, or a failure.

        What comes to a question before it, which a test gave up, is passed over.
        """
        ends_at = time.perf_counter() + PATIENCE_S
        while True:
            number, told = self._next(ends_at - time.perf_counter())
            if number == self._question[0]:
                assert "failed" not in told, f"{self._question} on {self.name}:\n{told['failed']}"
                return told

    def _next(self, timeout_s: float) -> tuple[int, dict[str, Any]]:
        try:
            line = self._said.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            pytest.fail(f"{self._question} on {self.name}: no answer in {PATIENCE_S} s")
        if not line:
            self._said.put(line)
            pytest.fail(f"the program on {self.name} has ended")
        number, told = json.loads(line)
        return number, told

    def _listen(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(line)
        self._said.put("")

    def _log_in(self) -> None:
        self.state.mkdir()
        os.chown(self.state, 65534, 65534)
        ca = shutil.copy(self.organisation.directory / "ca.pem", self.state / "ca.pem")
        who = f"{self.user}@{self.organisation.domain}"
        example = [sys.executable, str(EXAMPLES / "login.py"), str(self.state), who, self.name, ca]
        self.host.run([*POWERLESS, *map(str, example)], input=PASSWORD + "\n")

    def _start(self, words: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        command = [*POWERLESS, sys.executable, end.__file__, *words]
        self.process = self.host.popen(command, stdin=pipe, stdout=pipe)
        threading.Thread(target=self._listen, daemon=True).start()
        assert self.answer() == {"ready": True}


def machines(
    world: World, organisation: Organisation, user: str, network: Network
) -> dict[str, Machine]:
    """Return a machine of each model, of one user in one network; none is up yet."""
    with suppress(FileExistsError):
        os.chmod(world.directory, 0o755)
    organisation.add_user(user)
    made = {}
    for model in MODELS:
        name = f"{model}-{user}"
        host = world.lab.host(name, network)
        state = world.directory / f"state-{name}"
        made[model] = Machine(model, name, user, organisation, host, state)
    return made


def begin(*all_of_them: Machine) -> None:
    """Bring machines up, several at once."""
    together(Machine.begin, all_of_them)
