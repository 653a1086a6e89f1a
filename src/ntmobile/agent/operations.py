"""What the agent does for each request of the control socket that is about one identity."""

import asyncio
import pwd
from collections.abc import AsyncGenerator, Callable, Mapping
from ipaddress import ip_address
from statistics import median
from typing import Protocol

import msgspec

from ntmobile.agent.failures import (
    login_failure,
    name_failure,
    registration_failure,
    standstill,
)
from ntmobile.agent.history import Trace
from ntmobile.agent.netcheck import netcheck
from ntmobile.agent.networks import parse_behind, parse_beyond
from ntmobile.agent.records import Choices, KeepAlive, SavedAccount
from ntmobile.agent.report import report_text
from ntmobile.agent.requests import (
    Answer,
    AnyRequest,
    AskBugReport,
    AskDns,
    AskHandovers,
    AskKeys,
    AskNetcheck,
    AskPeers,
    AskStatus,
    AskTrace,
    Down,
    Expose,
    Ping,
    Said,
    Set,
    Up,
    Wait,
    Wake,
    Whois,
    done,
    item,
)
from ntmobile.agent.session import Session
from ntmobile.agent.settings import setting_names
from ntmobile.agent.state import State, take_credential
from ntmobile.agent.status import (
    down_view,
    handovers_view,
    keys_view,
    peers_view,
    status_view,
    trace_view,
    whois_view,
)
from ntmobile.agent.views import (
    BugReport,
    ChoicesView,
    DnsView,
    PingSummary,
    PongView,
    StatusView,
)
from ntmobile.errors import Remedy
from ntmobile.keys.node_certificates import (
    authority_name,
    trusted_authorities,
)
from ntmobile.proto.node.events import NameRefused, Pong
from ntmobile.runtime.proxy import Proxy
from ntmobile.wire.identity import Authentication
from ntmobile.wire.registration import Reason

PONG_S = 5.0
"""A ping unanswered for that long is lost."""
WAKE_S = 20.0
"""A phone lets an app that was woken run for about half a minute."""
TUNNEL_S = 40.0
"""A tunnel that does not stand by then does not come: longer than any negotiation."""
ASK_AGAIN_S = 3.0
"""For a tunnel whose name is known; a question while it is being built asks nobody."""
MAPPING_AGES = range(3, 86_401)
"""Seconds; below, a NAT would be of no use to anybody."""
_MILLISECOND = 1_000_000
_YES, _NO = ("yes", "on", "true", "1"), ("no", "off", "false", "0")


class Running(Protocol):
    """One identity of the agent, as far as its operations need it."""

    state: State

    @property
    def session(self) -> Session | None:
        """The running node, None while it is down."""
        ...

    async def open(self, account: SavedAccount) -> Session:
        """Start the node; raises Remedy."""
        ...

    async def close(self, *, forget: bool) -> None:
        """Stop the node, and end the agent once this is answered, if no other identity is up."""
        ...

    def is_ready(self) -> bool:
        """Registered, and hooked into the machine."""
        ...

    @property
    def attach_failure(self) -> Remedy | None:
        """Why the node could not be hooked into the machine."""
        ...

    async def apply(self, choices: Choices) -> tuple[str, ...]:
        """Make settings effective; returns what takes effect only later."""
        ...

    def expose(self, port: int, *, offered: bool) -> None:
        """Offer a local port to peers, or no longer; raises Remedy."""
        ...

    def troubles(self) -> list[str]:
        """What the agent itself suffers from."""
        ...

    def dns(self) -> DnsView:
        """The state of the DNS hook."""
        ...


class Operations:
    """Answers requests; one generator for each."""

    def __init__(self, agent: Running) -> None:
        """Asks the agent for everything."""
        self._agent = agent

    def __call__(self, request: AnyRequest) -> AsyncGenerator[Answer, None]:
        """Start answering a request."""
        match request:
            case Up():
                return self._up(request)
            case Down(forget):
                return self._down(forget=forget)
            case Ping():
                return self._ping(request)
            case Wait(fqdn, timeout_s):
                return self._wait(fqdn, timeout_s)
            case Wake():
                return self._wake()
            case Set(changes):
                return self._set(changes)
            case Expose(port, offered):
                return self._expose(port, offered=offered)
            case AskNetcheck(lifetime):
                return netcheck(self._session(), lifetime=lifetime)
            case _:
                return self._show(request)

    async def _show(self, request: AnyRequest) -> AsyncGenerator[Answer, None]:
        yield done(self._view(request))

    def _view(self, request: AnyRequest) -> object:
        agent = self._agent
        match request:
            case AskStatus():
                return self.status()
            case AskPeers():
                return peers_view(agent.session, agent.state)
            case AskKeys():
                return keys_view(self._session(), agent.state)
            case AskHandovers():
                return handovers_view(self._session())
            case AskTrace(fqdn):
                return self._trace(fqdn)
            case Whois(address):
                return self._whois(address)
            case AskDns():
                return agent.dns()
            case AskBugReport():
                return BugReport(text=self.report())
            case _:
                raise AssertionError(request)

    def status(self) -> StatusView:
        """What `ntm status` shows of this identity."""
        agent = self._agent
        if agent.session is None:
            return down_view(agent.state, agent.troubles())
        view = status_view(agent.session, agent.state, agent.troubles())
        hook = agent.dns().hook
        return view if hook == "off" else msgspec.structs.replace(view, dns=hook)

    def _session(self) -> Session:
        session = self._agent.session
        if session is None:
            raise Remedy("this node is down", remedy="ntm up")
        return session

    def full(self, name: str) -> str:
        """Return the FQDN of a name; NAME is the same user's, NAME.USER in the same domain."""
        fqdn, account = name.lower().rstrip("."), self._agent.state.account
        if account is None or fqdn.count(".") > 1:
            return fqdn
        user = "" if "." in fqdn else f"{account.user}."
        return f"{fqdn}.{user}{account.domain}"

    async def _up(self, request: Up) -> AsyncGenerator[Answer, None]:
        agent = self._agent
        if agent.session is None:
            account = request.account or agent.state.account
            if account is None:
                raise Remedy("this node has no account yet", remedy="ntm up USER@DOMAIN")
            take_credential(agent.state, account, request.certificate, request.key)
            yield Said(f"logging in as {account.fqdn}")
            session = await self._open(account)
            session.login(request.password, request.authority)
        session = self._session()
        if request.account is not None and _is_reached_otherwise(request.account, session):
            await self._reach(session, request.account)
        if _may_help(request, session):
            yield Said(f"logging in again as {session.account.fqdn}")
            session.login(request.password, request.authority)
        if not (agent.is_ready() and session.logged_in):
            await self._changed(session, lambda: session.logged_in or _failed(session))
            if not _failed(session):
                yield Said(f"registering at {session.node.view().coordinator}")
            await self._changed(session, lambda: self._is_decided(session))
            await self._check(session)
        yield done(self.status())

    async def _open(self, account: SavedAccount) -> Session:
        try:
            return await self._agent.open(account)
        except Exception:
            # An agent without a node is of no use to anybody.
            await self._agent.close(forget=False)
            raise

    def _is_decided(self, session: Session) -> bool:
        decided = self._agent.is_ready() or self._agent.attach_failure is not None
        return decided or _failed(session) or bool(session.node.view().reason)

    async def _check(self, session: Session) -> None:
        """Raise what keeps a node from being up; where only a person can help, it ends."""
        failure, refused = session.login_failure, self._agent.attach_failure
        if failure is not None:
            if failure.retry_at is None and not session.account.enrolled:
                await self._agent.close(forget=False)
            raise login_failure(session.account, failure)
        if refused is not None:
            await self._agent.close(forget=False)
            raise refused
        if not self._agent.is_ready():
            raise registration_failure(session.account, session.node.view().reason)

    async def _changed(self, session: Session, condition: Callable[[], bool]) -> None:
        await session.changed.until(lambda: condition() or self._agent.session is not session)
        self._session()

    async def _down(self, *, forget: bool) -> AsyncGenerator[Answer, None]:
        if self._agent.session is not None:
            yield Said("closing the tunnels")
        await self._agent.close(forget=forget)
        yield done()

    async def _wait(
        self, name: str | None, timeout_s: float | None
    ) -> AsyncGenerator[Answer, None]:
        session = self._session()
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed(
                    session, lambda: self._agent.is_ready() or _has_stopped(session)
                )
                _refuse_stopped(session)
                if name is not None:
                    await self._tunnel(session, self.full(name))
        except TimeoutError:
            what = f"the tunnel to {self.full(name)}" if name else "this node"
            raise Remedy(f"{what} is not up after {timeout_s:g} s", remedy="ntm status") from None
        yield done(self.status())

    async def _wake(self) -> AsyncGenerator[Answer, None]:
        """The node contacts its DC, and gets what waits there. Source: paper, Fig. 6."""
        session = self._session()
        before = session.answers
        session.driver.do(session.node.wake)
        await self._answered(session, before)
        yield done(self.status())

    async def _answered(self, session: Session, before: int) -> None:
        """Return when the DC has answered more often than before; raises Remedy."""
        try:
            async with asyncio.timeout(WAKE_S):
                await self._changed(
                    session, lambda: session.answers > before or _has_stopped(session)
                )
        except TimeoutError:
            raise Remedy(
                f"{session.node.view().coordinator or 'the DC'} did not answer in {WAKE_S:g} s\n"
                "     the agent goes on trying in the background",
                remedy="check the network of this device; ntm status",
            ) from None
        _refuse_stopped(session)

    async def _tunnel(self, session: Session, fqdn: str) -> None:
        """Return when a tunnel to a peer stands; raises Remedy when none comes."""
        if fqdn == session.account.fqdn:
            raise Remedy(f"{fqdn} is this node: there is no tunnel to it", remedy="ntm status")
        _refuse_stopped(session)
        try:
            async with asyncio.timeout(TUNNEL_S):
                while not await self._resolved(session, fqdn):
                    pass  # The name is known and the tunnel failed: the DC is asked again.
        except TimeoutError:
            raise name_failure(fqdn, Reason.TIMED_OUT) from None

    async def _resolved(self, session: Session, fqdn: str) -> bool:
        """Look a peer up; whether its tunnel stands soon after. Raises Remedy when refused."""
        outcome = await session.names.resolve(fqdn)
        if isinstance(outcome, NameRefused):
            raise name_failure(fqdn, outcome.reason)
        try:
            async with asyncio.timeout(ASK_AGAIN_S):
                await self._changed(session, lambda: _has_path(session, fqdn))
        except TimeoutError:
            return False
        return True

    async def _ping(self, request: Ping) -> AsyncGenerator[Answer, None]:
        session, fqdn = self._session(), self.full(request.fqdn)
        await self._tunnel(session, fqdn)
        pongs: list[PongView] = []
        loop = asyncio.get_running_loop()
        while request.count is None or len(pongs) < request.count:
            began = loop.time()
            pongs.append(await self._ping_once(session, fqdn, len(pongs) + 1))
            yield item(pongs[-1])
            if request.until_direct and pongs[-1].kind == "direct":
                break
            if request.count is None or len(pongs) < request.count:
                await asyncio.sleep(max(0.0, began + request.interval_ms / 1000 - loop.time()))
        yield done(_summary(fqdn, pongs))

    async def _ping_once(self, session: Session, fqdn: str, number: int) -> PongView:
        sequence = session.next_ping()
        try:
            async with asyncio.timeout(PONG_S):
                if not session.driver.do(lambda now: session.node.ping(fqdn, sequence, now)):
                    await self._tunnel(session, fqdn)
                    session.driver.do(lambda now: session.node.ping(fqdn, sequence, now))
                await self._changed(session, lambda: (fqdn, sequence) in session.pongs)
        except TimeoutError:
            return PongView(fqdn=fqdn, sequence=number, rtt_ms=None, kind=None, remote=None)
        return _pong_view(session.pongs.pop((fqdn, sequence)), number)

    def _trace(self, name: str | None) -> object:
        session = self._session()
        own = session.account.fqdn
        trace = session.history.standing(own) if name is None else self._tunnel_trace(session, name)
        if not trace.steps:
            raise Remedy(f"{own} has not asked its account server yet", remedy="ntm status")
        return trace_view(own, trace, session.clock)

    def _tunnel_trace(self, session: Session, name: str) -> Trace:
        fqdn = self.full(name)
        trace = session.history.trace(fqdn)
        if trace is None:
            raise Remedy(
                f"no tunnel to {fqdn} was built since this node is up", remedy=f"ntm ping {fqdn}"
            )
        return trace

    def _whois(self, text: str) -> object:
        try:
            address = ip_address(text)
        except ValueError:
            raise Remedy(f"{text!r} is not an IP address", remedy="ntm peers") from None
        view = whois_view(address, self._agent.state)
        if view is None:
            raise Remedy(f"{address} is no node's that this one has met", remedy="ntm peers")
        return view

    def report(self) -> str:
        """What `ntm bugreport` says of this identity."""
        return report_text(self._agent.session, self._agent.state, self.status())

    async def _set(self, changes: Mapping[str, str]) -> AsyncGenerator[Answer, None]:
        choices = self._agent.state.choices
        for name, value in changes.items():
            if name == "forget":
                self._forget(value)
            elif name == "keepalive":
                await self._reach_by(value)
            else:
                choices = changed_choice(choices, name, value)
        notes: tuple[str, ...] = ()
        if choices != self._agent.state.choices:
            self._agent.state.keep_choices(choices)
            notes = await self._agent.apply(choices)
        shown = shown_choices(choices)
        if (account := self._agent.state.account) is not None:
            shown["keepalive"] = account.keepalive.value
        yield done(ChoicesView(choices=shown, notes=notes))

    async def _reach_by(self, value: str) -> None:
        """Have the DC reach this node otherwise, as `ntm up --keepalive` does."""
        state, session = self._agent.state, self._agent.session
        if state.account is None:
            raise Remedy("this node has no account yet", remedy="ntm up USER@DOMAIN")
        account = otherwise_reached(state.account, value)
        if session is None:
            state.keep_account(account)
        elif _is_reached_otherwise(account, session):
            await self._reach(session, account)

    async def _reach(self, session: Session, account: SavedAccount) -> None:
        """Return when the DC has answered to the new choice; raises Remedy."""
        before = session.answers
        await session.reach(account)
        await self._answered(session, before)

    async def _expose(self, port: int, *, offered: bool) -> AsyncGenerator[Answer, None]:
        self._agent.expose(port, offered=offered)
        yield done()

    def _forget(self, given: str) -> None:
        """Forget the pin of a peer, or those of a domain's CAs."""
        name, agent = given.lower().rstrip("."), self._agent
        if not (agent.state.forget(name) or agent.state.forget(self.full(name))):
            raise Remedy(
                f"nothing is pinned of {given}: name a peer's FQDN or a domain",
                remedy="ntm peers; ntm keys",
            )
        if agent.session is not None:
            agent.session.forget(name)
            agent.session.forget(self.full(name))


def changed_choice(choices: Choices, name: str, value: str) -> Choices:
    """Return the settings with one changed; raises Remedy when it is wrong."""
    match name:
        case "operator":
            return msgspec.structs.replace(choices, operator=_user(value))
        case "accept-dns":
            return msgspec.structs.replace(choices, accept_dns=_flag(name, value))
        case "relay-only":
            return msgspec.structs.replace(choices, relay_only=_flag(name, value))
        case "proxy":
            return msgspec.structs.replace(choices, proxy=_proxy(value))
        case "seek-direct":
            return msgspec.structs.replace(choices, seek_direct=_flag(name, value))
        case "map-port":
            return msgspec.structs.replace(choices, map_port=_flag(name, value))
        case "mapping-age":
            return msgspec.structs.replace(choices, mapping_age_s=_mapping_age(value))
        case "authentication":
            return msgspec.structs.replace(choices, authentication=_authentication(value))
        case "routes":
            kept = ",".join(map(str, parse_beyond(value)))
            return msgspec.structs.replace(choices, routes=kept)
        case "advertise-routes":
            kept = ",".join(map(str, parse_behind(value)))
            return msgspec.structs.replace(choices, advertised=kept)
        case "trusted-ca":
            trusted_authorities(value)
            return msgspec.structs.replace(choices, trusted_ca=value)
        case _:
            raise Remedy(
                f"there is no setting {name!r}; there are {setting_names()}", remedy="ntm set"
            )


def shown_choices(choices: Choices) -> dict[str, str]:
    """Return every setting as one would type it."""
    return {
        "operator": choices.operator or "",
        "accept-dns": "yes" if choices.accept_dns else "no",
        "map-port": "yes" if choices.map_port else "no",
        "mapping-age": _shown_age(choices.mapping_age_s),
        "seek-direct": "yes" if choices.seek_direct else "no",
        "relay-only": "yes" if choices.relay_only else "no",
        # Without the password.
        "proxy": "" if choices.proxy is None else str(Proxy.parse(choices.proxy)),
        "authentication": choices.authentication.value,
        "routes": choices.routes,
        "advertise-routes": choices.advertised,
        "trusted-ca": " ".join(map(authority_name, trusted_authorities(choices.trusted_ca))),
    }


def _mapping_age(value: str) -> int | None:
    if value in ("auto", "never"):
        return None if value == "auto" else 0
    if not (value.isascii() and value.isdigit() and int(value) in MAPPING_AGES):
        raise Remedy(
            f"mapping-age is auto, never or seconds from {MAPPING_AGES[0]} to {MAPPING_AGES[-1]}, "
            f"not {value!r}",
            remedy="ntm set mapping-age=auto",
        )
    return int(value)


def _shown_age(age_s: int | None) -> str:
    if age_s is None:
        return "auto"
    return str(age_s) if age_s else "never"


def otherwise_reached(account: SavedAccount, value: str) -> SavedAccount:
    """Return the account with another keep-alive; raises Remedy when that cannot be."""
    if value not in set(KeepAlive):
        raise Remedy(
            f"keepalive is udp, tcp, push or auto, not {value!r}", remedy="ntm set keepalive=udp"
        )
    if value == KeepAlive.PUSH and account.device_token is None:
        raise Remedy(
            "this node has no device token, so no push service can wake it; nothing was changed",
            remedy="ntm up --push fcm:TOKEN, apns:TOKEN or web:FILE, "
            "with what the app got from its push service",
        )
    return msgspec.structs.replace(account, keepalive=KeepAlive(value))


def user_id(name: str) -> int:
    """Return the id of a user of this machine; raises Remedy."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise Remedy(f"there is no user {name!r} on this machine", remedy="ntm set") from None


def _proxy(url: str) -> str | None:
    if not url:
        return None
    try:
        Proxy.parse(url)
    except ValueError as error:
        raise Remedy(str(error), remedy="ntm set proxy=http://HOST:PORT") from None
    return url


def _user(name: str) -> str | None:
    if not name:
        return None
    user_id(name)
    return name


def _authentication(value: str) -> Authentication:
    if value not in (Authentication.CERTIFICATE, Authentication.DEVICE_KEY):
        raise Remedy(
            f"authentication is certificate or device-key, not {value!r}",
            remedy="ntm set authentication=certificate",
        )
    return Authentication(value)


def _flag(name: str, value: str) -> bool:
    if value.lower() in _YES:
        return True
    if value.lower() in _NO:
        return False
    raise Remedy(f"{name} is yes or no, not {value!r}", remedy=f"ntm set {name}=yes")


def _has_stopped(session: Session) -> bool:
    """Only a person makes it go on."""
    return _standstill(session) is not None


def _refuse_stopped(session: Session) -> None:
    if (refused := _standstill(session)) is not None:
        raise refused


def _standstill(session: Session) -> Remedy | None:
    return standstill(session.account, session.node.view().reason, session.login_failure)


def _has_path(session: Session, fqdn: str) -> bool:
    return any(peer.fqdn == fqdn and peer.remote is not None for peer in session.node.peers())


def _failed(session: Session) -> bool:
    return session.login_failure is not None


def _is_reached_otherwise(account: SavedAccount, session: Session) -> bool:
    now = session.account
    return (account.keepalive, account.device_token) != (now.keepalive, now.device_token)


def _may_help(request: Up, session: Session) -> bool:
    """Whether to log in anew: with another proof, or where the agent itself tries no more."""
    failure = session.login_failure
    if failure is not None:
        return failure.retry_at is None or bool(request.password or request.authority)
    # One that gave way to a newer copy would only do so again.
    return session.node.view().reason == Reason.REVOKED


def _pong_view(pong: Pong, number: int) -> PongView:
    return PongView(
        fqdn=pong.fqdn,
        sequence=number,
        rtt_ms=pong.rtt_ns / _MILLISECOND,
        kind="relay" if pong.relayed else "direct",
        remote=str(pong.remote),
    )


def _summary(fqdn: str, pongs: list[PongView]) -> PingSummary:
    times = [pong.rtt_ms for pong in pongs if pong.rtt_ms is not None]
    answered = [pong for pong in pongs if pong.kind is not None]
    return PingSummary(
        fqdn=fqdn,
        sent=len(pongs),
        received=len(times),
        rtt_min_ms=min(times, default=None),
        rtt_median_ms=median(times) if times else None,
        rtt_max_ms=max(times, default=None),
        direct=bool(answered) and answered[-1].kind == "direct",
    )
