"""The systemd-resolved of Debian on a private system bus, in one machine of the lab."""

import os
import shutil
import subprocess
from pathlib import Path

from ntmobile.lab.host import Host
from ntmobile.lab.waiting import wait_until

REPOSITORY = Path(__file__).parents[2]
PLACES = (Path("/"), REPOSITORY / "build" / "resolved")
"""Installed, or unpacked by scripts/system-tools, because installing it rewrites resolv.conf."""
DAEMON, CONTROL = "lib/systemd/systemd-resolved", "usr/bin/resolvectl"
POLICY = "usr/share/dbus-1/system.d/org.freedesktop.resolve1.conf"
ACTIONS = "usr/share/polkit-1/actions/org.freedesktop.resolve1.policy"
POLKIT = "/usr/lib/polkit-1/polkitd"
USER = "systemd-resolve:x:4722:4722::/:/usr/sbin/nologin"
BUS = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <auth>EXTERNAL</auth>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  <include>{policy}</include>
  <include ignore_missing="yes">/usr/share/dbus-1/system.d/org.freedesktop.PolicyKit1.conf</include>
</busconfig>
"""
"""As Debian's system.conf, on another socket."""
PREPARE = """
mount -t tmpfs -o mode=755 tmpfs /run/dbus
mount -t tmpfs -o mode=755 tmpfs /run/systemd
mkdir /run/systemd/resolve
grep -q ^systemd-resolve: /etc/passwd || {
  echo "$1" >> /etc/passwd
  echo systemd-resolve:x:4722: >> /etc/group
}
chown systemd-resolve: /run/systemd/resolve
if [ -d /usr/share/polkit-1/actions ]; then
  mount -t tmpfs -o mode=755 tmpfs /usr/share/polkit-1/actions
  cp "$3" /usr/share/polkit-1/actions
fi
mkdir -p /etc/systemd
printf '[Resolve]\\nDNS=%s\\nLLMNR=no\\nMulticastDNS=no\\n' "$2" > /etc/systemd/resolved.conf
rm -f /etc/resolv.conf
ln -s /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
"""


def unavailable() -> str | None:
    """Why there is none, or None."""
    if shutil.which("dbus-daemon") is None:
        return "dbus-daemon is not installed"
    return None if _place() is not None else "no systemd-resolved: scripts/system-tools unpacks it"


class Resolved:
    """Runs on a machine until its lab ends; its resolv.conf then names it alone."""

    def __init__(self, host: Host, server: str) -> None:
        """The server is what its uplinks' configuration named."""
        place = _place()
        assert place is not None
        self._host, self._place = host, place
        host.run(["sh", "-ec", PREPARE, "sh", USER, server, str(place / ACTIONS)])
        config = host.path("/run/dbus/ntm.conf")
        config.write_text(BUS.format(policy=place / POLICY))
        quiet = subprocess.DEVNULL
        bus = ["dbus-daemon", "--config-file=/run/dbus/ntm.conf", "--nofork"]
        host.popen(bus, stdout=quiet, stderr=quiet)
        wait_until(host.path("/run/dbus/system_bus_socket").exists, "the system bus")
        if Path(POLKIT).exists():
            host.popen([POLKIT, "--no-debug"], stdout=quiet, stderr=quiet)
        self._daemon = self._start()

    def kill(self) -> None:
        """End it as a crash would, and start it again."""
        self._daemon.kill()
        self._daemon.wait()
        self._daemon = self._start()

    def control(self, *words: str) -> str:
        """Run `resolvectl` and return what it printed."""
        return self._host.run([str(self._place / CONTROL), "--no-pager", *words]).stdout

    def _start(self) -> "subprocess.Popen[str]":
        environment = {**os.environ, "SYSTEMD_LOG_TARGET": "null"}
        daemon = self._host.popen([str(self._place / DAEMON)], env=environment)
        asked = [str(self._place / CONTROL), "--no-pager", "status"]
        wait_until(
            lambda: self._host.run(asked, check=False).returncode == 0, "systemd-resolved", 120
        )
        return daemon


def _place() -> Path | None:
    return next((each for each in PLACES if (each / DAEMON).exists()), None)
