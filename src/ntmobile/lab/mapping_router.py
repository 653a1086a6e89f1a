"""A NAT that lets the machines inside ask for ports: miniupnpd, as on real home routers."""

import subprocess
from pathlib import Path

from ntmobile.lab.errors import LabError
from ntmobile.lab.nat import Nat
from ntmobile.lab.nat_rules import LAN, WAN

PUBLIC = "193.0.0.7"
"""For the NAT's outside: miniupnpd serves no port at an address that is reserved, as those of
documentation are. In a lab any address can be given to any machine."""
TABLE = "miniupnpd"
_RULES = f"""
table inet {TABLE} {{
  chain forward_hook {{ type filter hook forward priority filter - 5; jump forward; }}
  chain forward {{ }}
  chain prerouting_hook {{ type nat hook prerouting priority dstnat - 10; jump prerouting; }}
  chain prerouting {{ }}
  chain postrouting_hook {{ type nat hook postrouting priority srcnat - 10; jump postrouting; }}
  chain postrouting {{ }}
}}
"""
_SETTINGS = f"""
ext_ifname={WAN}
listening_ip={LAN}
secure_mode=yes
min_lifetime=60
max_lifetime=86400
uuid=00000000-0000-4000-8000-000000000001
upnp_table_name={TABLE}
upnp_nat_table_name={TABLE}
upnp_forward_chain=forward
upnp_nat_chain=prerouting
upnp_nat_postrouting_chain=postrouting
allow 1024-65535 0.0.0.0/0 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


class MappingRouter:
    """miniupnpd on a NAT whose outside address is PUBLIC, or another that is not reserved."""

    def __init__(self, nat: Nat, directory: Path, *, pcp: bool = True, upnp: bool = True) -> None:
        """Start it. PCP includes NAT-PMP."""
        self._nat = nat
        self._settings = directory / f"miniupnpd-{nat.name}.conf"
        self._log = self._settings.with_suffix(".log")
        speaks = {True: "yes", False: "no"}
        protocols = f"enable_natpmp={speaks[pcp]}\nenable_upnp={speaks[upnp]}\n"
        self._settings.write_text(_SETTINGS + protocols)
        self._process = self._start()

    @property
    def log(self) -> str:
        """What it says."""
        return self._log.read_text()

    def ports(self) -> list[str]:
        """Return the rules that lead inside."""
        listed = self._nat.run(["nft", "list", "chain", "inet", TABLE, "prerouting"]).stdout
        return [line.strip() for line in listed.splitlines() if "dnat" in line]

    def restart(self) -> None:
        """Lose all mappings, as in a power cut, and come back."""
        self.stop()
        self._nat.nft(f"delete table inet {TABLE}\n")
        self._process = self._start()

    def stop(self) -> None:
        """End it; what is mapped stays mapped."""
        self._process.kill()
        self._process.wait()

    def _start(self) -> "subprocess.Popen[str]":
        self._nat.nft(_RULES)
        command = ["miniupnpd", "-d", "-f", str(self._settings)]
        command += ["-P", str(self._settings.with_suffix(".pid"))]
        with self._log.open("w") as log:
            process = self._nat.popen(command, stdout=log, stderr=subprocess.STDOUT)
        if process.poll() is not None:
            raise LabError(f"miniupnpd does not run:\n{self.log}")
        return process
