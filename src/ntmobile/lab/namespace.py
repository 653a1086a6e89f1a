"""A machine of the lab: a network namespace, and a mount namespace with its own /etc.

A small process, the holder, keeps the mount namespace. ``/etc`` in it is a layer over
the real one, so what a program in the lab writes there (also by renaming, as
resolv.conf is written) stays in this machine. The system bus and systemd-resolved of
the real machine are out of reach, so that no agent under test reconfigures them.
"""

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ntmobile.lab.errors import LabError

SETTINGS = {
    "ipv4/ip_forward": "0",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/conf/all/promote_secondaries": "1",
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/accept_ra": "0",
}
"""Duplicate address detection would keep an address unusable for a second or two. An address that
is exchanged for another of its network must not take that along."""

PATIENCE_S = 180.0
"""What a command takes on a machine that is slow and does much else; more, and it hangs."""
HOLD = """
set -e
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir "$1/upper" "$1/work"
layers="lowerdir=/etc,upperdir=$1/upper,workdir=$1/work"
mount -t overlay -o "$layers" overlay /etc 2>/dev/null || {
  cp -a /etc "$1/etc"
  mount --bind "$1/etc" /etc
}
rm -f /etc/resolv.conf
: > /etc/resolv.conf
for directory in /run/dbus /run/systemd/resolve; do
  [ ! -d "$directory" ] || mount -t tmpfs -o mode=755 tmpfs "$directory"
done
ip link set lo up
echo ready
exec cat > /dev/null
"""

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a machine is made: its lab, and its name there."""

    lab: str
    directory: Path
    machines: "dict[str, Namespace]"
    """A machine enters itself here as soon as there is something to remove."""
    name: str


class Namespace:
    """A machine of the lab, without any wire yet; made by the lab, not directly."""

    def __init__(self, place: Place) -> None:
        """Make the namespaces of a machine; raises LabError if that fails."""
        self.name = place.name
        self.netns = f"{place.lab}-{place.name}"
        """The name under which ``ip netns`` knows it."""
        self._directory = place.directory / place.name
        self._directory.mkdir()
        self._children: list[subprocess.Popen[Any]] = []
        checked(["ip", "netns", "add", self.netns])
        self._holder = self._hold()
        place.machines[place.name] = self
        self.configure(SETTINGS)

    def exec_prefix(self, directory: str | None = None) -> list[str]:
        """Return what to put before a command to run it here, in `directory`.

        The process started is the command itself: no shell or helper in between, so
        its process number, signals and exit code are the command's.
        """
        target = f"/proc/{self._holder.pid}/ns/mnt"
        where = directory or os.getcwd()
        net = f"--net=/run/netns/{self.netns}"
        return ["nsenter", net, f"--mount={target}", f"--wdns={where}", "--"]

    def run(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        check: bool = True,
        input: str | None = None,
        timeout: float | None = PATIENCE_S,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command here to its end and return what it printed.

        `timeout` is in seconds. Raises LabError with the command's own words if
        `check` and its exit code is not 0, subprocess.TimeoutExpired if it hangs.
        """
        return checked(
            [*self.exec_prefix(cwd), *command],
            check=check,
            input=input,
            timeout=timeout,
            env=env,
        )

    def popen(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command here; it ends with the lab at the latest."""
        child = subprocess.Popen(
            [*self.exec_prefix(cwd), *command],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            text=True,
        )
        self._children.append(child)
        return child

    def socket(
        self,
        family: socket.AddressFamily = socket.AF_INET,
        kind: socket.SocketKind = socket.SOCK_DGRAM,
        protocol: int = 0,
    ) -> socket.socket:
        """Return a socket that lives here, for use by the calling process."""
        made: list[socket.socket | OSError] = []

        def make() -> None:
            # A thread of its own: setns changes the calling thread only, and
            # this one ends before anybody else could notice.
            try:
                enter_network(f"/run/netns/{self.netns}")
                made.append(socket.socket(family, kind, protocol))
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]

    def path(self, absolute: str) -> Path:
        """Return the path under which this machine's file is seen from outside."""
        return Path(f"/proc/{self._holder.pid}/root") / absolute.lstrip("/")

    def resolv_conf(self, *servers: str, search: str = "") -> None:
        """Make these the machine's name servers, and `search` its search domain."""
        lines = [f"nameserver {server}\n" for server in servers]
        if search:
            lines.insert(0, f"search {search}\n")
        self.path("/etc/resolv.conf").write_text("".join(lines))

    def configure(self, settings: Mapping[str, str]) -> None:
        """Write kernel settings, named by their path under ``/proc/sys/net``."""
        script = "".join(f"echo {value} > /proc/sys/net/{key}\n" for key, value in settings.items())
        self.run(["sh", "-e"], input=script)

    def kernel_table(self, name: str) -> Path:
        """Return where this machine's tables of ``/proc/net`` are read."""
        return Path(f"/proc/{self._holder.pid}/net/{name}")

    def ip(self, *lines: str) -> None:
        """Run lines of ``ip -batch`` here, all of them or LabError."""
        self.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n")

    def nft(self, rules: str) -> None:
        """Load nftables rules here, all of them or LabError."""
        self.run(["nft", "-f", "-"], input=rules)

    def offload(self, enabled: bool, interface: str = "eth0") -> None:
        """Let the interface hand over many datagrams or segments as one, or not."""
        word = "on" if enabled else "off"
        names = ("tx-udp-segmentation", "tso", "gso", "gro")
        features = [part for name in names for part in (name, word)]
        self.run(["ethtool", "-K", interface, *features])

    def stop(self) -> None:
        """End the commands started here by popen: politely, then for certain."""
        for child in self._children:
            if child.poll() is None:
                child.terminate()
        for child in self._children:
            _reap(child)
        self._children.clear()

    def release(self) -> None:
        """Forget the holder, which the sweep has ended."""
        _reap(self._holder)

    def _hold(self) -> subprocess.Popen[str]:
        net = f"--net=/run/netns/{self.netns}"
        mount = ["unshare", "--mount", "--propagation", "slave"]
        holder = subprocess.Popen(
            ["nsenter", net, *mount, "sh", "-c", HOLD, "sh", str(self._directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Ctrl-C in a terminal must reach the owner only.
            start_new_session=True,
        )
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != "ready\n":
            why = holder.stderr.read().strip()
            _reap(holder)
            raise LabError(f"cannot make the machine {self.name}: {why}")
        return holder


def checked(
    command: Sequence[str | os.PathLike[str]],
    *,
    check: bool = True,
    input: str | None = None,
    timeout: float | None = PATIENCE_S,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command; raises LabError with its own words if it fails and `check`."""
    done = subprocess.run(
        command,
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=env,
    )
    if check and done.returncode != 0:
        words = " ".join(str(word) for word in command)
        said = (done.stderr or done.stdout).strip()
        raise LabError(f"exit code {done.returncode}: {words}\n{said}")
    return done


def enter_network(path: str) -> None:
    """Put the calling thread into the network namespace; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)


def _reap(child: subprocess.Popen[Any]) -> None:
    try:
        child.wait(timeout=10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()
