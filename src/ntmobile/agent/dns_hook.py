"""The DNS hook, by whichever mechanism this system offers.

First choice is systemd-resolved, where programs ask it; else the redirect in the packet path,
which no application escapes and the kernel removes when the agent dies; else /etc/resolv.conf.
The order of use::

    with DnsHook() as hook:                                    claims; hook.mark is known
        async with DnsStub(..., hook.servers, protect=marking(hook.mark),
                           addresses=hook.addresses, port=hook.port) as stub:
            async with hook.to(stub, device, search):          queries come
                tasks.repeat(hook.refresh, REFRESH_S)
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import structlog

from ntmobile.agent.dns_hook_resolved import UPLINKS, Resolved
from ntmobile.agent.dns_hook_table import HookUnavailable, OwnerTable
from ntmobile.agent.dns_stub import DnsStub
from ntmobile.agent.resolv_conf import DNS_PORT, PATH, Nameservers, ResolvConf, free_loopback
from ntmobile.wire.endpoint import Endpoint

REFRESH_S = 2.0

log = structlog.get_logger()


class DnsHook:
    """One agent's hook, off outside its context."""

    def __init__(self, *, path: Path = PATH) -> None:
        """Path is the system's resolv.conf."""
        self._path = path
        self._stack = ExitStack()
        self._resolved: Resolved | None = None
        self._table: OwnerTable | None = None
        self._file: ResolvConf | None = None
        self._servers = Nameservers(path)
        self._uplinks = Nameservers(UPLINKS)
        self.addresses: tuple[str, ...] = ("127.0.0.1", "::1")
        self.port = 0
        """Where the stub must listen; 0 for a free port."""
        self.trouble = ""
        """Why the redirect is not used; empty when it is, and where systemd-resolved is."""

    def servers(self) -> tuple[Endpoint, ...]:
        """The ordinary resolvers, never a stub."""
        return self._servers() if self._resolved is None else self._uplinks()

    @property
    def kind(self) -> Literal["systemd-resolved", "nftables", "resolv.conf"]:
        """The mechanism claimed."""
        if self._resolved is not None:
            return "systemd-resolved"
        return "nftables" if self._table is not None else "resolv.conf"

    @property
    def detail(self) -> str:
        """What a person can look at to see the hook."""
        if self._resolved is not None:
            return "resolvectl shows the stub at the tunnel device"
        if self._table is not None:
            return f"table {self._table.table}"
        return f"{self.addresses[0]} is the first server of {self._path}"

    @property
    def mark(self) -> int:
        """SO_MARK for all of the agent's own queries; 0 for none."""
        return self._table.mark if self._table is not None else 0

    def __enter__(self) -> Self:
        """Claims a mechanism; raises HookUnavailable when there is none."""
        self._claim_resolved()
        try:
            if self.servers() and all(server.host.is_link_local for server in self.servers()):
                raise HookUnavailable("every resolver has a link-local address")
            self._table = self._stack.enter_context(OwnerTable())
        except HookUnavailable as error:
            if self._resolved is not None:
                return self
            self.trouble = error.problem
            log.info("DNS is hooked by resolv.conf", reason=error.problem)
            self.addresses, self.port = (free_loopback(),), DNS_PORT
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Gives the mechanism back."""
        self._stack.close()
        self._table = self._resolved = None

    @asynccontextmanager
    async def to(self, stub: DnsStub, device: int, search: Iterable[str]) -> AsyncIterator[None]:
        """Sends queries to the stub; raises HookUnavailable, and the system is as before.

        device is the index of the tunnel device, search the domains for short names; only
        systemd-resolved wants to know.
        """
        if await self._point(stub, device, search):
            try:
                yield
            finally:
                if self._resolved is not None:
                    await self._resolved.revert()
            return
        if self._table is not None:
            self._table.redirect(stub.port)
            try:
                yield
            finally:
                # Before the stub closes: a query must never meet a redirect to nobody.
                self.__exit__(None, None, None)
            return
        with ResolvConf(str(stub.endpoints[0].host), path=self._path) as self._file:
            try:
                yield
            finally:
                self._file = None

    async def follow(self, stub: DnsStub, device: int, search: Iterable[str]) -> None:
        """Points systemd-resolved anew: another device, or other domains; device 0: none.

        Only inside `to`. The redirect and resolv.conf name the stub alone, and stay.
        """
        if self._resolved is None:
            return
        if not device:
            await self._resolved.revert()
            return
        try:
            await self._resolved.point(device, stub.endpoints, search, stub.zones.known)
        except HookUnavailable as error:
            log.warning("systemd-resolved was not told", reason=error.problem)

    async def refresh(self) -> None:
        """Keeps the hook where somebody else changed it; the redirect needs no care."""
        if self._resolved is not None:
            await self._resolved.refresh()
        # Not in a thread: it could write the file once more behind the one that restored it.
        if self._file is not None:
            self._file.refresh()

    def _claim_resolved(self) -> None:
        resolved = Resolved()
        try:
            resolved.claim(self._path)
        except HookUnavailable as error:
            log.info("DNS is not hooked by systemd-resolved", reason=error.problem)
        else:
            self._resolved = resolved

    async def _point(self, stub: DnsStub, device: int, search: Iterable[str]) -> bool:
        """Tells systemd-resolved; where it may not be told, the redirect is there instead."""
        if self._resolved is None:
            return False
        try:
            await self._resolved.point(device, stub.endpoints, search, stub.zones.known)
        except HookUnavailable as error:
            log.warning("DNS is not hooked by systemd-resolved", reason=error.problem)
            if self._table is None:
                raise
            self._resolved = None
            return False
        return True
