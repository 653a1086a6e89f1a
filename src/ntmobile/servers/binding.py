"""On which local addresses the servers listen, and what to say when they cannot."""

import errno
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
    foreign = {each.version for each in addresses if not _is_local(each)}
    hosts = [ANY[each.version] if each.version in foreign else each for each in addresses]
    return tuple(Endpoint(host, port) for host in dict.fromkeys(hosts))


def reachable(endpoint: Endpoint) -> Endpoint:
    """Where a listener answers from this machine."""
    if endpoint.host.is_unspecified:
        return Endpoint(LOOPBACK[endpoint.version], endpoint.port)
    return endpoint


@contextmanager
def explaining(what: str, setting: str) -> Iterator[None]:
    """Turn the system's refusal to open a port into what to do about it."""
    try:
        yield
    except OSError as error:
        number = _number(error)
        problem = error.strerror or str(error)
        raise Remedy(f"cannot open {what}: {problem}", remedy=_remedy(number, setting)) from None


def _number(error: OSError) -> int | None:
    """The errno, which an error of the Rust core has only in its text."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return error.errno if found is None else int(found[1])


def _is_local(address: Host) -> bool:
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


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
