"""Squid, the HTTP proxy of many a company, on a machine of the lab."""

import subprocess
from pathlib import Path

from ntmobile.lab.host import Host
from tests.system.programs import await_listening

PORT = 3128
USER, PASSWORD = "alice", "open sesame"
SETTINGS = """
http_port {port}
auth_param basic program /usr/lib/squid/basic_ncsa_auth /etc/lab-squid.users
auth_param basic realm the company
acl staff proxy_auth REQUIRED
acl open port {ports}
http_access allow CONNECT staff open
http_access deny all
pid_filename none
cache deny all
access_log stdio:{log}
cache_log /dev/null
cache_store_log none
netdb_filename none
shutdown_lifetime 0 seconds
"""


class Squid:
    """A proxy that lets only CONNECT through, and only for one user."""

    def __init__(self, host: Host, log: Path, *, port: int = PORT, only_443: bool = False) -> None:
        """Start it; returns when it listens. With only_443 it connects to that port alone."""
        log.touch()
        log.chmod(0o666)
        self._log = log
        hashed = host.run(["openssl", "passwd", "-apr1", PASSWORD]).stdout.strip()
        host.path("/etc/lab-squid.users").write_text(f"{USER}:{hashed}\n")
        ports = "443" if only_443 else "1-65535"
        file = f"/etc/lab-squid-{port}.conf"
        host.path(file).write_text(SETTINGS.format(port=port, ports=ports, log=log))
        quiet = subprocess.DEVNULL
        host.popen(["squid", "-N", "-f", file], stdout=quiet, stderr=quiet)
        await_listening(host, port)

    def log(self) -> str:
        """What it let through, and what not."""
        return self._log.read_text()
