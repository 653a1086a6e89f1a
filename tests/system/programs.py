"""Unmodified programs, the same as on anybody's machine, and the servers they talk to."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from ntmobile.lab.errors import LabError
from ntmobile.lab.host import Host
from ntmobile.lab.namespace import Namespace
from ntmobile.lab.ntm import NtmNode
from ntmobile.lab.waiting import wait_until
from tests.system import paced_web

WEB, PACED, SSH, IPERF = 80, 8081, 22, 5201
PATIENCE_S = 60
"""Of a program that connects: far more than any path here needs, also on a busy machine, and less
than a machine of the lab gives a command."""
HELLO = "hello from the other end\n"

SSHD = """
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
UseDNS no
PermitRootLogin prohibit-password
"""


class Programs:
    """Servers on nodes, and the commands that reach them; shares one folder of files."""

    def __init__(self, folder: Path) -> None:
        """Makes throw-away keys for ssh; `folder` is served by the web servers."""
        self.folder = folder
        self._keys = folder.with_name(f"{folder.name}-ssh")
        folder.mkdir(parents=True)
        self._keys.mkdir()
        for name in ("host_key", "user_key"):
            file = str(self._keys / name)
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
        (folder / "hello.txt").write_text(HELLO)

    def serve(self, host: Host) -> None:
        """Start a web server, sshd and iperf3 on a machine; returns when all answer."""
        self.serve_web(host)
        self.serve_ssh(host)
        host.popen(["iperf3", "--server"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await_listening(host, IPERF)

    def serve_web(self, host: Host) -> None:
        """Start a web server for the folder."""
        command = [sys.executable, "-m", "http.server", str(WEB), "--bind", "::"]
        quiet = subprocess.DEVNULL
        host.popen([*command, "--directory", str(self.folder)], stdout=quiet, stderr=quiet)
        await_listening(host, WEB)

    def serve_paced(self, host: Host, bytes_per_second: int) -> None:
        """Start a web server for the folder that sends at an even pace, on port PACED."""
        arguments = [str(self.folder), str(PACED), str(bytes_per_second)]
        host.popen([sys.executable, paced_web.__file__, *arguments], stderr=subprocess.DEVNULL)
        await_listening(host, PACED)

    def serve_ssh(self, host: Host) -> None:
        """Start sshd."""
        settings = self._keys / "sshd_config"
        settings.write_text(SSHD.format(port=SSH, folder=self._keys))
        sshd = shutil.which("sshd") or "/usr/sbin/sshd"
        # Where sshd keeps its unprivileged half; other labs may have made it already.
        host.run(["mkdir", "-p", "/run/sshd"])
        host.popen([sshd, "-D", "-f", str(settings)], stderr=subprocess.DEVNULL)
        await_listening(host, SSH)

    def ssh(self, name: str, *command: str, family: str = "-4") -> list[str]:
        """Return the command that runs `command` on the machine of that name."""
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": str(PATIENCE_S),
            "LogLevel": "ERROR",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        key = str(self._keys / "user_key")
        return ["ssh", "-F", "none", family, "-i", key, *words, f"root@{name}", *command]


def await_listening(host: Namespace, port: int) -> None:
    """Wait until something listens on a TCP port of a machine."""

    def answers() -> bool:
        with host.socket(kind=socket.SOCK_STREAM) as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_until(answers, f"port {port} of {host.name}", timeout_s=120)


def fetch(mn: NtmNode, cn: NtmNode, family: str, *, patience_s: float = PATIENCE_S) -> str:
    """Return the peer's hello.txt, by curl; raises LabError."""
    command = ["curl", family, "-sS", "--fail", "--noproxy", "*", "--max-time", str(patience_s)]
    return mn.host.run([*command, f"http://{cn.fqdn}/hello.txt"]).stdout


def ping(mn: NtmNode, cn: NtmNode, family: str) -> str:
    """Return what ping says of one answer; raises LabError without one."""
    return mn.host.run(["ping", family, "-c", "1", "-W", str(PATIENCE_S), cn.fqdn]).stdout


def iperf(mn: NtmNode, cn: NtmNode, family: str, *words: str) -> dict[str, float]:
    """Return what the receiver of an iperf3 run counted; raises LabError."""
    command = ["iperf3", family, "--client", cn.fqdn, "--json", *words]
    report = json.loads(mn.host.run(command).stdout)
    received: dict[str, float] = report["end"]["sum_received"]
    return received


def dig(mn: NtmNode, name: str, kind: str) -> list[str]:
    """Return the addresses that dig prints for a name."""
    return mn.host.run(
        ["dig", "+short", "+tries=1", f"+time={PATIENCE_S}", kind, name]
    ).stdout.split()


def getent(mn: NtmNode, name: str, family: str) -> set[str]:
    """Return the addresses that the C library finds for a name; raises LabError for none."""
    database = {"-4": "ahostsv4", "-6": "ahostsv6"}[family]
    lines = mn.host.run(["getent", database, name]).stdout.splitlines()
    return {str(ip_address(line.split()[0])) for line in lines}


def fails(act: Callable[[], object]) -> bool:
    """Whether a program does not succeed."""
    try:
        act()
    except LabError:
        return True
    return False
