"""What a node and the program that plays its operating system say to each other, as JSON.

The node's requests, each answered by ``{"ok": true}`` or ``{"ok": false, "why": "..."}``::

    {"hello": "protect" | "control"}          first on each connection; control gets the network
    {"protect": true}          + descriptor   keep this socket out of the device
    {"configure": {...}}                      set the device up; the answer brings its descriptor
                                              when the node has none yet

Told on a control connection at its begin and at every change: ``{"network": {...} | null}``. Each
message is one packet of a SOCK_SEQPACKET socket, descriptors ride along as SCM_RIGHTS.
"""

import json
from ipaddress import ip_address, ip_network
from typing import Any

from ntmobile.vpn.configuration import Configuration, Network

LONGEST = 1 << 16
Message = dict[str, Any]


def encode(message: Message) -> bytes:
    """Return the packet of a message."""
    return json.dumps(message).encode()


def decode(packet: bytes) -> Message:
    """Return the message of a packet; raises ValueError."""
    message = json.loads(packet)
    if not isinstance(message, dict):
        raise ValueError("a message is an object")
    return message


def of_network(network: Network | None) -> Message:
    """Return the news that this is the network now."""
    if network is None:
        return {"network": None}
    return {
        "network": {
            "addresses": list(map(str, network.addresses)),
            "dns": list(map(str, network.dns)),
            "routes": list(map(str, network.routes)),
            "mtu": network.mtu,
            "interface": network.interface,
        }
    }


def network_of(message: Message) -> Network | None:
    """Return what `of_network` was given; raises ValueError, KeyError or TypeError."""
    told = message["network"]
    if told is None:
        return None
    return Network(
        addresses=tuple(map(ip_address, told["addresses"])),
        dns=tuple(map(ip_address, told["dns"])),
        routes=tuple(map(ip_network, told["routes"])),
        mtu=int(told["mtu"]),
        interface=int(told["interface"]),
    )


def of_configuration(configuration: Configuration) -> Message:
    """Return the request to set the device up so."""
    return {
        "configure": {
            "addresses": list(map(str, configuration.addresses)),
            "routes": list(map(str, configuration.routes)),
            "dns": list(map(str, configuration.dns)),
            "search": list(configuration.search),
            "mtu": configuration.mtu,
        }
    }


def configuration_of(message: Message) -> Configuration:
    """Return what `of_configuration` was given; raises ValueError, KeyError or TypeError."""
    told = message["configure"]
    return Configuration(
        addresses=tuple(map(ip_address, told["addresses"])),
        routes=tuple(map(ip_network, told["routes"])),
        dns=tuple(map(ip_address, told["dns"])),
        search=tuple(map(str, told["search"])),
        mtu=int(told["mtu"]),
    )
