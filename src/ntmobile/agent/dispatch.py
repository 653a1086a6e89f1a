"""Which identity of the agent a request is for; and what is asked of all of them at once.

With one identity everything is for it. With several, a person names one, or a name says whose
business it is, or the answer is of all; else nothing is done and the person is told what to say.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractContextManager, AsyncExitStack
from ipaddress import ip_address
from typing import Protocol

import msgspec

from ntmobile.agent.identities import ambiguous, named
from ntmobile.agent.names import suited
from ntmobile.agent.operations import Operations
from ntmobile.agent.presence import Presence
from ntmobile.agent.records import SavedAccount
from ntmobile.agent.requests import (
    Answer,
    AnyRequest,
    AskBugReport,
    AskDns,
    AskHandovers,
    AskPeers,
    AskStatus,
    AskTrace,
    Down,
    Ping,
    Said,
    Set,
    Up,
    Wait,
    Wake,
    Whois,
    done,
)
from ntmobile.agent.status import handovers_view, peers_view, whois_view
from ntmobile.agent.views import BugReport, HandoversView, PeersView, StatusView
from ntmobile.errors import Remedy
from ntmobile.runtime.tasks import Tasks

AGENTS_OWN = frozenset({"operator"})
"""Settings that are not an identity's."""


class Identities(Protocol):
    """The agent, as far as requests need it."""

    main: Presence
    troubles: list[str]

    def identities(self) -> tuple[Presence, ...]:
        """Those that somebody is logged in to."""
        ...

    def held(self) -> AbstractContextManager[None]:
        """Meanwhile the agent does not end by itself."""
        ...

    def presence_of(self, account: SavedAccount) -> Presence:
        """The identity of an account, a new one where there is none; raises Remedy."""
        ...


class Dispatch:
    """Answers every request of the control socket."""

    def __init__(self, agent: Identities) -> None:
        """Asks the agent for its identities at each request."""
        self._agent = agent

    def __call__(self, request: AnyRequest) -> AsyncGenerator[Answer, None]:
        """Start answering a request; raises Remedy where it is not clear who is meant."""
        if isinstance(request, Up) and request.account is not None:
            return Operations(self._agent.presence_of(request.account))(request)
        ones = self._agent.identities()
        if isinstance(request, AskStatus) and request.identity is None and ones:
            return self._show(request)
        if request.identity is None and len(ones) > 1:
            return self._all(request) or Operations(self._one(request))(request)
        return Operations(self._one(request))(request)

    def _all(self, request: AnyRequest) -> AsyncGenerator[Answer, None] | None:
        """Start answering what is asked of all identities; None when it must be of one."""
        match request:
            case Up(password=None, authority=None, certificate=None):
                return self._up()
            case Down(forget=False):
                return self._down()
            case Wait(fqdn=None):
                return self._each(self._that_run(), request, request.timeout_s)
            case Wake():
                return self._each(self._that_run(), request, None)
            case Set(changes) if changes and AGENTS_OWN.issuperset(changes):
                return Operations(self._agent.main)(request)
            case AskDns():
                return Operations(self._that_run()[0])(request)
            case AskPeers() | AskHandovers() | AskBugReport():
                return self._show(request)
            case Whois(address):
                return Operations(self._owner(address))(request)
            case _:
                return None

    def _one(self, request: AnyRequest) -> Presence:
        ones = self._agent.identities()
        accounts = [each.account for each in ones if each.account is not None]
        if request.identity is not None:
            meant = named(request.identity, accounts).who
            return next(each for each in ones if who_of(each) == meant)
        if len(ones) <= 1:
            return ones[0] if ones else self._agent.main
        fqdn = request.fqdn if isinstance(request, Ping | Wait | AskTrace) else None
        found = concerned(fqdn, ones) if fqdn is not None else ()
        if len(found) != 1:
            raise ambiguous(accounts, fqdn)
        return found[0]

    def _owner(self, address: str) -> Presence:
        """The identity that knows an address; the first where nobody does, to say so."""
        ones = self._agent.identities()
        try:
            host = ip_address(address)
        except ValueError:
            return ones[0]
        return next((each for each in ones if whois_view(host, each.state)), ones[0])

    def _that_run(self) -> tuple[Presence, ...]:
        running = tuple(each for each in self._agent.identities() if each.session is not None)
        if not running:
            raise Remedy("this node is down", remedy="ntm up")
        return running

    async def _show(self, request: AnyRequest) -> AsyncGenerator[Answer, None]:
        match request:
            case AskStatus():
                yield done(self._status())
            case AskPeers():
                yield done(self._peers())
            case AskHandovers():
                yield done(self._handovers())
            case _:
                yield done(BugReport(text=self._report()))

    def _status(self) -> StatusView:
        first, *others = (Operations(each).status() for each in self._agent.identities())
        reasons = (*first.reasons, *self._agent.troubles)
        first = msgspec.structs.replace(first, reasons=reasons)
        all_of_them = (first, *others) if others else ()
        return msgspec.structs.replace(first, identities=all_of_them)

    def _peers(self) -> PeersView:
        return PeersView(
            peers=tuple(
                msgspec.structs.replace(peer, identity=who_of(each))
                for each in self._agent.identities()
                for peer in peers_view(each.session, each.state).peers
            )
        )

    def _handovers(self) -> HandoversView:
        views = [
            (who_of(each), handovers_view(each.session))
            for each in self._that_run()
            if each.session is not None
        ]
        moves = [
            msgspec.structs.replace(move, identity=who)
            for who, view in views
            for move in view.handovers
        ]
        troubles = (view.trouble for _, view in views if view.trouble is not None)
        in_order = tuple(sorted(moves, key=lambda move: move.at))
        return HandoversView(handovers=in_order, trouble=next(troubles, None))

    def _report(self) -> str:
        return "\n\n".join(Operations(each).report() for each in self._agent.identities())

    async def _up(self) -> AsyncGenerator[Answer, None]:
        """Bring up all at once: no server that is silent keeps another identity waiting."""
        ones = self._agent.identities()
        said: asyncio.Queue[Said | None] = asyncio.Queue()
        failures: list[Remedy] = []
        with self._agent.held():
            async with Tasks() as tasks:
                for each in ones:
                    tasks.start(_bring_up(each, said, failures), "bring up an identity")
                left = len(ones)
                while left:
                    answer = await said.get()
                    if answer is None:
                        left -= 1
                    else:
                        yield answer
        if failures:
            raise _failed(failures, len(ones))
        yield done(self._status())

    async def _down(self) -> AsyncGenerator[Answer, None]:
        if any(each.session is not None for each in self._agent.identities()):
            yield Said("closing the tunnels")
        async with AsyncExitStack() as stack:
            for each in self._agent.identities():
                stack.push_async_callback(each.close, forget=False)
        yield done()

    async def _each(
        self, ones: Iterable[Presence], request: AnyRequest, timeout_s: float | None
    ) -> AsyncGenerator[Answer, None]:
        """Ask one after the other, in timeout_s together."""
        loop = asyncio.get_running_loop()
        ends = None if timeout_s is None else loop.time() + timeout_s
        for each in ones:
            if isinstance(request, Wait) and ends is not None:
                left = max(0.0, ends - loop.time())
                request = msgspec.structs.replace(request, timeout_s=left)
            async for answer in Operations(each)(request):
                if isinstance(answer, Said):
                    yield answer
        yield done(self._status())


def concerned(name: str, identities: Iterable[Presence]) -> tuple[Presence, ...]:
    """Return whose business a name is; a short one is that of who has met such a node."""
    ones = tuple(identities)
    if name.rstrip(".").count(".") > 1:
        return suited(name.lower().rstrip("."), ones)[0]
    return tuple(each for each in ones if _has_met(each, name))


def who_of(identity: Presence) -> str:
    """Return USER@DOMAIN of an identity."""
    return identity.account.who if identity.account is not None else ""


def _has_met(identity: Presence, name: str) -> bool:
    fqdn = Operations(identity).full(name)
    own = identity.account is not None and identity.account.fqdn == fqdn
    return own or fqdn in identity.state.peers


async def _bring_up(
    identity: Presence, said: "asyncio.Queue[Said | None]", failures: list[Remedy]
) -> None:
    who = who_of(identity)
    try:
        async for answer in Operations(identity)(Up()):
            if isinstance(answer, Said):
                said.put_nowait(Said(f"{who}: {answer.text}"))
    except Remedy as error:
        failures.append(Remedy(f"{who}: {error.problem}", remedy=error.remedy))
    finally:
        said.put_nowait(None)


def _failed(failures: list[Remedy], identities: int) -> Remedy:
    problems = "\n     ".join(error.problem for error in failures)
    if len(failures) < identities:
        problems += "\n     the other identities are up"
    return Remedy(problems, remedy="; ".join(dict.fromkeys(each.remedy for each in failures)))
