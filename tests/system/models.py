"""A machine of each implementation model, with the program of the conformance suite on it."""

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ntmobile.lab.host import Host
from ntmobile.lab.network import Network
from ntmobile.lab.ntm import PASSWORD, NtmNode, Organisation, World, together
from tests.system import end
from tests.system.phones import EXAMPLES, POWERLESS, Phone

PATIENCE_S = 60
"""Of a test for the program; only what is broken takes so long."""
MODELS = ("system", "framework", "vpn")


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
        """Say what to do; `answer` waits for it."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([verb, *arguments]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the next line of the program; an end without one fails."""
        line = self._said.get(timeout=PATIENCE_S)
        assert line, f"the program on {self.name} has ended"
        told: dict[str, Any] = json.loads(line)
        return told

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
