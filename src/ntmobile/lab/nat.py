"""A router that translates addresses, with a network of private addresses inside."""

import json
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from ntmobile.lab.addresses import AUTO, Pool
from ntmobile.lab.behaviour import Behaviour, IPv6Service
from ntmobile.lab.errors import LabError
from ntmobile.lab.namespace import Place
from ntmobile.lab.nat_rules import LAN, WAN, rules
from ntmobile.lab.network import GATEWAY_IPV6, Network, Uplink

TRACKED = re.compile(r"^udp .*? packets=(\d+) .*? src=\S+ dst=\S+ sport=\d+ dport=(\d+) ", re.M)


@dataclass(frozen=True, slots=True)
class Flow:
    """What one machine inside sent from one port to one port outside, or got from there first."""

    outside_port: int
    packets: int
    """Of who began it, as the kernel counts them."""


class Nat(Network):
    """A NAT; the machines behind it share one link and see each other there."""

    shared_link = LAN

    def __init__(
        self,
        place: Place,
        upstream: Network,
        behaviour: Behaviour,
        *,
        lan: str,
        ipv4: str | None = AUTO,
        mtu: int = 1500,
    ) -> None:
        """Translate between the private network `lan` and `upstream`.

        `ipv4` is the outside address, `mtu` that of the wire to `upstream`.
        """
        super().__init__(place)
        self.behaviour = behaviour
        self.lan = IPv4Network(lan)
        self.pool4 = Pool(IPv4Address, self.lan)
        self.gateway4 = self.lan[1]
        has_ipv6 = behaviour.ipv6 is not IPv6Service.NONE
        self.uplink = upstream.attach(
            self, WAN, ipv4=ipv4, ipv6=AUTO if has_ipv6 else None, mtu=mtu
        )
        self.lan6 = upstream.delegate(self.uplink) if has_ipv6 else None
        self.pool6 = None if self.lan6 is None else Pool(IPv6Address, self.lan6)
        self._make_bridge()
        self._keep_rules_off_the_bridge()
        self._set_lifetimes()
        self._load()

    @property
    def outside(self) -> IPv4Address:
        """The address under which the machines inside are seen outside."""
        if self.uplink.ipv4 is None:
            raise LabError(f"{self.name} has no outside IPv4 address")
        return self.uplink.ipv4.ip

    @property
    def prefix_lengths(self) -> tuple[int, int]:
        """The machines inside share a link."""
        return self.lan.prefixlen, 64

    def connect(self, uplink: Uplink) -> None:
        """Make the wire a port of the inside link."""
        self.ip(f"link set {uplink.port} master {LAN} up")

    def abandon(self, port: str) -> None:
        """Take the port off the inside link."""
        self.ip(f"link set {port} nomaster")

    def delegate(self, uplink: Uplink, network: IPv6Network | None = None) -> IPv6Network | None:
        """Pass another network of the upstream on to a NAT inside."""
        network = self.uplink.network.delegate(self.uplink, network)
        if network is None or uplink.ipv6 is None:
            return None
        self.ip(f"route replace {network} via {uplink.ipv6.ip} dev {LAN}")
        return network

    def reboot(self, *, new_address: bool = False) -> None:
        """Forget every mapping and connection, and start again, perhaps elsewhere."""
        if new_address:
            self.uplink.network.renumber(self.uplink)
        self._load()
        self.run(["conntrack", "-F"])

    def expire(self) -> None:
        """Let all UDP mappings die, as if nothing had passed for their lifetime."""
        for name in ("mapping", "reverse"):
            self.nft(f"flush map ip lab {name}\n")
        for name in ("taken", "owned", "contacted"):
            self.nft(f"flush set ip lab {name}\n")
        # Exit code 1 says that there was nothing to delete.
        self.run(["conntrack", "-D", "-p", "udp"], check=False)

    def mappings(self) -> int:
        """Return how many outside UDP ports are in use."""
        listed = self.run(["nft", "-j", "list", "set", "ip", "lab", "taken"]).stdout
        objects = json.loads(listed)["nftables"]
        return sum(len(entry["set"].get("elem", ())) for entry in objects[1:])

    def count_packets(self) -> None:
        """From now on connections count their packets; `flows` tells them."""
        self.configure({"netfilter/nf_conntrack_acct": "1"})

    def flows(self, towards: IPv4Address) -> tuple[Flow, ...]:
        """Return the UDP connections to an address outside that are tracked.

        None without `count_packets` before. They stay for the life of an idle mapping.
        """
        command = ["conntrack", "-L", "-p", "udp", "--orig-dst", str(towards)]
        found = TRACKED.findall(self.run(command).stdout)
        return tuple(Flow(int(port), int(packets)) for packets, port in found)

    def connections(self) -> int:
        """Return how many connections of all protocols are tracked."""
        return int(self.run(["conntrack", "-C"]).stdout)

    def _make_bridge(self) -> None:
        # A fixed link address: else it changes with the ports, and the machines
        # inside lose their gateway until they ask again.
        lines = [
            f"link add {LAN} address 02:00:00:00:00:01 type bridge "
            "forward_delay 0 mcast_snooping 0",
            f"link set {LAN} up",
            f"addr add {self.gateway4}/{self.lan.prefixlen} dev {LAN}",
        ]
        if self.lan6 is not None:
            lines.append(f"addr add {GATEWAY_IPV6}/64 dev {LAN} nodad")
            lines.append(f"addr add {self.lan6[1]}/64 dev {LAN} nodad")
        self.ip(*lines)

    def _keep_rules_off_the_bridge(self) -> None:
        # Where br_netfilter is loaded (Docker does so), what machines inside send each
        # other would pass the rules for what is forwarded, and be dropped.
        if self.path("/proc/sys/net/bridge").exists():
            kinds = ("arptables", "iptables", "ip6tables")
            self.configure({f"bridge/bridge-nf-call-{kind}": "0" for kind in kinds})

    def _set_lifetimes(self) -> None:
        seconds = str(self.behaviour.udp_lifetime_s)
        name = "netfilter/nf_conntrack_udp_timeout"
        self.configure({name: seconds, f"{name}_stream": seconds})

    def _load(self) -> None:
        self.nft(rules(self.behaviour, self.outside))
