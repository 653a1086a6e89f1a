"""How applications' name queries come to the identities of one agent: one hook, one stub, one mark.

An identity claims the hook before its node starts, because the mark on its sockets must be known by
then; it joins once it is registered, and leaves before its device goes. A name is resolved by the
identity that is logged in to its domain; one of a foreign domain by who has met it, then by the
others in the order in which they joined, until one of them reaches it.

Ours: docs/protocol.md section 6.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from ntmobile.agent.dns_hook import REFRESH_S, DnsHook
from ntmobile.agent.dns_hook_table import MARK
from ntmobile.agent.dns_stub import DnsStub
from ntmobile.agent.dns_stub_messages import Answer, Refused
from ntmobile.agent.names import name_or_refusal, search_domains, suited
from ntmobile.agent.resolv_conf import PATH, Nameservers
from ntmobile.agent.state import State
from ntmobile.proto.node.trust import domain_of
from ntmobile.runtime.protection import Protect, marking
from ntmobile.runtime.tasks import Tasks
from ntmobile.wire.endpoint import Endpoint, Host


@dataclass(frozen=True, eq=False)
class Named:
    """An identity whose names the stub answers."""

    state: State
    device: int
    """The index of its tunnel device."""
    resolve: Callable[[str], Awaitable[Answer | Refused]]


class MachineNames:
    """The DNS hook of one agent, from the first claim to the last release."""

    def __init__(self, path: Path = PATH) -> None:
        """Claims nothing yet; path is the system's resolv.conf."""
        self._path = path
        self._changing = asyncio.Lock()
        self._claims = 0
        self._named: list[Named] = []
        self._unhooked = Nameservers(path)
        self._stack = AsyncExitStack()
        self.hook: DnsHook | None = None
        """While somebody claims it."""
        self.stub: DnsStub | None = None
        """Once somebody has joined."""

    def servers(self) -> tuple[Endpoint, ...]:
        """The ordinary resolvers, whoever asks."""
        return self._unhooked() if self.hook is None else self.hook.servers()

    @property
    def protect(self) -> Protect:
        """Marks the agent's own sockets, so that the hook lets them pass."""
        # Without a hook too, so that no capsule goes by the routes to networks beyond.
        return marking((self.hook.mark if self.hook is not None else 0) or MARK)

    async def claim(self) -> None:
        """Raises HookUnavailable; each claim needs a release."""
        async with self._changing:
            if self.hook is None:
                hook = DnsHook(path=self._path)
                hook.__enter__()
                self.hook = hook
            self._claims += 1

    async def release(self) -> None:
        """The last one takes the hook away."""
        async with self._changing:
            self._claims -= 1
            if not self._claims:
                await self._stop()

    async def join(self, named: Named) -> None:
        """Names of this identity are answered from now; raises HookUnavailable or OSError."""
        async with self._changing:
            self._named.append(named)
            try:
                await (self._start() if self.stub is None else self._follow(self.stub))
            except BaseException:
                self._named.remove(named)
                raise

    async def leave(self, named: Named) -> None:
        """They are not any more; the others' are."""
        async with self._changing:
            self._named.remove(named)
            if self._claims == 1:
                # Before the device goes: systemd-resolved is told of the end of what it knows.
                await self._stop()
            elif self.stub is not None:
                await self._follow(self.stub)

    async def _start(self) -> None:
        assert self.hook is not None, "join is for those who claimed"
        hook = self.hook
        async with AsyncExitStack() as stack:
            stub = await stack.enter_async_context(self._make_stub(hook))
            self._serve(stub)
            await stack.enter_async_context(hook.to(stub, self._device(), self._search()))
            tasks = await stack.enter_async_context(Tasks())
            tasks.repeat(hook.refresh, REFRESH_S)
            self._stack = stack.pop_all()
        self.stub = stub

    async def _stop(self) -> None:
        hook, self.hook, self.stub = self.hook, None, None
        await self._stack.aclose()
        if hook is not None:
            hook.__exit__(None, None, None)

    async def _follow(self, stub: DnsStub) -> None:
        self._serve(stub)
        if self.hook is not None:
            await self.hook.follow(stub, self._device(), self._search())

    def _serve(self, stub: DnsStub) -> None:
        own = [account.domain for each in self._named if (account := each.state.account)]
        known = {domain_of(fqdn) for each in self._named for fqdn in each.state.peers}
        stub.serve(own, known, self._search())

    def _device(self) -> int:
        return self._named[0].device if self._named else 0

    def _search(self) -> tuple[str, ...]:
        accounts = (each.state.account for each in self._named)
        found = (domain for account in accounts if account for domain in search_domains(account))
        return tuple(dict.fromkeys(found))

    def _make_stub(self, hook: DnsHook) -> DnsStub:
        return DnsStub(
            self._resolve,
            self._reverse,
            self.servers,
            addresses=hook.addresses,
            port=hook.port,
            protect=self.protect,
        )

    async def _resolve(self, fqdn: str) -> Answer | Refused:
        first, others = suited(fqdn, self._named)
        for each in first + others:
            if isinstance(outcome := await each.resolve(fqdn), Answer):
                return outcome
        return Refused()

    def _reverse(self, address: Host) -> str | Refused | None:
        found: str | Refused | None = None
        for state in (each.state for each in self._named):
            own = state.account.fqdn if state.account else ""
            said = name_or_refusal(address, own, state.addresses, state.peers)
            if isinstance(said, str):
                return said
            found = found or said
        return found
