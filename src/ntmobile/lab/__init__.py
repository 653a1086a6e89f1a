"""Real networks to try NTMobile in: namespaces, NATs, moves, delays, on one machine.

    with Lab() as lab:
        net = lab.internet()
        server = lab.host("server", net)
        home = lab.nat("home", net, Behaviour(filtering=Filtering.ADDRESS_DEPENDENT))
        laptop = lab.host("laptop", home)
        laptop.run(["ping", "-c", "1", str(server.ipv4)])
        laptop.move(net)

Needs Linux, and root or `python -m ntmobile.lab.unprivileged`; `unavailable()` says
why a lab cannot be had. Nothing of a lab outlives its process.
"""

from ntmobile.lab.addresses import AUTO
from ntmobile.lab.behaviour import Behaviour, Filtering, IPv6Service, Mapping, Ports
from ntmobile.lab.capture import Capture
from ntmobile.lab.dns import ParentDns
from ntmobile.lab.errors import LabError, LabUnavailable
from ntmobile.lab.host import Host
from ntmobile.lab.impairment import Direction, Impairment, Link, Statistics
from ntmobile.lab.internet import Internet
from ntmobile.lab.lab import Lab, entered, unavailable
from ntmobile.lab.namespace import Namespace
from ntmobile.lab.nat import Nat
from ntmobile.lab.nat64 import Nat64
from ntmobile.lab.network import Network, Uplink

__all__ = [
    "AUTO",
    "Behaviour",
    "Capture",
    "Direction",
    "Filtering",
    "Host",
    "IPv6Service",
    "Impairment",
    "Internet",
    "Lab",
    "LabError",
    "LabUnavailable",
    "Link",
    "Mapping",
    "Namespace",
    "Nat",
    "Nat64",
    "Network",
    "ParentDns",
    "Ports",
    "Statistics",
    "Uplink",
    "entered",
    "unavailable",
]
