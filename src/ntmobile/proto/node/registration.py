"""Keeps a node registered with its DC, over each family it has, and the NAT mapping open.

States::

    Unregistered --register--> (one request a family) --Registration Response--> Registered
    Registered --keep-alive every 20 s; each third, and the first after a move, is answered--> same
    Registered --mapped address or DC's boot changed, silence, own addresses changed--> register

One sequence number serves all families of a round: whichever arrives first, the others still count.

Source: paper, Fig. 3. Ours: sequence numbers, answered keep-alives, docs/protocol.md section 3.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ntmobile.proto.conversation import Conversation
from ntmobile.proto.io import Timeout
from ntmobile.proto.node.distances import Distances
from ntmobile.proto.node.events import RegistrationLost, RoundTripsWanted
from ntmobile.proto.node.mapping_age import SEEK_NS, MappingAge
from ntmobile.proto.node.rotation import Rotation, Turn
from ntmobile.proto.node.round_trips import Measured
from ntmobile.proto.node.settings import NodeSettings
from ntmobile.proto.node.tags import DCTag, KeptAlive, Registering
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Signal
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import (
    KeepAliveAnswer,
    KeepAliveChoice,
    Reason,
    Refusal,
    RegistrationRequest,
    RegistrationResponse,
    Superseded,
    UdpKeepAlive,
)
from ntmobile.wire.round_trip import RoundTrips

ANSWERED_EVERY = 3
MIN_KEEPALIVE_S = 5
"""Less would drain a battery whatever the DC asks for."""
RETRY_NS = SECOND
KEEPALIVE_TRIES = 4


@dataclass(frozen=True, slots=True)
class RegistrationStood:
    """The DC answered over one family."""

    response: RegistrationResponse
    family: int
    changed: bool
    """The mapped address or the virtual addresses are new."""


@dataclass(frozen=True, slots=True)
class Overtaken:
    """A newer instance of this node registered."""


class Registration:
    """One node's standing with its DC."""

    def __init__(
        self,
        settings: NodeSettings,
        coordinators: Callable[[], tuple[Endpoint, ...]],
        certificate: Callable[[], bytes] = bytes,
        opened: Callable[[], tuple[Endpoint, ...]] = tuple,
    ) -> None:
        """coordinators gives the DC's addresses of the families the node has now; certificate
        the folded one that peers are to be shown from now; opened where a router lets others in.
        """
        self._opened = opened
        self._certificate = certificate
        self._settings = settings
        self._coordinators = coordinators
        self._conversation: Conversation[DCTag] | None = None
        self._local: tuple[Endpoint, ...] = ()
        self._sequence = 0
        self._stood: dict[int, RegistrationResponse] = {}
        self._open: dict[int, list[int]] = {}
        """Transactions of this round, by family."""
        self._keepalive_at: Instant | None = None
        self._retry_at: Instant | None = None
        self.silent_since: Instant | None = None
        """Since when the DC leaves requests unanswered; None when it answered the last."""
        self._count = 0
        self.choice = settings.keepalive
        """How the node wants to be reached; a change counts from the next `register`."""
        self.device_token = settings.device_token
        self._rests = False
        self._interval_s = 0
        self._content: Callable[[], bytes | None] = lambda: None
        self.distances = Distances()
        """To the domain's RS; the DC is told by a keep-alive."""
        self._told: tuple[int, RoundTrips] | None = None
        """Which of them the DC of which boot id was told."""
        self._ages = {4: MappingAge(settings.mapping_age_s or None), 6: MappingAge()}
        self._rotation = Rotation()
        self._seek_at: Instant | None = None
        """When to look whether the NAT has dropped the mapping, as it is expected to."""
        self._events: deque[RegistrationStood | RegistrationLost | Overtaken] = deque()

    @property
    def responses(self) -> dict[int, RegistrationResponse]:
        """The DC's last answer by family (4 or 6)."""
        return dict(self._stood)

    @property
    def mapped(self) -> tuple[Endpoint, ...]:
        """Where the DC sees this node, an address a family."""
        return tuple(response.mapped for response in self._stood.values())

    @property
    def interval_s(self) -> int:
        """Seconds between UDP keep-alives now; 0 where none is sent."""
        return 0 if self._keepalive_at is None else self._spacing_s()

    @property
    def mapping_age_s(self) -> int | None:
        """At which age the NAT drops mappings, in seconds; None where none is known to."""
        age = self._ages[4].age
        return None if age is None else round(age.most / SECOND)

    def show_port(self, now: Instant) -> None:
        """The node sends from another port: show it to the DC."""
        self._ages[4].leave(now)
        self.register(self._local, now)

    def heed(self, content: Callable[[], bytes | None]) -> None:
        """content gives the identifier of the Kntmns that the node is content with."""
        self._content = content

    def space(self, interval_s: int) -> None:
        """Keep alive at this interval, as the network allows; 0 is what the DC asks for."""
        self._interval_s = interval_s

    def rest(self, now: Instant, *, rests: bool) -> None:
        """NS holds the node (or no more): the UDP mapping may die, or must be made again."""
        if rests == self._rests:
            return
        self._rests = rests
        if not rests and self._stood:
            # Answered, so that the DC hears at once of a node that its NS lost.
            self._count = ANSWERED_EVERY - 1
            self._keep_alive(now)
        else:
            self._keepalive_at = self._next_keepalive(now)
            self._plan_seeking(now)

    def begin(self, conversation: Conversation[DCTag]) -> None:
        """Use this conversation (a new Kntmdc) from now; `register` comes next."""
        self._conversation = conversation
        self._told = None
        self._open.clear()

    def end(self, now: Instant) -> None:
        """Tell the DC that the node leaves; nothing waits for the answer."""
        if self._conversation is not None and self._stood:
            self._sequence += 1
            farewell = self._request(())
            for coordinator in self._coordinators():
                self._conversation.tell(farewell, coordinator, now)
        self._keepalive_at = self._retry_at = self._seek_at = self.silent_since = None
        self._rotation.move()
        self._stood.clear()

    def reset(self) -> None:
        """Forget the DC; only the sequence goes on."""
        if self._conversation is not None:
            self._cancel(self._conversation)
        self._conversation = None
        self._keepalive_at = self._retry_at = self._seek_at = self.silent_since = None
        self._rotation.move()
        self._stood.clear()
        self._events.clear()

    def register(
        self,
        local: tuple[Endpoint, ...],
        now: Instant,
        failed: tuple[str, ...] = (),
        *,
        moved: bool = False,
    ) -> None:
        """Register these own addresses at once, over each family there is.

        failed are the NS that were of no use. moved: they are in another network, or the way to
        the DC is another.
        """
        self._local = local
        self._retry_at = None
        if moved:
            self.distances.move()
            self._seek_at = None
            self._rotation.move()
            for age in self._ages.values():
                age.move()
        if self._conversation is None:
            return
        self._cancel(self._conversation)
        coordinators = self._coordinators()
        families = {coordinator.version for coordinator in coordinators}
        self._stood = {family: kept for family, kept in self._stood.items() if family in families}
        self._sequence += 1
        if moved or self.silent_since is None:
            self.silent_since = now
        for coordinator in coordinators:
            transaction = self._conversation.ask(
                self._request(local, failed), (coordinator,), now, Registering(coordinator.version)
            )
            self._open.setdefault(coordinator.version, []).append(transaction)

    def handle_answer(self, tag: Registering | KeptAlive, answer: Signal, now: Instant) -> None:
        """Take the DC's answer to a request or to a keep-alive."""
        if isinstance(tag, Registering):
            self.silent_since = None
        match tag, answer:
            case Registering(family), RegistrationResponse():
                self._stand(family, answer, now)
            case Registering(), Superseded():
                self._events.append(Overtaken())
            case Registering(), Refusal(Reason.SUPERSEDED):
                self._retry_at = Instant(now + RETRY_NS)
            case Registering(), Refusal(reason):
                self._lose(reason, now)
            case KeptAlive(4), KeepAliveAnswer() if self._rotation.is_under_way:
                pass  # The question may have left by the other port.
            case KeptAlive(family), KeepAliveAnswer(mapped, boot, relays):
                if relays:
                    self.distances.learn(relays, self._families())
                self._see(family, mapped, now)
                known = self._stood.get(family)
                if known is None or known.mapped != mapped or known.boot != boot:
                    self.register(self._local, now)
            case _:
                pass

    def handle_silence(self, tag: Registering | KeptAlive, now: Instant) -> None:
        """The DC did not answer any try."""
        match tag:
            case Registering(family):
                self._open.pop(family, None)
                self._stood.pop(family, None)
                if not self._stood:
                    self._lose(Reason.TIMED_OUT, now)
            case KeptAlive():
                self._told = None
                self.register(self._local, now)

    def handle_round_trips(self, number: int, measured: Measured, now: Instant) -> None:
        """Answers RoundTripsWanted."""
        if self.distances.take(number, measured, now):
            self._tell(now)

    def handle_timeout(self, now: Instant) -> None:
        """Keep alive, or try again."""
        if self._retry_at is not None and now >= self._retry_at:
            self.register(self._local, now)
        if self._keepalive_at is not None and now >= self._keepalive_at:
            self._keep_alive(now)
        if self._seek_at is not None and now >= self._seek_at:
            self._seek(now)
        self._rotation.handle_timeout(now)

    def poll_event(
        self,
    ) -> RegistrationStood | RegistrationLost | Overtaken | RoundTripsWanted | Turn | None:
        """Next thing that happened."""
        if self._events:
            return self._events.popleft()
        return self._rotation.poll_turn() or self.distances.poll_want()

    def answering(self, usable: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        """Return the DC over the families where it answers, IPv6 first; else all there are."""
        answering = [end for end in usable if end.version in self.responses]
        return tuple(sorted(answering, key=lambda end: -end.version)) or usable

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        due = self._retry_at, self._keepalive_at, self._seek_at
        times = [Timeout(at, "UDP Keep Alive") for at in due if at is not None]
        rotation = self._rotation.poll_timeout()
        return min((*times, *([] if rotation is None else [rotation])), default=None)

    def _cancel(self, conversation: Conversation[DCTag]) -> None:
        for transactions in self._open.values():
            for transaction in transactions:
                conversation.cancel(transaction)
        self._open.clear()

    def _request(
        self, local: tuple[Endpoint, ...], failed: tuple[str, ...] = ()
    ) -> RegistrationRequest:
        settings = self._settings
        return RegistrationRequest(
            settings.fqdn,
            settings.instance,
            settings.started,
            self._sequence,
            local,
            self.choice,
            self.device_token,
            relay_only=settings.relay_only,
            aes=settings.aes,
            certificate=self._certificate(),
            kntmns=self._content(),
            failed=failed,
            interval_s=self._interval_s,
            opened=self._opened(),
        )

    def _stand(self, family: int, response: RegistrationResponse, now: Instant) -> None:
        self._open.pop(family, None)
        before = self._stood.get(family)
        changed = before is None or (before.mapped, before.virtual_ipv4) != (
            response.mapped,
            response.virtual_ipv4,
        )
        self._stood[family] = response
        moved = before is not None and before.mapped != response.mapped
        self._count = ANSWERED_EVERY - 1 if moved else 0
        self._keepalive_at = self._next_keepalive(now)
        self._events.append(RegistrationStood(response, family, changed))
        if moved:
            self._told = None
        if family == 4:
            self._rotation.prove(elsewhere=self._ages[4].is_elsewhere(response.mapped))
        self._see(family, response.mapped, now)
        self.distances.learn(response.relays, self._families())
        self._tell(now)

    def _lose(self, reason: Reason, now: Instant) -> None:
        self._keepalive_at = self._seek_at = None
        self._rotation.plan(None)
        self._retry_at = Instant(now + RETRY_NS)
        self._events.append(RegistrationLost(reason))

    def _keep_alive(self, now: Instant) -> None:
        self._count += 1
        answered = self._count % ANSWERED_EVERY == 0
        for coordinator in self._coordinators():
            if answered or self._ages[coordinator.version].is_learning:
                self._ask_alive(coordinator, now)
            elif self._conversation is not None:
                self._conversation.tell(UdpKeepAlive(), coordinator, now)
        self.distances.refresh(self._families(), now)
        self._keepalive_at = self._next_keepalive(now)

    def _ask_alive(self, coordinator: Endpoint, now: Instant, told: RoundTrips = ()) -> None:
        if self._conversation is not None:
            self._conversation.ask(
                UdpKeepAlive(answer=True, round_trips=told),
                (coordinator,),
                now,
                KeptAlive(coordinator.version),
                tries=KEEPALIVE_TRIES,
            )

    def _see(self, family: int, mapped: Endpoint, now: Instant) -> None:
        """The DC sees the node there: how old do mappings become here?"""
        self._ages[family].see(mapped, now)
        self._plan_seeking(now)

    def _seek(self, now: Instant) -> None:
        """The mapping is expected to be gone: notice it before the tunnels do."""
        due = [each.version for each in self._coordinators() if self._is_dying(each.version, now)]
        for coordinator in self._coordinators():
            if coordinator.version in due:
                self._ask_alive(coordinator, now)
        self._plan_seeking(now)

    def _is_dying(self, family: int, now: Instant) -> bool:
        at = self._ages[family].next_at(now)
        return at is not None and at <= now + SEEK_NS

    def _plan_seeking(self, now: Instant) -> None:
        """Not where the mapping may die: NS or a wake-up reaches the node."""
        times = [age.next_at(now) for age in self._ages.values()]
        kept = self._keepalive_at is not None
        self._seek_at = min((at for at in times if at is not None and kept), default=None)
        rotates = kept and self._settings.mapping_age_s != 0 and not self._opened()
        self._rotation.plan(self._ages[4].leave_at() if rotates else None)

    def _tell(self, now: Instant) -> None:
        """Tell the DC how far its RS are, if that is news to it."""
        told, places = self.distances.told, self.answering(self._coordinators())
        if self._conversation is None or not (told and places and self._stood):
            return
        news = (next(iter(self._stood.values())).boot, told)
        if news != self._told:
            self._told = news
            self._ask_alive(places[0], now, told)

    def _families(self) -> frozenset[int]:
        return frozenset(endpoint.version for endpoint in self._local)

    def _next_keepalive(self, now: Instant) -> Instant | None:
        """None where NS or a wake-up reaches the node. Source: paper, Fig. 4."""
        asleep = any(kept.keepalive is KeepAliveChoice.PUSH for kept in self._stood.values())
        if self._rests or asleep or not self._stood:
            return None
        return Instant(now + self._spacing_s() * SECOND)

    def _spacing_s(self) -> int:
        asked = min((kept.keepalive_s for kept in self._stood.values()), default=MIN_KEEPALIVE_S)
        return max(self._interval_s or asked, MIN_KEEPALIVE_S)
