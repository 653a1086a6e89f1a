"""The agent as a service of systemd, with one right: CAP_NET_ADMIN.

The unit is made for one state directory below /var/lib, which systemd gives to the service's own
user at each start. What CAP_NET_ADMIN is for: the tunnel device with its addresses and routes,
the mark on the agent's own sockets, and the DNS hook's table. systemd-resolved asks polkit instead.

Source: systemd.exec(5), sysusers.d(5). Ours: docs/node.md, "As a service".
"""

import os
from dataclasses import dataclass
from pathlib import Path

from ntmobile.agent.files import write_atomically
from ntmobile.errors import Remedy

USER = "ntmobile"
STATES = Path("/var/lib")
UNITS = Path("/etc/systemd/system")
USERS = Path("/etc/sysusers.d")
RULES = Path("/etc/polkit-1/rules.d")
HOMES = ("/home/", "/root/")

_UNIT = """\
# Made by `ntm service`; own changes belong into a drop-in: systemctl edit {name}
[Unit]
Description=NTMobile node of {state}
After=network.target dbus.service systemd-resolved.service
StartLimitIntervalSec=5min
StartLimitBurst=10

[Service]
Type=exec
ExecStart={ntm} up --foreground --state {state}
Restart=on-failure
RestartSec=5s
TimeoutStopSec=15s

# Who it is, and its only right.
User={user}
CapabilityBoundingSet=CAP_NET_ADMIN
AmbientCapabilities=CAP_NET_ADMIN
NoNewPrivileges=yes

# What it may touch: its state, the tunnel device, and the settings of that device in /proc/sys/net
# (so ProtectKernelTunables, which makes them read-only, stays off).
StateDirectory={directory}
StateDirectoryMode=0700
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
DevicePolicy=closed
DeviceAllow=/dev/net/tun rw
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077

[Install]
WantedBy=multi-user.target
"""
_SYSUSERS = """\
# Made by `ntm service`.
u {user} - "NTMobile node" {states}/{user}
"""

_RULE = """\
// Made by `ntm service`: the user {user} tells systemd-resolved what the DNS of its device is.
polkit.addRule(function(action, subject) {{
    if (subject.user == "{user}" && action.id.indexOf("org.freedesktop.resolve1.") == 0) {{
        return polkit.Result.YES;
    }}
}});
"""


@dataclass(frozen=True, slots=True)
class Service:
    """The service of one state directory."""

    state: Path
    program: Path
    """The `ntm` command, absolute."""

    def __post_init__(self) -> None:
        """Raises Remedy where systemd could not give the state to the service's user."""
        if self.state.parent != STATES or self.state == STATES:
            raise Remedy(
                f"the state of a service lies in {STATES}, and {self.state} does not",
                remedy=f"ntm --state {STATES / 'ntmobile'} service unit",
            )
        words = f"{self.program} {self.state}"
        if any(character in words for character in "%\"'\\$\n") or len(words.split()) != 2:
            raise Remedy(
                f"systemd would not take {words!r} as they are",
                remedy="install ntm, and put the state, where the path has no special characters",
            )

    @property
    def name(self) -> str:
        """What `systemctl` calls it: ntmobile, or ntm-NAME for another state."""
        return USER if self.state.name == USER else f"ntm-{self.state.name}"

    @property
    def unit(self) -> str:
        """The text of the unit file."""
        at_home = str(self.program).startswith(HOMES)
        return _UNIT.format(
            name=self.name,
            state=self.state,
            directory=self.state.name,
            ntm=self.program,
            user=USER,
            home="read-only" if at_home else "yes",
        )

    @property
    def users(self) -> str:
        """The text of the sysusers.d file."""
        return _SYSUSERS.format(user=USER, states=STATES)

    @property
    def rule(self) -> str:
        """The text of the polkit rule: systemd-resolved asks polkit and not for the capability."""
        return _RULE.format(user=USER)

    def install(
        self, units: Path = UNITS, users: Path = USERS, rules: Path = RULES
    ) -> tuple[Path, ...]:
        """Write the files, for everybody to read, a rule only where polkit is; raises Remedy."""
        files = {units / f"{self.name}.service": self.unit, users / f"{USER}.conf": self.users}
        if rules.is_dir():
            files[rules / f"50-{USER}.rules"] = self.rule
        try:
            for path, text in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                # polkit reads a rule as soon as it has its name, and does not notice a new mode.
                write_atomically(path, text.encode(), mode=0o644)
        except OSError as error:
            raise Remedy(
                f"cannot write {error.filename}: {os.strerror(error.errno or 0)}",
                remedy="sudo ntm service install, or put it where you want: ntm service unit",
            ) from None
        return tuple(files)

    def remove(self, units: Path = UNITS) -> Path:
        """Remove the unit, not its user; raises Remedy when there is none."""
        path = units / f"{self.name}.service"
        try:
            path.unlink()
        except FileNotFoundError:
            raise Remedy(f"there is no {path}", remedy="ntm service install") from None
        except OSError as error:
            raise Remedy(
                f"cannot remove {path}: {error.strerror}", remedy="sudo ntm service remove"
            ) from None
        return path
