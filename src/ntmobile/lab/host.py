"""A machine with uplinks that it can lose, gain and exchange."""

from ipaddress import IPv4Address, IPv6Address

from ntmobile.lab.addresses import AUTO
from ntmobile.lab.capture import Capture
from ntmobile.lab.errors import LabError
from ntmobile.lab.namespace import Namespace, Place
from ntmobile.lab.network import Network, Uplink

FIRST_METRIC = 100
STEP = 10


class Host(Namespace):
    """A machine; its first uplink is called eth0, unless told otherwise."""

    def __init__(self, place: Place) -> None:
        """Make a machine without any uplink."""
        super().__init__(place)
        self.uplinks: dict[str, Uplink] = {}
        """By interface, oldest first."""

    @property
    def ipv4(self) -> IPv4Address:
        """The IPv4 address of the preferred uplink; raises LabError if none."""
        for uplink in self._by_preference():
            if uplink.ipv4 is not None:
                return uplink.ipv4.ip
        raise LabError(f"{self.name} has no IPv4 address")

    @property
    def ipv6(self) -> IPv6Address:
        """The global IPv6 address of the preferred uplink; raises LabError if none."""
        for uplink in self._by_preference():
            if uplink.ipv6 is not None:
                return uplink.ipv6.ip
        raise LabError(f"{self.name} has no IPv6 address")

    @property
    def uplink(self) -> Uplink:
        """The preferred uplink; raises LabError if there is none."""
        for uplink in self._by_preference():
            return uplink
        raise LabError(f"{self.name} has no uplink")

    def add_uplink(
        self,
        network: Network,
        *,
        interface: str | None = None,
        ipv4: str | None = AUTO,
        ipv6: str | None = AUTO,
        mtu: int = 1500,
        metric: int | None = None,
    ) -> Uplink:
        """Plug the machine into a network; less preferred than its other uplinks."""
        name = interface or self._free_interface()
        if name in self.uplinks:
            raise LabError(f"{self.name} already has an interface {name}")
        if metric is None:
            used = [uplink.metric for uplink in self.uplinks.values()]
            metric = max(used, default=FIRST_METRIC - STEP) + STEP
        uplink = network.attach(self, name, ipv4=ipv4, ipv6=ipv6, mtu=mtu, metric=metric)
        self.uplinks[name] = uplink
        return uplink

    def drop_uplink(self, which: Uplink | str | None = None) -> None:
        """Pull an uplink out, by default the preferred one."""
        interface = self._named(which).interface
        uplink = self.uplinks.pop(interface)
        uplink.network.detach(uplink)

    def renumber(self, which: Uplink | str | None = None, *, ipv4: str = AUTO) -> None:
        """Exchange the IPv4 address of an uplink, as when a lease was not renewed."""
        uplink = self._named(which)
        uplink.network.renumber(uplink, ipv4)

    def set_carrier(self, up: bool, which: Uplink | str | None = None) -> None:
        """Pull or replace the plug of an uplink, whose interface stays."""
        uplink = self._named(which)
        uplink.network.set_carrier(uplink, up)

    def move(
        self,
        to: Network,
        *,
        keep_old: bool = False,
        interface: str | None = None,
        ipv4: str | None = AUTO,
        ipv6: str | None = AUTO,
        mtu: int = 1500,
    ) -> Uplink:
        """Leave every network for another one; returns the new uplink.

        With `keep_old` the old uplinks stay, less preferred, and the new one gets a
        new interface; without, they go first and the new one takes the name of the
        preferred one, as with a laptop that joins another Wi-Fi. Everything else of
        the machine, its processes and sockets, stays.
        """
        metric = FIRST_METRIC
        if keep_old:
            used = [uplink.metric for uplink in self.uplinks.values()]
            metric = min(used, default=FIRST_METRIC + STEP) - STEP
        elif self.uplinks:
            interface = interface or self.uplink.interface
            for old in list(self.uplinks):
                self.drop_uplink(old)
        return self.add_uplink(
            to, interface=interface, ipv4=ipv4, ipv6=ipv6, mtu=mtu, metric=metric
        )

    def capture(self, expression: str = "") -> Capture:
        """Record packets that match a tcpdump expression; ready when it returns."""
        return Capture(self, expression)

    def _by_preference(self) -> list[Uplink]:
        return sorted(self.uplinks.values(), key=lambda uplink: uplink.metric)

    def _named(self, which: Uplink | str | None) -> Uplink:
        if isinstance(which, Uplink):
            return which
        return self.uplink if which is None else self.uplinks[which]

    def _free_interface(self) -> str:
        number = 0
        while f"eth{number}" in self.uplinks:
            number += 1
        return f"eth{number}"
