"""A network with IPv6 only, behind a router that reaches IPv4 for it: NAT64 (RFC 6146), by tayga.

The lab's DNS is its DNS64 (RFC 6147): machines in here get IPv6 addresses under `PREFIX` for names
that have IPv4 ones only, and find the prefix itself by asking for ipv4only.arpa (RFC 7050).
"""

import subprocess
from ipaddress import IPv4Network, IPv6Address, IPv6Network

from ntmobile.lab.addresses import AUTO, Pool
from ntmobile.lab.namespace import Place
from ntmobile.lab.nat_rules import LAN, WAN
from ntmobile.lab.network import GATEWAY_IPV6, Network, Uplink
from ntmobile.lab.waiting import wait_until

PREFIX = IPv6Network("2001:db8:64:ff9b::/96")
INSIDE = IPv6Network("2001:db8:6464::/64")
"""Whom the lab's DNS takes for a machine behind a NAT64: one such network a lab."""
POOL = IPv4Network("192.168.64.0/24")
"""Between tayga, which maps one address to one, and the translation to the one outside."""
DEVICE = "nat64"
CONFIGURATION = f"""
tun-device {DEVICE}
ipv4-addr {POOL[1]}
ipv6-addr {INSIDE[2]}
prefix {PREFIX}
dynamic-pool {POOL}
"""
RULES = f"""
table ip lab {{
  chain translate {{
    type nat hook postrouting priority srcnat;
    ip saddr {POOL} oifname {WAN} masquerade
  }}
}}
"""


class Nat64(Network):
    """The router; the machines behind it share one link."""

    shared_link = LAN

    def __init__(self, place: Place, upstream: Network) -> None:
        """Needs an upstream with both families."""
        super().__init__(place)
        self.pool4 = None
        self.gateway4 = None
        self.pool6 = Pool(IPv6Address, INSIDE)
        for _ in range(2):  # The router's own and tayga's.
            self.pool6.take(AUTO)
        self.uplink = upstream.attach(self, WAN)
        upstream.delegate(self.uplink, INSIDE)
        self.ip(
            f"link add {LAN} address 02:00:00:00:00:64 type bridge "
            "forward_delay 0 mcast_snooping 0",
            f"link set {LAN} up",
            f"addr add {GATEWAY_IPV6}/64 dev {LAN} nodad",
            f"addr add {INSIDE[1]}/64 dev {LAN} nodad",
        )
        self._start_tayga()

    @property
    def prefix_lengths(self) -> tuple[int, int]:
        """The machines inside share a link."""
        return 32, INSIDE.prefixlen

    def connect(self, uplink: Uplink) -> None:
        """Make the wire a port of the inside link."""
        self.ip(f"link set {uplink.port} master {LAN} up")

    def abandon(self, port: str) -> None:
        """Take the port off the inside link."""
        self.ip(f"link set {port} nomaster")

    def delegate(self, uplink: Uplink, network: IPv6Network | None = None) -> IPv6Network | None:
        """Nothing can be passed on."""
        return None

    def _start_tayga(self) -> None:
        self.path("/etc/lab-tayga.conf").write_text(CONFIGURATION)
        command = ["tayga", "--nodetach", "--config", "/etc/lab-tayga.conf"]
        self.run(["tayga", "--mktun", "--config", "/etc/lab-tayga.conf"])
        self.ip(
            f"link set {DEVICE} up",
            f"route add {POOL} dev {DEVICE}",
            f"route add {PREFIX} dev {DEVICE}",
        )
        self.nft(RULES)
        self.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        state = self.path(f"/sys/class/net/{DEVICE}/carrier")
        wait_until(lambda: state.read_text() == "1\n", "tayga to take its device")
