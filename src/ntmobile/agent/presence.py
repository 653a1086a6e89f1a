"""One identity of the agent: its state, and its node while that is up.

The node is hooked into the machine once it is registered; when it closes, or after any failure,
everything is given back in the reverse order. The other identities of the agent go on.
"""

import asyncio
from collections.abc import Callable, Container
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import msgspec
import structlog

from ntmobile.agent.lock import AgentLock
from ntmobile.agent.records import Choices, SavedAccount
from ntmobile.agent.session import Model, Session
from ntmobile.agent.state import State, open_state
from ntmobile.agent.views import DnsView
from ntmobile.errors import Remedy
from ntmobile.proto.io import Entropy
from ntmobile.proto.node.events import Registered
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.resolver import Resolver
from ntmobile.runtime.tasks import Tasks
from ntmobile.wire.endpoint import Endpoint, Host


class HookedModel(Model, Protocol):
    """An implementation model: how the node hooks into the machine, or into nothing of it."""

    attached: bool

    @property
    def servers(self) -> Callable[[], tuple[Endpoint, ...]]:
        """The ordinary resolvers."""
        ...

    async def __aenter__(self) -> Self:
        """Entered before the node starts; raises Remedy."""
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Gives everything back."""
        ...

    async def attach(self, session: Session, registered: Registered) -> None:
        """Hooks the node in, or follows its new addresses; raises Remedy."""
        ...

    async def detach(self) -> None:
        """Gives everything back; a second time does nothing."""
        ...

    def troubles(self) -> list[str]:
        """What keeps the node from being fully hooked in."""
        ...

    def dns(self) -> DnsView:
        """How names are resolved."""
        ...

    def follow_choices(self) -> None:
        """Makes effective what `ntm set` changed of its business; raises Remedy."""
        ...

    def expose(self, port: int) -> None:
        """Offers a local port to peers; raises Remedy where that is not its business."""
        ...

    def conceal(self, port: int) -> None:
        """Takes that back."""
        ...


MakeModel = Callable[[State], HookedModel]
_LOG = structlog.get_logger(__name__)


class Household(Protocol):
    """The agent, as far as each of its identities needs it."""

    def taken(self, by: "Presence") -> Container[Host]:
        """The virtual addresses that the other identities have, now and later."""
        ...

    def handle_addresses(self, of: "Presence") -> None:
        """An identity, or a peer of it, got virtual addresses: the others give way."""
        ...

    def handle_choices(self) -> None:
        """Settings changed; some are the agent's own."""
        ...

    def handle_closed(self) -> None:
        """An identity is down: the agent may be of no use any more."""
        ...


class Presence:
    """One identity, up or down."""

    def __init__(
        self, directory: Path, entropy: Entropy, make_model: MakeModel, household: Household
    ) -> None:
        """Takes the directory's lock and reads the state; raises Remedy."""
        self._lock = AgentLock(directory)
        try:
            self.state = open_state(directory, entropy)
        except Remedy:
            self._lock.release()
            raise
        self._entropy = entropy
        self._make_model = make_model
        self._household = household
        self._tasks = Tasks()
        self._stack = AsyncExitStack()
        self._model: HookedModel | None = None
        self._session: Session | None = None
        self._changing = asyncio.Lock()
        self.wanted = False
        """From `ntm up` until it is down again, whether or not its node runs yet."""
        self.attach_failure: Remedy | None = None
        """Why the node could not be hooked into the machine."""

    @property
    def session(self) -> Session | None:
        """The running node."""
        return self._session

    @property
    def account(self) -> SavedAccount | None:
        """Whose it is; None where nobody has logged in."""
        return self.state.account if self._session is None else self._session.account

    def has(self, address: Host) -> bool:
        """Whether a virtual address is its own, or one of a peer that it has met or now meets."""
        if self._session is not None and address in self._session.node.addresses:
            return True
        own, peers = self.state.addresses, self.state.peers.values()
        return (own is not None and address in (own.ipv4, own.ipv6)) or any(
            address in (peer.ipv4, peer.ipv6) for peer in peers
        )

    async def open(self, account: SavedAccount) -> Session:
        """Start the node; raises Remedy, and then nothing is left of it."""
        self.wanted = True
        async with self._changing:
            if self._session is not None:
                return self._session
            async with AsyncExitStack() as stack:
                model = await stack.enter_async_context(self._make_model(self.state))
                resolver = Resolver(model.servers, Clock(), protect=model.protect)
                session = Session(self.state, account, resolver, self._entropy, model)
                session.on_registered = self._handle_registered
                session.taken = self._household.taken(self)
                session.on_addresses = lambda: self._household.handle_addresses(self)
                await _enter(stack, session)
                stack.push_async_callback(model.detach)
                self._stack = stack.pop_all()
            self._model, self._session = model, session
            return session

    async def close(self, *, forget: bool) -> None:
        """Stop the node; what is being answered is answered first."""
        try:
            await self.stop()
            if forget:
                self.state.forget_account()
        finally:
            self.wanted = False
            self._household.handle_closed()

    async def stop(self) -> None:
        """Stop the node; a second time does nothing."""
        async with self._changing:
            session, self._session, self._model = self._session, None, None
            self.attach_failure = None
            if session is not None:
                session.changed.ring()
            await self._stack.aclose()

    async def release(self) -> None:
        """Stop the node, keep what is to be kept, and let another agent have the state."""
        with self._lock:
            async with AsyncExitStack() as stack:
                stack.callback(self.state.flush)
                stack.push_async_callback(self._tasks.close)
                stack.push_async_callback(self.stop)

    def give_way(self) -> None:
        """Other identities of this machine took virtual addresses: this one steps aside."""
        if self._session is not None:
            self._session.give_way()

    def is_ready(self) -> bool:
        """Registered now, and hooked as well as it can be."""
        model, session = self._model, self._session
        if model is None or session is None:
            return False
        return model.attached and session.node.view().state == "up"

    async def apply(self, choices: Choices) -> tuple[str, ...]:
        """Make settings effective."""
        self._household.handle_choices()
        session = self._session
        if session is None:
            return ()
        await session.set_map_port(choices.map_port)
        session.set_trust(choices)
        if self._model is not None:
            self._model.follow_choices()
        began = {
            "relay-only": session.relay_only,
            "accept-dns": session.accept_dns,
            "seek-direct": session.node.settings.optimise,
            "mapping-age": session.node.settings.mapping_age_s,
        }
        wanted = {
            "relay-only": choices.relay_only,
            "accept-dns": choices.accept_dns,
            "seek-direct": choices.seek_direct,
            "mapping-age": choices.mapping_age_s,
        }
        late = [name for name in wanted if wanted[name] != began[name]]
        return tuple(f"{name} takes effect at the next ntm down, ntm up" for name in late)

    def troubles(self) -> list[str]:
        """What the agent suffers from, each with its remedy."""
        refused = self.attach_failure
        found = [self.state.trouble, refused.problem if refused is not None else None]
        if self._model is not None:
            found += self._model.troubles()
        return [text for text in found if text]

    def dns(self) -> DnsView:
        """The state of the DNS hook."""
        if self._model is None:
            raise Remedy("this node is down", remedy="ntm up")
        return self._model.dns()

    def expose(self, port: int, *, offered: bool) -> None:
        """Offer a local port to peers, or no longer; raises Remedy."""
        if self._model is None:
            raise Remedy("this node is down", remedy="ntm up")
        (self._model.expose if offered else self._model.conceal)(port)
        if not offered and port not in self.state.choices.exposed:
            raise Remedy(
                f"port {port} was not offered to peers; {_offered(self.state.choices)}",
                remedy=f"to offer it: ntm expose {port}",
            )
        ports = {*self.state.choices.exposed} - {port} | ({port} if offered else set())
        exposed = tuple(sorted(ports))
        self.state.keep_choices(msgspec.structs.replace(self.state.choices, exposed=exposed))

    def _handle_registered(self, registered: Registered) -> None:
        self._tasks.start(self._attach(registered), "hook into the machine")

    async def _attach(self, registered: Registered) -> None:
        async with self._changing:
            model, session = self._model, self._session
            if model is None or session is None:
                return
            try:
                await model.attach(session, registered)
                self.attach_failure = None
            except (Remedy, OSError) as error:
                self.attach_failure = _as_remedy(error)
                _LOG.error("cannot hook into the machine", error=str(error))
            except Exception:
                # Whoever waits for the node to be up must hear of it.
                self.attach_failure = Remedy(
                    "the agent failed to hook into the machine; its log says why",
                    remedy="ntm bugreport",
                )
                _LOG.exception("cannot hook into the machine")
            session.changed.ring()


def _offered(choices: Choices) -> str:
    ports = ", ".join(map(str, choices.exposed))
    return f"these are: {ports}" if ports else "none is"


async def _enter(stack: AsyncExitStack, session: Session) -> None:
    try:
        await stack.enter_async_context(session)
    except OSError as error:
        raise _as_remedy(error) from error


def _as_remedy(error: Remedy | OSError) -> Remedy:
    if isinstance(error, Remedy):
        return error
    return Remedy(f"the system refused: {error}", remedy="run ntm up as root; ntm bugreport")
