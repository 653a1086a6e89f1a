"""The DNS hook, by whichever mechanism this system offers.

First choice is the redirect in the packet path, which no application escapes and the kernel
removes when the agent dies; else /etc/resolv.conf. The order of use::

    with DnsHook() as hook:                                    claims; hook.mark is known
        async with DnsStub(..., hook.servers, protect=marking(hook.mark),
                           addresses=hook.addresses, port=hook.port) as stub:
            with hook.to(stub):                                queries come
                tasks.repeat(hook.refresh, REFRESH_S)
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import structlog

from ntmobile.agent.dns_hook_table import HookUnavailable, OwnerTable
from ntmobile.agent.dns_stub import DnsStub
from ntmobile.agent.resolv_conf import DNS_PORT, PATH, Nameservers, ResolvConf, free_loopback

REFRESH_S = 2.0

log = structlog.get_logger()


class DnsHook:
    """One agent's hook, off outside its context."""

    def __init__(self, *, path: Path = PATH) -> None:
        """Path is the system's resolv.conf."""
        self._path = path
        self._stack = ExitStack()
        self._table: OwnerTable | None = None
        self._file: ResolvConf | None = None
        self.servers = Nameservers(path)
        """The ordinary resolvers, never a stub."""
        self.addresses: tuple[str, ...] = ("127.0.0.1", "::1")
        self.port = 0
        """Where the stub must listen; 0 for a free port."""
        self.trouble = ""
        """Why the redirect is not used; empty when it is."""

    @property
    def kind(self) -> Literal["nftables", "resolv.conf"]:
        """The mechanism claimed."""
        return "nftables" if self._table is not None else "resolv.conf"

    @property
    def detail(self) -> str:
        """What a person can look at to see the hook."""
        if self._table is not None:
            return f"table {self._table.table}"
        return f"{self.addresses[0]} is the first server of {self._path}"

    @property
    def mark(self) -> int:
        """SO_MARK for all of the agent's own queries; 0 for none."""
        return self._table.mark if self._table is not None else 0

    def __enter__(self) -> Self:
        """Claims a mechanism; raises HookUnavailable when there is none."""
        try:
            if self.servers() and all(server.host.is_link_local for server in self.servers()):
                raise HookUnavailable("every resolver has a link-local address")
            self._table = self._stack.enter_context(OwnerTable())
        except HookUnavailable as error:
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
        self._table = None

    @contextmanager
    def to(self, stub: DnsStub) -> Iterator[None]:
        """Sends queries to the stub; raises HookUnavailable, and the system is as before."""
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

    async def refresh(self) -> None:
        """Keeps the hook where somebody else wrote resolv.conf; the redirect needs no care."""
        # Not in a thread: it could write the file once more behind the one that restored it.
        if self._file is not None:
            self._file.refresh()
