"""The node's daemon: one process, one state directory, one control socket, one node.

The node is started by `ntm up` and hooked into the machine once it is registered; on `ntm down`,
SIGTERM or any failure everything is given back in the reverse order.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import msgspec
import structlog

from ntmobile.agent.control import ControlSocket
from ntmobile.agent.lock import AgentLock
from ntmobile.agent.operations import Operations, user_id
from ntmobile.agent.records import Choices, SavedAccount
from ntmobile.agent.session import Model, Session
from ntmobile.agent.state import State, open_state
from ntmobile.agent.system import SystemModel
from ntmobile.agent.views import DnsView
from ntmobile.errors import Remedy
from ntmobile.proto.io import Entropy
from ntmobile.proto.node.events import Registered
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.resolver import Resolver
from ntmobile.runtime.tasks import Tasks
from ntmobile.wire.endpoint import Endpoint


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
FLUSH_S = 10.0
"""How often content that a full disk refused is written again."""
_LOG = structlog.get_logger(__name__)


class Agent:
    """Runs on one state directory until it is told to end."""

    def __init__(
        self, directory: Path, entropy: Entropy, make_model: MakeModel = SystemModel
    ) -> None:
        """Takes the directory's lock and reads the state; raises Remedy."""
        self._make_model = make_model
        self._lock = AgentLock(directory)
        try:
            self.state = open_state(directory, entropy)
        except Remedy:
            self._lock.release()
            raise
        self._entropy = entropy
        self._end = asyncio.Event()
        self._control = ControlSocket(directory, Operations(self))
        self._tasks = Tasks()
        self._stack = AsyncExitStack()
        self._model: HookedModel | None = None
        self._session: Session | None = None
        self._changing = asyncio.Lock()
        self.attach_failure: Remedy | None = None
        """Why the node could not be hooked into the machine."""

    @property
    def session(self) -> Session | None:
        """The running node."""
        return self._session

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until `end`; ready is called once the control socket answers."""
        with self._lock:
            try:
                self._control.start(self._operator())
                self._tasks.repeat(self._flush, FLUSH_S)
                ready()
                await self._end.wait()
            finally:
                async with AsyncExitStack() as stack:
                    stack.callback(self.state.flush)
                    stack.push_async_callback(self._tasks.close)
                    stack.push_async_callback(self._control.stop)
                    stack.push_async_callback(self._close_session)

    def end(self) -> None:
        """Give everything back and return from `run`."""
        self._end.set()

    async def open(self, account: SavedAccount) -> Session:
        """Start the node; raises Remedy, and then nothing is left of it."""
        async with self._changing:
            if self._session is not None:
                return self._session
            async with AsyncExitStack() as stack:
                model = await stack.enter_async_context(self._make_model(self.state))
                resolver = Resolver(model.servers, Clock(), protect=model.protect)
                session = Session(self.state, account, resolver, self._entropy, model)
                session.on_registered = self._handle_registered
                await _enter(stack, session)
                stack.push_async_callback(model.detach)
                self._stack = stack.pop_all()
            self._model, self._session = model, session
            return session

    async def close(self, *, forget: bool) -> None:
        """Stop the node and end the agent; what is being answered is answered first."""
        try:
            await self._close_session()
            if forget:
                self.state.forget_account()
        finally:
            self.end()

    def is_ready(self) -> bool:
        """Registered now, and hooked as well as it can be."""
        model, session = self._model, self._session
        if model is None or session is None:
            return False
        return model.attached and session.node.view().state == "up"

    async def apply(self, choices: Choices) -> tuple[str, ...]:
        """Make settings effective."""
        self._control.admit(self._operator())
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
        }
        wanted = {
            "relay-only": choices.relay_only,
            "accept-dns": choices.accept_dns,
            "seek-direct": choices.seek_direct,
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

    async def _close_session(self) -> None:
        async with self._changing:
            session, self._session, self._model = self._session, None, None
            if session is not None:
                session.changed.ring()
            await self._stack.aclose()

    async def _flush(self) -> None:
        self.state.flush()

    def _operator(self) -> int | None:
        name = self.state.choices.operator
        try:
            return user_id(name) if name else None
        except Remedy:
            # The user is gone from this machine; the node must start all the same.
            return None


async def _enter(stack: AsyncExitStack, session: Session) -> None:
    try:
        await stack.enter_async_context(session)
    except OSError as error:
        raise _as_remedy(error) from error


def _as_remedy(error: Remedy | OSError) -> Remedy:
    if isinstance(error, Remedy):
        return error
    return Remedy(f"the system refused: {error}", remedy="run ntm up as root; ntm bugreport")
