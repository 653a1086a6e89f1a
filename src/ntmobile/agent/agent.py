"""The node's daemon: one process, one control socket, one state directory, one identity or several.

The first identity lives in the state directory itself, each further one in a directory of its own
below `identities`: own keys, own virtual addresses, own servers, own tunnel device. What they share
is the process, its control socket, its log and its operator, and the hook for names.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Container, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import structlog

from ntmobile.agent.control import ControlSocket
from ntmobile.agent.dispatch import Dispatch
from ntmobile.agent.files import private_directory
from ntmobile.agent.operations import user_id
from ntmobile.agent.places import IDENTITIES
from ntmobile.agent.presence import HookedModel, MakeModel, Presence
from ntmobile.agent.records import SavedAccount
from ntmobile.agent.requests import Answer, AnyRequest
from ntmobile.agent.state import further_identities
from ntmobile.agent.system import system_models
from ntmobile.errors import Remedy
from ntmobile.proto.io import Entropy
from ntmobile.runtime.tasks import Tasks
from ntmobile.wire.endpoint import Host

__all__ = ["Agent", "HookedModel", "MakeModel"]
FLUSH_S = 10.0
"""How often content that a full disk refused is written again."""
_WHO = re.compile(r"[a-z0-9][a-z0-9.-]*@[a-z0-9][a-z0-9.-]*")
_LOG = structlog.get_logger(__name__)


class Taken:
    """The virtual addresses that some identities have at the moment they are asked."""

    def __init__(self, by: Callable[[], Iterable[Presence]]) -> None:
        """By gives the identities."""
        self._by = by

    def __contains__(self, address: object) -> bool:
        return isinstance(address, Host) and any(each.has(address) for each in self._by())


class Agent:
    """Runs on one state directory until it is told to end, or none of its identities is up."""

    def __init__(
        self, directory: Path, entropy: Entropy, make_model: MakeModel | None = None
    ) -> None:
        """Takes the directory's lock and reads the state; raises Remedy."""
        self._directory = directory
        self._entropy = entropy
        self._make_model = make_model or system_models()
        self.main = Presence(directory, entropy, self._make_model, self)
        """The identity of the state directory itself; nobody's before the first login."""
        self._others: dict[Path, Presence] = {}
        self.troubles: list[str] = []
        """Which identities could not be read, and why."""
        self._read_others()
        self._end = asyncio.Event()
        self._held = 0
        self._dispatch = Dispatch(self)
        self._control = ControlSocket(directory, self._dispatch)
        self._tasks = Tasks()

    def identities(self) -> tuple[Presence, ...]:
        """Those that somebody is logged in to, or just logs in to; the first comes first."""
        return tuple(each for each in self._presences() if each.account is not None)

    def presence_of(self, account: SavedAccount) -> Presence:
        """Return the identity of an account, a new one where there is none; raises Remedy."""
        for each in self.identities():
            if each.account is not None and each.account.who == account.who:
                return each
        if not _WHO.fullmatch(account.who):
            raise Remedy(f"{account.who!r} is not USER@DOMAIN", remedy="ntm up USER@DOMAIN")
        place = self._directory / IDENTITIES / account.who
        if self.main.account is None and not place.exists():
            return self.main
        private_directory(place.parent)
        private_directory(place)
        return self._open(place)

    def is_useful(self) -> bool:
        """Whether a node runs that goes on without a person."""
        sessions = (each.session for each in self._presences())
        return any(session is not None and session.account.enrolled for session in sessions)

    def answer(self, request: AnyRequest) -> AsyncGenerator[Answer, None]:
        """Answer a request as the control socket does."""
        return self._dispatch(request)

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until `end`; ready is called once the control socket answers."""
        try:
            self._control.start(self._operator())
            self._tasks.repeat(self._flush, FLUSH_S)
            ready()
            await self._end.wait()
        finally:
            await self._close()

    def end(self) -> None:
        """Give everything back and return from `run`."""
        self._end.set()

    def taken(self, by: Presence) -> Container[Host]:
        """The virtual addresses of all identities but one, and of the peers they have met."""
        return Taken(lambda: (each for each in self.identities() if each is not by))

    def handle_addresses(self, of: Presence) -> None:
        """The other identities give way to the virtual addresses that one just got."""
        for each in self._presences():
            if each is not of:
                each.give_way()

    def handle_choices(self) -> None:
        """Lets in the operator that the settings name."""
        self._control.admit(self._operator())

    def handle_closed(self) -> None:
        """An agent without a node is of no use to anybody."""
        if not self._held and not any(each.wanted for each in self._presences()):
            self.end()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Does not end by itself meanwhile: whoever asks is told first what became of each."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self.handle_closed()

    def _presences(self) -> tuple[Presence, ...]:
        return self.main, *self._others.values()

    def _open(self, place: Path) -> Presence:
        if place not in self._others:
            self._others[place] = Presence(place, self._entropy, self._make_model, self)
        return self._others[place]

    def _read_others(self) -> None:
        for place in further_identities(self._directory):
            try:
                self._open(place)
            except Remedy as error:
                # The other identities must come up all the same.
                self.troubles.append(f"{place.name}: {error.problem}; next: {error.remedy}")
                _LOG.error("an identity cannot be read", error=str(error))

    async def _close(self) -> None:
        async with AsyncExitStack() as stack:
            for each in self._presences():
                stack.push_async_callback(each.release)
            stack.push_async_callback(self._tasks.close)
            stack.push_async_callback(self._control.stop)
            for each in self._presences():
                stack.push_async_callback(each.stop)

    async def _flush(self) -> None:
        for each in self._presences():
            each.state.flush()

    def _operator(self) -> int | None:
        name = self.main.state.choices.operator
        try:
            return user_id(name) if name else None
        except Remedy:
            # The user is gone from this machine; the node must start all the same.
            return None
