"""The DNS hook where systemd-resolved manages the names of this machine.

By D-Bus the stub becomes the name server of the tunnel device's link, with a port of its own, and
the link the one for every name (``~.``) and for short ones (search domains). systemd-resolved goes
on asking other links for the names that they claim more closely, and forgets all of it when the
device goes, so also when the agent is killed.

The stub itself asks the uplinks' servers, which systemd-resolved lists in a file of their own.
Where queries leave by TLS this hook is not used: the stub would send them in clear.

Source: org.freedesktop.resolve1(5). Ours: docs/protocol.md section 6.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

import structlog

from ntmobile.agent.dns_hook_table import HookUnavailable
from ntmobile.agent.resolv_conf import nameservers
from ntmobile.wire.endpoint import Endpoint

UPLINKS = Path("/run/systemd/resolve/resolv.conf")
"""Where it lists the servers of the uplinks, and none that has a port of its own."""
STUBS = frozenset({"127.0.0.53", "127.0.0.54"})
"""Where it answers. Source: systemd-resolved.service(8)."""
PATIENCE_S = 2.0
_BUS_NAME, _PATH = "org.freedesktop.resolve1", "/org/freedesktop/resolve1"
_MANAGER, _LINK = f"{_BUS_NAME}.Manager", f"{_BUS_NAME}.Link"
Call = tuple[str, str | None, tuple[object, ...]]
"""A method of the manager, its signature, its arguments."""

log = structlog.get_logger()


class Resolved:
    """systemd-resolved, asked over the system bus; a connection for each time it is asked."""

    def __init__(self) -> None:
        """Points nothing anywhere yet."""
        self._wanted: tuple[Call, ...] = ()
        self._link = 0
        self._servers: tuple[tuple[int, bytes, int, str], ...] = ()

    def claim(self, resolv_conf: Path) -> None:
        """Raises HookUnavailable unless programs here ask it, and it may be told."""
        text = resolv_conf.read_text(errors="replace") if resolv_conf.exists() else ""
        if not {str(server.host) for server in nameservers(text)} <= STUBS:
            raise _unavailable(f"{resolv_conf} names other servers")
        if not UPLINKS.exists():
            raise _unavailable(f"there is no {UPLINKS}")
        if (said := _property(_PATH, _MANAGER, "DNSOverTLS")) == "yes":
            raise _unavailable(f"it asks by TLS only (DNSOverTLS={said})")

    async def point(
        self, link: int, stub: Sequence[Endpoint], search: Iterable[str], zones: Iterable[str]
    ) -> None:
        """Makes the stub the server of all names; raises HookUnavailable, and nothing changed.

        link is the index of the tunnel device. Names in zones have no DNSSEC signatures here.
        """
        servers = tuple((_family(each), each.host.packed, each.port, "") for each in stub)
        domains = [(".", True), *((domain, False) for domain in search)]
        if self._link != link:
            await self.revert()
        self._link, self._servers = link, servers
        self._wanted = (
            ("SetLinkDNSEx", "ia(iayqs)", (link, list(servers))),
            ("SetLinkDomains", "ia(sb)", (link, domains)),
            ("SetLinkDefaultRoute", "ib", (link, True)),
            ("SetLinkDNSOverTLS", "is", (link, "no")),
            ("SetLinkDNSSECNegativeTrustAnchors", "ias", (link, sorted(set(zones)))),
            ("FlushCaches", None, ()),
        )
        try:
            await asyncio.to_thread(_ask, self._wanted)
        except HookUnavailable:
            await self.revert()
            raise

    async def revert(self) -> None:
        """Makes it forget the link; what it does not take is gone with the device."""
        link, self._link = self._link, 0
        if link:
            try:
                calls: tuple[Call, ...] = (("RevertLink", "i", (link,)), ("FlushCaches", None, ()))
                await asyncio.to_thread(_ask, calls)
            except HookUnavailable as error:
                log.info("systemd-resolved was not told of the end", reason=error.problem)

    async def refresh(self) -> None:
        """Points it here again where it, or somebody else, has forgotten."""
        if not self._link:
            return
        try:
            if not await asyncio.to_thread(self._is_pointed):
                log.warning("systemd-resolved asked others: it is told again")
                await asyncio.to_thread(_ask, self._wanted)
        except HookUnavailable as error:
            log.warning("systemd-resolved is not there", reason=error.problem)

    def _is_pointed(self) -> bool:
        (path,) = _ask([("GetLink", "i", (self._link,))])[0]
        there = {(family, address, port) for family, address, port, _ in _servers_of(path)}
        return there == {(family, address, port) for family, address, port, _ in self._servers}


def _servers_of(path: str) -> list[tuple[int, bytes, int, str]]:
    found: list[tuple[int, bytes, int, str]] = _property(path, _LINK, "DNSEx")
    return found


def _family(endpoint: Endpoint) -> int:
    return AF_INET if endpoint.version == 4 else AF_INET6


def _ask(calls: Sequence[Call]) -> list[tuple[Any, ...]]:
    """Calls the manager; returns the answers' bodies, raises HookUnavailable at the first error."""
    try:
        from jeepney import DBusAddress, new_method_call
    except ImportError as error:
        raise _unavailable(str(error)) from None
    manager = DBusAddress(_PATH, _BUS_NAME, _MANAGER)
    return _send([new_method_call(manager, name, kind, body) for name, kind, body in calls])


def _property(path: str, interface: str, name: str) -> Any:  # noqa: ANN401
    """Returns one property's value; raises HookUnavailable."""
    try:
        from jeepney import DBusAddress, Properties
    except ImportError as error:
        raise _unavailable(str(error)) from None
    thing = Properties(DBusAddress(path, _BUS_NAME, interface))
    ((value,),) = _send([thing.get(name)])
    return value[1]


def _send(messages: Sequence[Any]) -> list[tuple[Any, ...]]:
    from jeepney import MessageType
    from jeepney.io.blocking import open_dbus_connection

    bodies: list[tuple[Any, ...]] = []
    try:
        with closing(open_dbus_connection("SYSTEM", auth_timeout=PATIENCE_S)) as bus:
            for message in messages:
                reply = bus.send_and_get_reply(message, timeout=PATIENCE_S)
                if reply.header.message_type is MessageType.error:
                    raise _unavailable(" ".join(map(str, reply.body)) or "no reason given")
                bodies.append(reply.body)
    except (OSError, EOFError, ValueError, RuntimeError) as error:
        raise _unavailable(str(error) or type(error).__name__) from error
    return bodies


def _unavailable(reason: str) -> HookUnavailable:
    return HookUnavailable(
        f"systemd-resolved is not used: {reason}",
        remedy="nothing: the agent hooks DNS by other means",
    )
