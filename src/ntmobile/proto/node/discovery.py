"""Finds out how the NAT or firewall in front of a node behaves, asking DC and RS by STUN.

States::

    Observing --every server answered or was given up--> Opening, or done: no answer, no UDP
    Opening --four fresh sockets, one after the other, asked one server each--> Testing
    Testing --strangers got in or did not, hairpin came back or did not--> done

Observing asks all servers, at all their ports, from one socket: mapping. Opening shows how ports
are assigned. Testing has a server answer from another port or another server answer to the port
of a socket that never asked it: filtering. The sockets are used for nothing else, so that the
node's own port keeps its filters as they are.

What Observing shows may be enough to go by meanwhile: a mapping that may serve any peer, behind
the strictest filter. That glimpse is there two round trips after the beginning, and the filter, of
which silence tells, two seconds later.

Source: RFC 4787 and RFC 5780, section 4. Ours: docs/protocol.md section 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import permutations
from typing import assert_never

from ntmobile.errors import StateError
from ntmobile.proto.io import Entropy, Timeout
from ntmobile.proto.node.finding import (
    BY_PORT,
    INDEPENDENT,
    Finding,
    Point,
    PointSeen,
    filtering_of,
    mapping_of,
    ports_of,
)
from ntmobile.proto.node.questions import PERSISTENT, Answered, Questions, Sending
from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint, Host

MOST_POINTS = 8
OBSERVER, FOR_ADDRESS, FOR_PORT, ONE_SIDE, OTHER_SIDE = range(5)
SOCKETS = 5
"""Fresh ones that the driver opens, on uplinks as the node's own."""
OPENED = (FOR_ADDRESS, FOR_PORT, ONE_SIDE, OTHER_SIDE)


@dataclass(frozen=True, slots=True)
class _Observe:
    """Which address does this server see?"""

    socket: int
    asked: Endpoint
    point: Point | None
    """None for the other port of a server."""


class _Test(Enum):
    ADDRESS = auto()
    PORT = auto()
    HAIRPIN = auto()


@dataclass(frozen=True, slots=True)
class _Stranger:
    """How to be answered by one that was not sent to."""

    contact: Endpoint
    asked: Endpoint
    from_other_port: bool = False


@dataclass(frozen=True, slots=True)
class _Observing:
    """All servers are asked from one socket."""


@dataclass(frozen=True, slots=True)
class _Opening:
    """Fresh sockets get their mappings in order."""

    left: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Testing:
    """Strangers and hairpins try to get in."""


_Tag = _Observe | _Test
_State = _Observing | _Opening | _Testing | Finding


class Discovery:
    """One examination in one family. Call start, then the handle_* and poll_* of every machine."""

    def __init__(
        self,
        points: Sequence[Point],
        sockets: Sequence[Endpoint],
        own: frozenset[Host],
        entropy: Entropy,
    ) -> None:
        """Points are of one family; sockets are the local ends, SOCKETS of them, ports bound.

        own are the node's addresses on its uplinks: a mapped address among them is untranslated.
        """
        if len(sockets) != SOCKETS or not points:
            raise StateError("a Discovery needs a server to ask and its sockets")
        self._points = tuple(dict.fromkeys(points))[:MOST_POINTS]
        self._sockets = tuple(sockets)
        self._own = own
        self._questions: Questions[_Tag] = Questions(entropy)
        self._state: _State = _Observing()
        self._rtt: dict[Point, int] = {}
        self._seen: list[dict[Endpoint, Endpoint]] = [{} for _ in range(SOCKETS)]
        """By socket: how each server sees it."""
        self._other: dict[Endpoint, Endpoint] = {}
        """The other port of a server, by its first."""
        self._strangers: dict[_Test, _Stranger] = {}
        self._passed: dict[_Test, bool] = {}
        self._glimpse: Finding | None = None

    def start(self, now: Instant) -> None:
        """Ask every server."""
        for point in self._points:
            tag = _Observe(OBSERVER, point.endpoint, point)
            self._questions.ask(tag, OBSERVER, point.endpoint, now, asks_other_port=True)

    def handle_datagram(self, socket: int, data: bytes, now: Instant) -> None:
        """Take what came to a socket; what answers nothing is dropped."""
        answered = self._questions.handle_datagram(socket, data, now)
        match answered:
            case Answered(_Observe() as tag):
                self._observe(tag, answered, now)
            case Answered(_Test() as test):
                self._passed[test] = True
            case None:
                pass
        self._go_on(now)

    def handle_timeout(self, now: Instant) -> None:
        """Ask again, give up, go on."""
        self._questions.handle_timeout(now)
        while (tag := self._questions.poll_silent()) is not None:
            if isinstance(tag, _Test):
                self._passed.setdefault(tag, False)
        self._go_on(now)

    def poll_sending(self) -> Sending | None:
        """Next datagram to send."""
        return self._questions.poll_sending()

    def poll_glimpse(self) -> Finding | None:
        """What may be gone by until the result is there, once; None where nothing may."""
        glimpse, self._glimpse = self._glimpse, None
        return glimpse

    def poll_finding(self) -> Finding | None:
        """The result, once it is there; it stays."""
        return self._state if isinstance(self._state, Finding) else None

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        return self._questions.poll_timeout()

    def _observe(self, tag: _Observe, answered: Answered[_Tag], now: Instant) -> None:
        response = answered.response
        if response is None or response.mapped.version != tag.asked.version:
            return
        self._seen[tag.socket][tag.asked] = response.mapped
        if tag.point is None:
            return
        self._rtt[tag.point] = answered.rtt_ns
        if response.other_port is not None:
            other = Endpoint(tag.asked.host, response.other_port)
            self._other[tag.asked] = other
            self._questions.ask(_Observe(OBSERVER, other, None), OBSERVER, other, now)

    def _go_on(self, now: Instant) -> None:
        """Begin the next state when nothing is open in this one."""
        while not len(self._questions):
            match self._state:
                case _Observing():
                    self._state = self._plan()
                case _Opening(left) if left:
                    self._open(left[0], now)
                    self._state = _Opening(left[1:])
                case _Opening():
                    self._test(now)
                    self._state = _Testing()
                case _Testing():
                    self._state = self._conclude()
                case Finding():
                    return
                case _:
                    assert_never(self._state)

    def _plan(self) -> _State:
        answering = self._answering()
        if not answering:
            return Finding(self._points[0].endpoint.version, self._told(), None, None)
        for one, other in permutations(answering, 2):
            if one.host != other.host:
                self._strangers.setdefault(_Test.ADDRESS, _Stranger(one, other))
            else:
                self._strangers.setdefault(_Test.PORT, _Stranger(one, other))
        if INDEPENDENT in mapping_of(self._seen[OBSERVER]):
            mapping, filtering = frozenset({INDEPENDENT}), frozenset({BY_PORT})
            mapped, translated = self._first_mapped(), self._translated()
            told = self._told()
            self._glimpse = Finding(mapped.version, told, mapped, translated, mapping, filtering)
        for one in answering:
            if one in self._other:
                self._strangers[_Test.PORT] = _Stranger(one, one, from_other_port=True)
        return _Opening(OPENED)

    def _open(self, socket: int, now: Instant) -> None:
        """Give a fresh socket its first mapping."""
        contact = self._contact(socket)
        self._questions.ask(_Observe(socket, contact, None), socket, contact, now)

    def _contact(self, socket: int) -> Endpoint:
        """The one server that a fresh socket asks."""
        tests = {FOR_ADDRESS: _Test.ADDRESS, FOR_PORT: _Test.PORT}
        stranger = self._strangers.get(tests[socket]) if socket in tests else None
        return self._answering()[0] if stranger is None else stranger.contact

    def _test(self, now: Instant) -> None:
        for test, socket in ((_Test.ADDRESS, FOR_ADDRESS), (_Test.PORT, FOR_PORT)):
            stranger = self._strangers.get(test)
            mapped = self._mapped(socket)
            asking = None if stranger is None else self._seen[OBSERVER].get(stranger.asked)
            # The answer can only go to the address that asks.
            if stranger and mapped and asking and mapped.host == asking.host:
                self._questions.ask(
                    test,
                    OBSERVER,
                    stranger.asked,
                    now,
                    waits=PERSISTENT,
                    from_other_port=stranger.from_other_port,
                    response_port=mapped.port,
                )
        if self._translated():
            for here, there in ((ONE_SIDE, OTHER_SIDE), (OTHER_SIDE, ONE_SIDE)):
                if (mapped := self._mapped(there)) is not None:
                    self._questions.ask(_Test.HAIRPIN, here, mapped, now, waits=PERSISTENT)

    def _conclude(self) -> Finding:
        mapping = mapping_of(self._seen[OBSERVER])
        address, port = (self._passed.get(test) for test in (_Test.ADDRESS, _Test.PORT))
        filtering = filtering_of(address=address, port=port)
        hairpin = self._passed.get(_Test.HAIRPIN)
        if hairpin is False and mapping != {INDEPENDENT} and filtering != {INDEPENDENT}:
            # Each sent to another mapping than the one that the other spoke from.
            hairpin = None
        return Finding(
            self._points[0].endpoint.version,
            self._told(),
            self._first_mapped(),
            self._translated(),
            mapping,
            filtering,
            ports_of(self._given()) if self._translated() else None,
            hairpin,
        )

    def _answering(self) -> list[Endpoint]:
        seen = self._seen[OBSERVER]
        return [point.endpoint for point in self._points if point.endpoint in seen]

    def _told(self) -> tuple[PointSeen, ...]:
        return tuple(PointSeen(point, self._rtt.get(point)) for point in self._points)

    def _mapped(self, socket: int) -> Endpoint | None:
        return self._seen[socket].get(self._contact(socket))

    def _first_mapped(self) -> Endpoint:
        return self._seen[OBSERVER][self._answering()[0]]

    def _translated(self) -> bool:
        mapped = self._first_mapped()
        return mapped.host not in self._own or mapped.port != self._sockets[OBSERVER].port

    def _given(self) -> list[tuple[int, int]]:
        """Inner and outer port of the fresh sockets, in the order of their mappings."""
        pairs = ((self._sockets[socket].port, self._mapped(socket)) for socket in OPENED)
        return [(inner, mapped.port) for inner, mapped in pairs if mapped is not None]
