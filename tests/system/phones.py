"""A machine whose operating system has a VPN service, and the node without rights on it."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ntmobile.lab.host import Host
from ntmobile.lab.ntm import PASSWORD, Organisation

EXAMPLES = Path(__file__).parents[2] / "examples"
NOBODY = 65534
POWERLESS = [
    "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    "--bounding-set=-all",
    "--inh-caps=-all",
]


@dataclass
class Phone:
    """A machine whose operating system has a VPN service; the node on it is nobody's."""

    name: str
    user: str
    organisation: Organisation
    host: Host
    directory: Path

    @property
    def fqdn(self) -> str:
        return f"{self.name}.{self.user}.{self.organisation.domain}"

    @property
    def socket(self) -> Path:
        return self.directory.with_name(f"{self.name}.vpn")

    def login(self) -> None:
        if self.user not in self.organisation.users:
            self.organisation.add_user(self.user)
        self.directory.mkdir()
        os.chown(self.directory, NOBODY, NOBODY)
        ca = shutil.copy(self.organisation.directory / "ca.pem", self.directory / "ca.pem")
        who = f"{self.user}@{self.organisation.domain}"
        example = [sys.executable, str(EXAMPLES / "login.py"), str(self.directory)]
        self.host.run([*POWERLESS, *example, who, self.name, str(ca)], input=PASSWORD + "\n")

    def start_system(self, *options: str) -> "subprocess.Popen[str]":
        """Start what plays the operating system."""
        program = [sys.executable, "-m", "ntmobile.vpn.linux", str(self.socket)]
        return self._await([*program, "--user", str(NOBODY), *options], "ready")

    def start_node(self) -> "subprocess.Popen[str]":
        return self._await(self.command(EXAMPLES / "vpn_node.py"), self.fqdn)

    def command(self, program: Path) -> list[str]:
        """Return what runs a program on this machine's node."""
        return [*POWERLESS, sys.executable, str(program), str(self.directory), str(self.socket)]

    def curl(self, url: str, *options: str, check: bool = True) -> str:
        command = ["curl", "-sS", "--fail", "--noproxy", "*", "--max-time", "60", *options, url]
        return self.host.run(command, check=check).stdout

    def _await(self, command: list[str], line: str) -> "subprocess.Popen[str]":
        process = self.host.popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == f"{line}\n"
        return process
