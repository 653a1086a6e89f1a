"""On which local addresses the servers listen, and what to say when they cannot.

Ours: NATs drop an answer that leaves from another address than was asked, so a UDP port is bound
to the one address of its family, and remembers who asked where when there are several.
"""

import errno
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ntmobile.errors import Remedy
from ntmobile.wire.endpoint import Endpoint, Host

ANY: dict[int, Host] = {4: IPv4Address("0.0.0.0"), 6: IPv6Address("::")}
LOOPBACK: dict[int, Host] = {4: IPv4Address("127.0.0.1"), 6: IPv6Address("::1")}


def local_endpoints(addresses: Iterable[Host], port: int) -> tuple[Endpoint, ...]:
    """Where to listen for those public addresses.

    An address that this machine does not have (it is behind a provider's NAT) becomes the wildcard
    of its family, which then covers all others of that family.
    """
    wanted = tuple(addresses)
    foreign = {each.version for each in wanted if not is_local(each)}
    hosts = [ANY[each.version] if each.version in foreign else each for each in wanted]
    return tuple(Endpoint(host, port) for host in dict.fromkeys(hosts))


@dataclass(frozen=True, slots=True)
class UdpHosts:
    """Where a UDP port is bound, as `_core.Port` and `_core.Relay` take it.

    None is every address of the family, and no bytes is no socket of it.
    """

    ipv4: bytes | None
    ipv6: bytes | None


def udp_hosts(addresses: Iterable[Host]) -> UdpHosts:
    """Where a UDP port that answers at those public addresses is bound."""
    local = [each.host for each in local_endpoints(addresses, 0)]
    return UdpHosts(_only(local, 4), _only(local, 6))


def reachable(endpoint: Endpoint) -> Endpoint:
    """Where a listener answers from this machine."""
    if endpoint.host.is_unspecified:
        return Endpoint(LOOPBACK[endpoint.version], endpoint.port)
    return endpoint


def loopback(addresses: Iterable[Host], port: int) -> Endpoint:
    """Where a UDP port that answers at those public addresses takes IPv4 from this machine."""
    only = udp_hosts(addresses).ipv4
    return Endpoint(LOOPBACK[4], port) if not only else Endpoint.of(only, port)


@contextmanager
def explaining(what: str, setting: str) -> Iterator[None]:
    """Turn the system's refusal to open a port into what to do about it."""
    try:
        yield
    except OSError as error:
        problem = error.strerror or str(error)
        remedy = _remedy(error.errno, setting)
        raise Remedy(f"cannot open {what}: {problem}", remedy=remedy) from None


def is_local(address: Host) -> bool:
    """Whether this machine has the address."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def _only(hosts: Iterable[Host], version: int) -> bytes | None:
    """The one address of a family, unless it is the wildcard or there are several."""
    found = [host for host in hosts if host.version == version]
    return found[0].packed if len(found) == 1 and not found[0].is_unspecified else None


def _remedy(number: int | None, setting: str) -> str:
    match number:
        case errno.EADDRINUSE:
            return (
                f"stop what uses it (ss -lnp shows it), or choose another {setting} in server.toml"
            )
        case errno.EACCES | errno.EPERM:
            return (
                "run as root, or give the capability CAP_NET_BIND_SERVICE, "
                f"or choose another {setting} in server.toml"
            )
        case _:
            return f"correct [server] addresses or {setting} in server.toml"
