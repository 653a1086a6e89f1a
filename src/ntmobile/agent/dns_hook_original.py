"""Where a redirected query was going: asked of the kernel's connection tracking.

With it the stub forwards a query to the very server that the application chose.

Source: linux/netfilter/nfnetlink_conntrack.h.
"""

import socket
import struct
from ipaddress import ip_address

from ntmobile.agent.netlink import ERROR, HEADER, NESTED, REQUEST, attribute, attributes
from ntmobile.wire.endpoint import Endpoint

_NETLINK_NETFILTER = 12
_CONNTRACK_GET = 1 << 8 | 1
_TUPLE_ORIGINAL, _TUPLE_REPLY = 1, 2
_TUPLE_IP, _TUPLE_PROTOCOL = 1, 2
_PROTOCOL_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_IP_ATTRIBUTES = {4: (1, 2), 6: (3, 4)}
"""Source and destination address of a tuple, by IP version."""


class OriginalDestination:
    """Looks up redirected flows of the network namespace in which it was made."""

    def __init__(self) -> None:
        """Raises OSError when the kernel has no connection tracking to ask."""
        self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._kernel.settimeout(0.1)
        self._kernel.bind((0, 0))

    def find(self, protocol: int, client: Endpoint, stub: Endpoint) -> Endpoint | None:
        """Returns the destination before the redirect, None when there was no redirect.

        protocol is an IP protocol number; client and stub are the ends as the stub sees them.
        The kernel answers within the call.
        """
        family = socket.AF_INET if client.version == 4 else socket.AF_INET6
        # The stub answers from `stub` to `client`: that is the reply direction of the flow.
        query = attribute(_TUPLE_REPLY | NESTED, _tuple(protocol, stub, client))
        body = struct.pack("=BBH", family, 0, 0) + query
        header = HEADER.pack(HEADER.size + len(body), _CONNTRACK_GET, REQUEST, 1, 0)
        try:
            self._kernel.send(header + body)
            answer = self._kernel.recv(1 << 16)
        except OSError:
            return None
        found = _original(answer, client.version)
        return None if found == stub else found

    def close(self) -> None:
        """Frees the socket."""
        self._kernel.close()


def _tuple(protocol: int, source: Endpoint, destination: Endpoint) -> bytes:
    source_kind, destination_kind = _IP_ATTRIBUTES[source.version]
    addresses = attribute(source_kind, source.host.packed)
    addresses += attribute(destination_kind, destination.host.packed)
    ports = attribute(_PROTOCOL_NUMBER, bytes([protocol]))
    ports += attribute(_SOURCE_PORT, source.port.to_bytes(2))
    ports += attribute(_DESTINATION_PORT, destination.port.to_bytes(2))
    return attribute(_TUPLE_IP | NESTED, addresses) + attribute(_TUPLE_PROTOCOL | NESTED, ports)


def _original(answer: bytes, version: int) -> Endpoint | None:
    _, kind, _, _, _ = HEADER.unpack_from(answer)
    if kind == ERROR:
        return None
    flow = attributes(answer[HEADER.size + 4 :])
    ends = attributes(flow.get(_TUPLE_ORIGINAL, b""))
    host = attributes(ends.get(_TUPLE_IP, b"")).get(_IP_ATTRIBUTES[version][1])
    port = attributes(ends.get(_TUPLE_PROTOCOL, b"")).get(_DESTINATION_PORT)
    if host is None or port is None:
        return None
    return Endpoint(ip_address(host), int.from_bytes(port))
