"""An endpoint in the form that the socket module takes."""

import socket

from ntmobile.wire.endpoint import Endpoint

SocketAddress = tuple[str, int] | tuple[str, int, int, int]


def socket_address(endpoint: Endpoint) -> SocketAddress:
    """Return what connect and sendto take; a link-local host keeps its interface (fe80::1%eth0).

    The socket module drops the interface that an address names in its text. Raises OSError when
    that interface is gone.
    """
    host = endpoint.host
    if host.version == 4 or host.scope_id is None:
        return str(host), endpoint.port
    scope = host.scope_id
    index = int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)
    return str(host).partition("%")[0], endpoint.port, 0, index
