"""A tunnel that stands: its epochs, its path, its moves and its end.

Epochs. A handshake inside the tunnel, without servers, gives the next Kmncn; see `epochs`.

Path. A Path Update in a newer capsule moves the tunnel to where it came from; the other end answers
with what it misses, checks the new address by a Path Challenge, and goes back when that fails.

Ours: docs/protocol.md sections 4, 8 and 9.
"""

from collections import deque
from dataclasses import replace

from ntmobile.errors import DecodeError
from ntmobile.proto.io import Timeout
from ntmobile.proto.node import purpose
from ntmobile.proto.node.causes import Cause
from ntmobile.proto.node.chase import Chase
from ntmobile.proto.node.control import FIRST_RETRY_NS, TRIES, ControlRequests, Pending
from ntmobile.proto.node.ends import Ends, Path
from ntmobile.proto.node.epochs import GLARE_NS, Epochs
from ntmobile.proto.node.events import (
    ClearPath,
    CloseTunnel,
    Command,
    OpenTunnel,
    Pong,
    Resend,
    SetPath,
    Traffic,
    TunnelClosed,
)
from ntmobile.proto.node.holding import Holding
from ntmobile.proto.node.in_band import InBand
from ntmobile.proto.node.liveness import STALL_NS, Liveness, Verdict
from ntmobile.proto.node.moving import Moving
from ntmobile.proto.node.negotiation import Agreed
from ntmobile.proto.node.notes import Note, PathDead, PathDoubted
from ntmobile.proto.node.optimisation import ATTEMPT_NS, Optimisation
from ntmobile.proto.node.own_sockets import OwnSockets
from ntmobile.proto.node.path_mtu import PathMtu
from ntmobile.proto.node.pings import Pings
from ntmobile.proto.node.purpose import Purpose
from ntmobile.proto.node.received import Received
from ntmobile.proto.node.rekeying import Rekeying
from ntmobile.proto.node.relay_watch import RelayWatch, Step
from ntmobile.proto.node.relays import Relays
from ntmobile.proto.node.standby import Standby
from ntmobile.proto.node.tunnel_parts import TunnelParts
from ntmobile.proto.node.updates import Updates
from ntmobile.proto.node.use import Use
from ntmobile.proto.node.whereabouts import candidates, offer_of
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import decode_control
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.tunnel import (
    Candidates,
    CloseReason,
    EchoReply,
    EchoRequest,
    PathChallenge,
    PathResponse,
    PathUpdate,
    ReceiveState,
    TunnelClose,
    TunnelKeepAlive,
    TunnelRequest,
    TunnelResponse,
)


class Tunnel:
    """One peer's tunnel at this end, without its packets: those flow in the packet loops."""

    def __init__(self, ends: Ends, index: int, parts: TunnelParts, now: Instant) -> None:
        """index is this end's receiver index."""
        self.ends = ends
        self.index = index
        self.relays = Relays()
        self.path: Path | None = None
        self.established_at = now
        self.adopted_at = now
        """When the last negotiation brought keys and a path."""
        self.negotiated_ns = 0
        self.moving = Moving(ends.peer.fqdn)
        self.rtt_ns: int | None = None
        self.closed = False
        self._parts = parts
        self._before: Path | None = None
        self._parked: Path | None = None
        """The path as it was when no uplink was left."""
        self._updates = Updates(now)
        self._requests: ControlRequests[Purpose] = ControlRequests()
        self._pings = Pings()
        self._use = Use(now)
        self._kept_alive_at = self._port_shown_at = now
        self._liveness = Liveness()
        self._relay_watch = RelayWatch()
        self._standby = Standby()
        self._suspect_since: Instant | None = None
        self._doubted_at: Instant | None = None
        self._check_at = Instant(now + STALL_NS)
        self._commands: deque[Command] = deque()
        self._in_band = InBand(
            index, self.fqdn, self._requests, parts.journal, self._commands, lambda: self.path
        )
        self._send, self._ask = self._in_band.send, self._in_band.ask
        self._challenge = self._in_band.challenge
        self._epochs = Epochs(
            index, ends.cipher.value, parts.keyring, self._commands, leads=ends.leads
        )
        self._received = Received(index, parts.observations)
        self._rekeying = Rekeying(
            ends, index, parts.entropy, self._epochs, self._in_band, self._received
        )
        self.rekey = self._rekeying.begin
        self._notes: deque[Note] = deque()
        self._sizes = PathMtu(parts.entropy)
        self._search = Optimisation(parts.entropy, leads=ends.leads, turns=parts.surroundings.turns)
        self._sockets = OwnSockets(index)
        self._told_mtu = 0
        self._holding = Holding()
        self._chase = Chase(now)
        self._commands.append(OpenTunnel(index, self.fqdn, *ends.own_here, *ends.peer_here))

    @property
    def fqdn(self) -> str:
        """The peer's name."""
        return self.ends.peer.fqdn

    @property
    def is_up(self) -> bool:
        """Keys and a path stand."""
        return self._epochs.sending is not None and self.path is not None

    @property
    def is_moving(self) -> bool:
        """A move is not over yet."""
        return self.moving.since is not None

    @property
    def relay(self) -> Endpoint | None:
        """The RS that carries this tunnel, or would if the direct path failed."""
        path = self._standby.path or self.path
        return path.remote if path is not None and path.relayed else None

    def mtu(self) -> int:
        """Largest inner packet on the present path."""
        return 0 if self.path is None else self._sizes.current

    def propose_epoch(self, now: Instant) -> int:
        """Return the epoch number for a negotiation in which this end sends the Tunnel Request."""
        return self._rekeying.give_way(self._epochs.propose(now))

    def accept_epoch(self, proposed: int, remote_index: int, now: Instant) -> int:
        """Return that for one in which the peer sent it, and proposed a number."""
        return self._rekeying.give_way(self._epochs.accept(proposed, remote_index, now))

    def adopt(self, agreed: Agreed, now: Instant) -> None:
        """Take the outcome of a negotiation: keys, and a path."""
        self._received.remember(now)
        keys = agreed.epoch, agreed.secrets, agreed.remote_index
        self._epochs.learn(*keys, now, proven=agreed.sent_request)
        self._set_path(Path(agreed.remote, agreed.relayed))
        self._holding.learn(agreed.relay_ns)
        self._before = self._doubted_at = None
        self._liveness.renew()
        self._relay_watch.rest()
        self._standby.keep(None, now)
        self.adopted_at = now
        self._use.renew(now)
        self._notes.extend(self.moving.carry(self.path, now))
        if agreed.sent_request or self.is_moving:
            self._send_update(now)
        self.offer(now)

    def offer(self, now: Instant) -> None:
        """Tell the peer where this node may be reached, if the path is relayed or a port's last."""
        if self.path is None or not (self.path.relayed or self.path.by_other_port):
            return
        if (own := self._parts.surroundings.own()) is not None:
            self._search.begin(own, now)
            self._go_direct(now)

    def meet_inside(self, inside: tuple[Endpoint, ...]) -> None:
        """Where the DC says the peer is in its own network."""
        self._search.meet(self._parts.surroundings.offered(inside))

    def take_newest_port(self, port: int, now: Instant) -> None:
        """The newest mapping of the NAT has this port; 0: that was not to be found out."""
        self._search.renew(port, now)
        self._go_direct(now)

    def move(self, families: set[int], now: Instant) -> None:
        """This node's addresses changed; families are those it has now."""
        self.moving.begin(self.path, now)
        last = self.path or self._parked
        if last is None:
            return
        if (standby := self._standby.path) is not None and not last.relayed:
            # The peer's NAT may let nothing in from the new address.
            last = standby
            self._standby.keep(None, now)
            self._search.leave(now)
        remote = self.relays.far_end(last, self.ends.peer.reachable, families)
        if remote is None:
            self._parked, self.path = last, None
            self._holding.begin(hold=False)
            self._commands.append(ClearPath(self.index))
            return
        self._sizes.renew(elsewhere=True)
        self._set_path(Path(remote, last.relayed), hold=last.relayed)
        if last.relayed:
            self._holding.plan(self.rtt_ns, now)
        else:
            self._send_update(now)

    def cross(self, old: int, now: Instant) -> None:
        """A better uplink came while that of interface `old` carries: switch once it answers."""
        assert self.path is not None
        self._set_path(replace(self.path, interface=old))
        self._try_uplink(self.path.remote, now, TRIES, FIRST_RETRY_NS)

    def turn(self) -> None:
        """The node's two ports change their numbers; this tunnel goes as before."""
        self.path, self._before, self._parked, self._standby.path = (
            None if path is None else path.turned()
            for path in (self.path, self._before, self._parked, self._standby.path)
        )

    def show_port(self, now: Instant) -> None:
        """Go by the port that the node sends from now, once the far end answers there."""
        self._port_shown_at = now
        if (standby := self._standby.path) is not None and standby.by_other_port:
            self._standby.path = standby.turned()
        if self.relay is not None and self.relay.version == 4:
            self._notes.append(PathDoubted(self.fqdn))
        if self.path is not None and self.path.by_other_port and not self.path.relayed:
            self._try_uplink(self.path.remote, now, TRIES, FIRST_RETRY_NS)

    def _take_port(self, now: Instant) -> None:
        """The far end answers at the port that sends now: nothing was lost, nobody waited."""
        if self.path is not None and self.path.by_other_port:
            self._requests.drop(Purpose.CROSS)
            if not self.path.relayed:
                self._search.stop(now)
            self._set_path(self.path.turned())
            self._send_update(now)

    def _try_uplink(self, to: Endpoint, now: Instant, tries: int, wait_ns: int) -> None:
        """Ask the peer by the better uplink, as the system routes."""
        self._requests.drop(Purpose.CROSS)
        self._challenge(self._number(), to, Purpose.CROSS, now, tries, wait_ns)

    def _finish_crossing(self, now: Instant, relay: Endpoint | None = None) -> None:
        """The better uplink carries, perhaps only through RS: nothing was lost, nobody waited."""
        if self.path is None or not self.path.interface:
            return
        self.moving.begin(self.path, now)
        remote = relay or self.path.remote
        self._requests.drop(Purpose.CROSS)
        if relay is not None:
            self._standby.keep(None, now)
            self._search.leave(now)
        self._set_path(Path(remote, self.path.relayed or relay is not None))
        self._send_update(now)
        self._notes.extend(self.moving.finish(self.path, now))

    def update(self, relay: Endpoint, now: Instant) -> None:
        """RS knows our address, in the family it answered in: the peer may be told through it."""
        self._relay_watch.hear(now)
        if relay in self.relays:
            self._finish_crossing(now, relay)
        if self.path is None or not self.path.relayed:
            if self._standby.is_asked:
                self._challenge(self._number(), self.relay, Purpose.STANDBY, now, tries=4)
            return
        if self.path.remote != relay and relay in self.relays.at(self.path.remote):
            self._set_path(Path(relay, True))
        is_news = self.is_moving or self._doubted_at is not None
        if relay == self.path.remote:
            self._take_port(now)
            if is_news and not self._holding.expects_answer(self.rtt_ns, now):
                self._send_update(now)
            self._doubted_at = None
            self._let_go()

    def lead_in(self, relay: Endpoint, now: Instant) -> None:
        """RS carries to the peer from where this node is now; it wants a proof to carry back."""
        if self.path is not None and self.path.remote == relay:
            self._take_port(now)
        if self.is_moving and self.path is not None and self.path.remote == relay:
            self._send_update(now, again=self._holding.prove(self.rtt_ns, now))

    def handle_unbound(self, source: Endpoint, index: int, now: Instant) -> None:
        """A hint: RS forwards no capsule of this index from here."""
        current, path = self._epochs.current, self.path
        if current is None or current.remote_index != index or self.is_moving:
            return
        if path is None or source != self.relay:
            return
        if self._doubted_at is None or now - self._doubted_at >= purpose.DOUBT_NS:
            self._doubted_at = now
            self.moving.notice(Cause.NAT_REBOOTED, path, now)
            self._notes.append(PathDoubted(self.fqdn))

    def handle_forgotten(self, relay: tuple[Endpoint, ...], now: Instant) -> None:
        """RS does not know the Ktun under which it was shown where this node is."""
        if self.path is not None and self.path.relayed and self.path.remote in relay:
            self._declare_dead(now, Cause.RELAY_DIED)

    def wake(self, now: Instant, *, remapped: bool = False) -> None:
        """Something is sent after a silence; or this end's NAT has another mapping now."""
        if self.is_up and not self.is_moving:
            self._liveness.wake(self._heard(), self.rtt_ns, now, slept=remapped)
            self._check(now)

    def handle_moved(self, source: Endpoint, interface: int, now: Instant, socket: int = 0) -> None:
        """An authentic capsule came from elsewhere than the path: its NAT may have changed."""
        path, relay = self.path, source in self.relays
        if path is not None and source in (path.remote, path.hears):
            return
        if path is not None and self.relays.is_straggler(source, path):
            return
        # From off the relay: a probe, or the peer's choice, which its Path Update tells.
        if path is not None and path.relayed is not relay and (relay or self._search.is_on):
            return
        if self._chase.follows(now):
            self.moving.hear_elsewhere(path, now, relayed=relay)
            self._rebind(source, interface, now, socket=socket)

    def handle_control(
        self,
        epoch: int,
        source: Endpoint,
        interface: int,
        payload: bytes,
        now: Instant,
        socket: int = 0,
    ) -> None:
        """Take the opened plaintext of a control capsule."""
        try:
            message = decode_control(payload)
        except DecodeError:
            return
        self._epochs.prove(epoch, now)
        if self.path is not None and source in (self.path.remote, self.path.hears):
            self._standby.hear()
        if not isinstance(message, EchoRequest | EchoReply | TunnelKeepAlive):
            self._parts.journal.note(now, message, self.fqdn, sent=False)
        match message:
            case PathUpdate():
                self._handle_update(message, source, interface, now, socket)
            case PathChallenge(challenge):
                missed = self._received.states(now) if source in self.relays else ()
                self._send(PathResponse(challenge, source, missed), now, source, interface, socket)
                if source not in self.relays and self._parts.surroundings.may_be_probed(source):
                    self._search.handle_probe(source, now, socket)
            case PathResponse():
                self._search.handle_answer(message.challenge, source, now)
                self._handle_path_response(message, now)
            case Candidates():
                self._send(PathResponse(message.number, source), now, source, interface, socket)
                told = self._parts.surroundings.offered(message.endpoints)
                self._search.handle_offer(offer_of(message, told), now)
            case EchoRequest(sequence, padding):
                self._send(EchoReply(sequence, padding), now, source, interface, socket)
            case EchoReply(sequence):
                if not self._sizes.handle_answer(sequence, now):
                    self._handle_echo(sequence, source, now)
            case TunnelRequest():
                self._rekeying.handle_request(message, epoch, now)
            case TunnelResponse():
                if self._rekeying.handle_response(message, now):
                    self._send_update(now)
            case TunnelClose(reason):
                self._end(reason, now)
        self._go_direct(now)
        if self.path is not None and self._before is None and source == self.path.remote:
            self._sizes.start(now)
        self._fit(now)

    def ping(self, sequence: int, now: Instant) -> None:
        """Send an Echo Request; its answer is a Pong, and silence starts the search for a path."""
        number = self._number()
        self._pings.add(number, sequence)
        self._ask(number, EchoRequest(number), Purpose.PING, now, tries=1, wait_ns=purpose.PONG_NS)

    def close(self, reason: CloseReason, now: Instant) -> None:
        """Tell the peer and forget the tunnel; a second time does nothing."""
        if self.is_up and not self.closed:
            self._send(TunnelClose(reason), now)
        self._end(reason, now)

    def handle_timeout(self, now: Instant) -> None:
        """Ask again, check, rekey, keep alive."""
        if self.closed:
            return
        for pending in self._in_band.repeat(now):
            self._give_up(pending, now)
        self._epochs.handle_timeout(now)
        if now >= self._check_at:
            self._check(now)
        if self._holding.asks(now):
            self._challenge(self._number(), None, Purpose.MISSED, now, 1, purpose.PONG_NS)
        if self._holding.tells(now):
            self._send_update(now)
        if self._holding.repeats(now):
            self._send_update(now, again=True)
        if self._holding.is_over(now):
            self._let_go()
        self._search.handle_timeout(now)
        self._go_direct(now)
        self._sizes.handle_timeout(now)
        self._fit(now)

    def poll_command(self) -> Command | None:
        """Next command to the packet loops."""
        return self._commands.popleft() if self._commands else None

    def poll_note(self) -> Note | None:
        """Next thing that happened."""
        return self._notes.popleft() if self._notes else None

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        if self.closed:
            return None
        parts = self._requests, self._epochs, self._sizes, self._search, self._holding
        due = [at for part in parts if (at := part.poll_timeout()) is not None]
        return min((*due, Timeout(self._check_at, "tunnel check")))

    def _set_path(self, path: Path, *, hold: bool = False) -> None:
        self.path, self._parked = path, None
        self._holding.begin(hold=hold)
        self._sizes.begin(path.remote, self._parts.mtu(path.remote))
        self._tell_path(path)

    def _tell_path(self, path: Path) -> None:
        self._told_mtu = self._sizes.current
        told = path.remote, path.interface, self._told_mtu, path.socket, self._holding.holds
        self._commands.append(SetPath(self.index, *told))

    def _let_go(self) -> None:
        """What was held may leave."""
        if self._holding.let_go() and self.path is not None:
            self._tell_path(self.path)

    def _fit(self, now: Instant) -> None:
        """Probe how large a packet the path carries, and keep to what it does."""
        while (probe := self._sizes.poll_probe()) is not None:
            self._send(probe.message(), now)
        if self._sizes.swallows:
            self._leave_direct(now)
        if self.path is not None and self._sizes.current != self._told_mtu:
            self._tell_path(self.path)

    def _send_update(self, now: Instant, *, again: bool = False) -> None:
        number = self._number()
        update = self._updates.make(self._received.states(now), number, again=again)
        if again:
            once = purpose.PONG_NS
            self._ask(number, update, Purpose.COPY, now, tries=1, wait_ns=once)
        else:
            self._requests.drop(Purpose.UPDATE, Purpose.COPY)
            self._ask(number, update, Purpose.UPDATE, now)

    def _handle_update(
        self, update: PathUpdate, source: Endpoint, interface: int, now: Instant, socket: int
    ) -> None:
        is_newer, asks = self._updates.take(update, now)
        if is_newer:
            self._sizes.renew(elsewhere=False)
            self.moving.hear_update(self.path, source, now)
            moved = self.path is not None and self.path.remote != source
            self._chase.note_told(now, moved=moved)
            self._rebind(source, interface, now, socket=socket)
        answer = PathResponse(update.challenge, source, self._received.states(now))
        self._send(answer, now, source, interface, socket)
        if asks:
            self._resend(update.received)

    def _resend(self, received: tuple[ReceiveState, ...]) -> None:
        """Send again what the peer misses since the oldest epoch it tells of."""
        if received:
            self._commands.append(Resend(self.index, received))

    def _go_direct(self, now: Instant) -> None:
        """Tell and probe what the search wants, and take the path that it found."""
        if (offer := self._search.poll_offer()) is not None:
            self._requests.drop(Purpose.OFFER)
            number = self._number()
            self._ask(number, candidates(number, offer), Purpose.OFFER, now)
        if self._search.wants_port:
            self._parts.surroundings.measure()
        if (sockets := self._search.poll_sockets()) is not None:
            self._commands.append(self._sockets.open(sockets))
        while (probe := self._search.poll_probe()) is not None:
            message = PathChallenge(probe.number)
            if probe.is_guess:
                self._in_band.post(message, probe.destination, 0, probe.socket)
            else:
                self._send(message, now, probe.destination, 0, probe.socket)
        found = self._search.poll_event()
        if found is not None and self.path is not None and self.path.relayed:
            self._rebind(found.remote, 0, now, found.hears, found.socket)
            self._send_update(now)
        paths = (self.path, self._before, self._parked, self._standby.path)
        if (close := self._sockets.keep(paths, self._search.sockets)) is not None:
            self._commands.append(close)

    def _rebind(
        self,
        source: Endpoint,
        interface: int,
        now: Instant,
        hears: Endpoint | None = None,
        socket: int = 0,
    ) -> None:
        """Send there from now; go back unless the new address answers."""
        if self.path is not None and (self.path.remote, self.path.socket) == (source, socket):
            return
        if self._before is None:
            self._before = self.path
        self._requests.drop(Purpose.REBIND)
        if self.path is not None and self.path.relayed and source not in self.relays:
            self._standby.keep(self.path, now)
            self._search.stop(now)
            self._chase.pause(Instant(now + ATTEMPT_NS))
        elif self.path is not None and not self.path.relayed and source in self.relays:
            self._standby.keep(None, now)
            self._search.lose(now)
        self._set_path(Path(source, source in self.relays, hears=hears, socket=socket))
        self._challenge(self._number(), source, Purpose.REBIND, now)

    def _handle_path_response(self, response: PathResponse, now: Instant) -> None:
        pending = self._requests.close(response.challenge)
        if pending is None:
            return
        if pending.tries == 1:
            self.rtt_ns = now - pending.began
        if pending.purpose is Purpose.REBIND:
            self._before = None
            self._notes.extend(self.moving.carry(self.path, now))
        elif pending.purpose in (Purpose.UPDATE, Purpose.COPY, Purpose.MISSED):
            if response.received and self._updates.take_answer(pending, now):
                self._resend(response.received)
            self._let_go()
            if pending.purpose is Purpose.MISSED:
                return
            self._requests.drop(Purpose.UPDATE, Purpose.COPY, Purpose.MISSED)
            self._holding.hear_answer()
            self._notes.extend(self.moving.finish(self.path, now))
        elif pending.purpose is Purpose.STANDBY and self._standby.leaves(self._use.rx_bytes):
            self._leave_direct(now)
        elif pending.purpose is Purpose.CROSS:
            self._take_port(now)
            self._finish_crossing(now)

    def _leave_direct(self, now: Instant, cause: Cause = Cause.PATH_DIED) -> None:
        """RS carries and the direct path does not: go by RS, and look again later."""
        self._requests.drop(Purpose.STANDBY)
        if (standby := self._standby.path) is not None:
            self.moving.notice(cause, self.path, now)
            self._rebind(standby.remote, standby.interface, now)
            self._send_update(now)
        elif cause is Cause.MAPPING_AGED:
            self._notes.append(PathDead(self.fqdn))

    def _handle_echo(self, number: int, source: Endpoint, now: Instant) -> None:
        pending = self._requests.close(number)
        if pending is None:
            return
        self.rtt_ns = now - pending.began
        self._mend(pending.began, now)
        if (sequence := self._pings.take(number)) is not None:
            relayed = source in self.relays
            self._notes.append(Pong(self.fqdn, sequence, self.rtt_ns, source, relayed))

    def _mend(self, at: Instant, now: Instant) -> None:
        """The path carried at that time: was it broken before? Then much was swallowed."""
        since, self._suspect_since = self._suspect_since, None
        if since is not None and at - since >= purpose.STALLED_NS + (self.rtt_ns or 0):
            self._send_update(now)

    def _give_up(self, pending: Pending[Purpose], now: Instant) -> None:
        match pending.purpose:
            case Purpose.REBIND if self._before is not None:
                self._set_path(self._before)
                self._before = None
                self.moving.drop()
                self._standby.keep(None, now)
                self._search.fail(now)
            case Purpose.REKEY:
                self._rekeying.abandon()
            case Purpose.UPDATE if self.is_moving:
                self._notes.append(PathDead(self.fqdn))
            case Purpose.PING if self._heard() < pending.began:
                self._declare_dead(now, Cause.PATH_DIED)
            case Purpose.CROSS if self.path is not None and self.path.by_other_port:
                self._leave_direct(now, Cause.MAPPING_AGED)
            case Purpose.CROSS if self.path is not None and self.path.interface:
                self._notes.append(PathDoubted(self.fqdn))
                self._try_uplink(self.path.remote, now, 1, purpose.CROSS_AGAIN_NS)

    def _check(self, now: Instant) -> None:
        """Once a second while busy: is the peer there, are the keys young, is anyone using it?"""
        seen = self._parts.observations.traffic(self.index)
        quiet_ns = self._use.look(seen, now)
        if not quiet_ns and self.path is not None and self.path.relayed:
            self._search.note_use(now)
            self._go_direct(now)
        if seen.last_tx is not None and seen.last_tx - self._use.conversed_at >= SECOND:
            self._sizes.check(now)
        elif quiet_ns < SECOND:
            self._sizes.review(now)
        if quiet_ns >= self._parts.idle_ns:
            self.close(CloseReason.IDLE, now)
            return
        self._check_at = Instant(now + self._watch(seen, quiet_ns, now))
        current = self._epochs.current
        if current is None:
            return
        if self.rtt_ns is None and not quiet_ns and self.path is not None and self.path.relayed:
            self._probe(now)  # A move through RS wants to know how far the peer is.
        due_ns = purpose.REKEY_NS + (0 if self.ends.leads else GLARE_NS)
        if quiet_ns < purpose.KEEPALIVE_NS and now - current.born >= due_ns:
            self.rekey(now)
        lags = self.path is not None and self.path.by_other_port
        if lags and now - self._port_shown_at >= purpose.CROSS_AGAIN_NS:
            self.show_port(now)
        if quiet_ns >= purpose.KEEPALIVE_PATIENCE_NS:
            return
        if now - self._kept_alive_at >= purpose.KEEPALIVE_NS:
            self._kept_alive_at = now
            self._send(TunnelKeepAlive(), now)
        if self._standby.is_cold(now):
            self._send(TunnelKeepAlive(), now, self.relay)

    def _heard(self) -> Instant:
        """When the peer last gave a sign of life."""
        last_rx = self._parts.observations.traffic(self.index).last_rx
        return self.established_at if last_rx is None else max(last_rx, self.established_at)

    def _declare_dead(self, now: Instant, cause: Cause, avoid: tuple[Endpoint, ...] = ()) -> None:
        self.moving.notice(cause, self.path, now)
        if self._liveness.note_dead(now):
            self._notes.append(PathDead(self.fqdn, avoid))

    def _suspect_relay(self, path: Path, now: Instant) -> None:
        """The path is silent: is it RS? Then another serves as well."""
        match self._relay_watch.suspect(now):
            case Step.ASK:
                self._notes.append(PathDoubted(self.fqdn))
            case Step.LEAVE:
                self._declare_dead(now, Cause.RELAY_DIED, self.relays.at(path.remote))

    def _watch(self, seen: Traffic, quiet_ns: int, now: Instant) -> int:
        """Judge the path, do what silence asks for; returns how soon to look again."""
        if self._epochs.current is None:
            return purpose.IDLE_CHECK_NS
        heard = self._heard()
        verdict = self._liveness.judge(
            seen.last_tx, heard, seen.rx_bytes, now, moving=self.is_moving
        )
        proven = verdict is Verdict.WELL and self._before is None
        self._notes.extend(self.moving.look(self.path, heard, proven=proven))
        if verdict is Verdict.WELL:
            self._relay_watch.rest()
            self._standby.count(seen.rx_bytes)
            self._mend(heard, now)
        elif self.path is not None and self.path.relayed:
            self._suspect_relay(self.path, now)
        elif self._standby.suspect(seen.rx_bytes, now, self._liveness.patience_ns):
            self._notes.append(PathDoubted(self.fqdn))
            self._challenge(self._number(), self.relay, Purpose.STANDBY, now, tries=4)
        if verdict is Verdict.DEAD:
            self._declare_dead(now, Cause.PATH_DIED)
        if verdict is not Verdict.WELL and self.path is not None:
            # Where data comes back, the sender waits for it; a one-way flow wants nothing late.
            if self._suspect_since is None and self._use.is_conversation(now):
                self._suspect_since = now
            self._probe(now)
        idle = verdict is Verdict.WELL and quiet_ns >= 10 * SECOND
        return purpose.IDLE_CHECK_NS if idle else self._liveness.again_ns(verdict, heard, now)

    def _probe(self, now: Instant) -> None:
        number = self._number()
        wait_ns = purpose.PONG_NS
        self._ask(number, EchoRequest(number), Purpose.PROBE, now, tries=1, wait_ns=wait_ns)

    def _end(self, reason: CloseReason, now: Instant) -> None:
        if not self.closed:
            self.closed = True
            self._epochs.erase(now)
            self._commands.append(CloseTunnel(self.index))
            self._notes.append(TunnelClosed(self.fqdn, reason))

    def _number(self) -> int:
        return self._parts.entropy.getrandbits(62)
