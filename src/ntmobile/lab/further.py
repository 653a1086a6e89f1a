"""An RS or NS on a machine of its own, added to an organisation that runs, as operators do it."""

import signal
import subprocess
from pathlib import Path

from ntmobile.lab.errors import LabError
from ntmobile.lab.host import Host
from ntmobile.lab.ntm import NTM, Organisation

SECTIONS = {"rs": "relay", "ns": "notifier"}
"""In `server.toml`, and after `ntm server`."""


class FurtherServer:
    """One `[[relay]]` or `[[notifier]]`, in a directory without the domain's secrets."""

    def __init__(self, organisation: Organisation, role: str, host: Host) -> None:
        """Make the directory; the machine's name is the server's. The DC is told by `SIGHUP`."""
        self.organisation = organisation
        self.role = role
        self.host = host
        self.directory = organisation.directory.with_name(
            f"{organisation.directory.name}-{host.name}"
        )
        self.process: subprocess.Popen[str] | None = None
        self._enter()
        words = ["server", SECTIONS[role], str(organisation.directory), host.name]
        organisation.host.run([NTM, *words, str(self.directory)])
        organisation.reload()

    @property
    def fqdn(self) -> str:
        """Its host name."""
        return f"{self.host.name}.{self.organisation.domain}"

    @property
    def log(self) -> Path:
        """Where its process writes its log."""
        return self.directory.with_name(f"{self.directory.name}.log")

    def start(self) -> None:
        """Start `ntm serve` without waiting for it."""
        with self.log.open("a") as log:
            command = [NTM, "serve", str(self.directory)]
            self.process = self.host.popen(command, stdout=subprocess.PIPE, stderr=log)

    def await_ready(self) -> None:
        """Wait for the line `ready`; raises LabError with the log if it does not come."""
        assert self.process is not None
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            raise LabError(f"ntm serve of {self.fqdn} failed:\n{self.log.read_text()}")

    def freeze(self) -> None:
        """Stop it in its tracks: it takes nothing more, and its connections stand."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """End its process with kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def _enter(self) -> None:
        uplink = self.host.uplink
        ends = [str(end.ip) for end in (uplink.ipv4, uplink.ipv6) if end is not None]
        addresses = ", ".join(f'"{end}"' for end in ends)
        settings = self.organisation.directory / "server.toml"
        section = f'\n[[{SECTIONS[self.role]}]]\nname = "{self.host.name}"\n'
        settings.write_text(f"{settings.read_text()}{section}addresses = [{addresses}]\n")
