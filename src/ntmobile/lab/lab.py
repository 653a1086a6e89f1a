"""A lab: an internet, NATs and machines on one Linux host, gone when it is left."""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

from ntmobile.errors import NTMobileError
from ntmobile.lab import sweep
from ntmobile.lab.addresses import AUTO
from ntmobile.lab.behaviour import Behaviour
from ntmobile.lab.dns import ParentDns
from ntmobile.lab.errors import LabError, LabUnavailable
from ntmobile.lab.host import Host
from ntmobile.lab.impairment import Direction, Impairment, Link
from ntmobile.lab.internet import IPV4, IPV6, Internet
from ntmobile.lab.namespace import Namespace, Place
from ntmobile.lab.nat import Nat
from ntmobile.lab.nat64 import Nat64
from ntmobile.lab.network import Network, Uplink

TOOLS = ("ip", "nft", "nsenter", "unshare", "conntrack", "mount", "ethtool")
SYSTEM_DIRECTORIES = ("/usr/sbin", "/sbin")

LOG_LINES = 100
"""Of each log, where all are shown."""

NOT_ENTERED = "enter the lab first: with Lab() as lab"

_numbers = itertools.count(1)
_entered: "list[Lab]" = []


def unavailable() -> str | None:
    """Return why this process cannot run a lab, or None if it can."""
    _extend_path()
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    tried = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        why = tried.stderr.strip()
        return f"needs root, or python -m ntmobile.lab.unprivileged: {why}"
    return None


def entered() -> "tuple[Lab, ...]":
    """Return the labs of this process, oldest first."""
    return tuple(_entered)


class Lab:
    """Context manager in which networks and machines are made.

    When it is left, everything in it ends and is removed; the same when its process
    dies in whatever way, by a second process that waits for that; and what even that
    one could not remove, the next lab removes.
    """

    def __init__(self) -> None:
        """Prepare; nothing is made before the lab is entered."""
        self.name = f"ntm-{os.getpid()}-{next(_numbers)}"
        self.directory = sweep.LABS / self.name
        self.machines: dict[str, Namespace] = {}
        self.dns: ParentDns | None = None
        """Answers the names of all hosts made after it."""
        self.logs: dict[str, Callable[[], str]] = {}
        """Where to read, by title, what its programs wrote: for who wants to know what failed."""
        self._undertaker: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Remove what dead processes left, and begin; raises LabUnavailable."""
        if (reason := unavailable()) is not None:
            raise LabUnavailable(reason)
        sweep.sweep()
        sweep.claim(self.directory)
        self._undertaker = subprocess.Popen(
            [sys.executable, "-I", "-S", str(sweep.__file__), str(self.directory)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        _entered.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every process in the lab and remove the lab; an error gets the logs as a note."""
        if isinstance(error, Exception) and self.logs:
            error.add_note(self.log_tails())
        _entered.remove(self)
        for machine in self.machines.values():
            machine.stop()
        sweep.remove(self.directory)
        for machine in self.machines.values():
            machine.release()
        self.machines.clear()
        if self._undertaker is not None:
            self._undertaker.communicate()

    def log_tails(self, lines: int = LOG_LINES) -> str:
        """Return the end of every log, each under its title."""
        parts = []
        for title, read in self.logs.items():
            try:
                text = read()
            except (OSError, NTMobileError, subprocess.TimeoutExpired) as error:
                text = f"cannot be read: {error}"
            parts += [f"-- {title}", *text.splitlines()[-lines:]]
        return "\n".join(parts)

    @property
    def undertaker_pid(self) -> int:
        """The process that removes the lab should this one die."""
        if self._undertaker is None:
            raise LabError(NOT_ENTERED)
        return self._undertaker.pid

    def internet(self, name: str = "internet", *, ipv4: str = IPV4, ipv6: str = IPV6) -> Internet:
        """Make a global network that gives out addresses of these ranges."""
        return Internet(self._place(name), ipv4, ipv6)

    def nat(
        self,
        name: str,
        upstream: Network,
        behaviour: Behaviour | None = None,
        *,
        lan: str | None = None,
        ipv4: str | None = AUTO,
        mtu: int = 1500,
    ) -> Nat:
        """Make a NAT; behind another NAT, it makes the other a carrier's (CGNAT).

        By default every NAT has another network inside; give two the same `lan` to
        have them clash.
        """
        count = sum(isinstance(machine, Nat) for machine in self.machines.values())
        return Nat(
            self._place(name),
            upstream,
            behaviour or Behaviour(),
            lan=lan or f"192.168.{count + 1}.0/24",
            ipv4=ipv4,
            mtu=mtu,
        )

    def nat64(self, name: str, upstream: Network) -> Nat64:
        """Make a network of IPv6 only whose router reaches IPv4; one of them a lab."""
        return Nat64(self._place(name), upstream)

    def host(
        self,
        name: str,
        network: Network | None = None,
        *,
        ipv4: str | None = AUTO,
        ipv6: str | None = AUTO,
        mtu: int = 1500,
    ) -> Host:
        """Make a machine, plugged into `network` if one is given."""
        host = Host(self._place(name))
        if network is not None:
            host.add_uplink(network, ipv4=ipv4, ipv6=ipv6, mtu=mtu)
        if self.dns is not None:
            host.resolv_conf(*self.dns.addresses)
        return host

    def impair(
        self,
        target: Host | Nat | Uplink,
        impairment: Impairment,
        *directions: Direction,
        seed: int = 1,
    ) -> Link:
        """Impair a wire, in both directions unless told; lasts until it is removed.

        Of a machine it is the preferred uplink's, of a NAT the wire to its upstream.
        Of a wire that is impaired already, change the link.
        """
        link = Link(target if isinstance(target, Uplink) else target.uplink, seed)
        link.set(impairment, *directions)
        return link

    def dns_parent(
        self,
        zones: Mapping[str, Iterable[str]],
        network: Network,
        *,
        name: str = "dns",
        signed: bool = False,
        ipv4: str | None = AUTO,
        ipv6: str | None = AUTO,
    ) -> ParentDns:
        """Make the name server of `zones` that is every machine's resolver too.

        `zones` has, for each zone, records as master-file lines: delegations with
        their glue, and any others. Ready to answer when this returns. With `signed`
        they have DNSSEC keys, and the trust anchor is `digest()`.
        """
        host = self.host(name, network, ipv4=ipv4, ipv6=ipv6)
        self.dns = ParentDns(host, zones, signed=signed)
        self.logs["public DNS"] = self.dns.log
        for machine in self.machines.values():
            if isinstance(machine, Host):
                machine.resolv_conf(*self.dns.addresses)
        return self.dns

    def _place(self, name: str) -> Place:
        if self._undertaker is None:
            raise LabError(NOT_ENTERED)
        if name in self.machines:
            raise LabError(f"there is a machine {name} already")
        return Place(self.name, self.directory, self.machines, name)


def _extend_path() -> None:
    """Make system tools found where a user's PATH leaves their directories out."""
    parts = os.environ.get("PATH", "").split(":")
    missing = [part for part in SYSTEM_DIRECTORIES if part not in parts]
    os.environ["PATH"] = ":".join([*parts, *missing])
