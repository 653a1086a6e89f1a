"""New keys inside a tunnel: one handshake in control capsules, without servers.

The messages are those of the paper, Figs. 6 and 7; the psk comes from the epoch they travel in.
Ours: docs/protocol.md section 4.
"""

from dataclasses import dataclass

from ntmobile.proto.io import Entropy
from ntmobile.proto.node.ends import Ends
from ntmobile.proto.node.epochs import Epoch, Epochs
from ntmobile.proto.node.handshake import Handshake, HandshakeError, Secrets, rekey_psk
from ntmobile.proto.node.in_band import InBand
from ntmobile.proto.node.purpose import Purpose
from ntmobile.proto.node.received import Received
from ntmobile.time import Instant
from ntmobile.wire.direction import Role
from ntmobile.wire.tunnel import TunnelRequest, TunnelResponse


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A handshake of ours."""

    handshake: Handshake
    negotiation: bytes
    epoch: int


class Rekeying:
    """Both sides of one tunnel's rekeys."""

    def __init__(
        self,
        ends: Ends,
        index: int,
        entropy: Entropy,
        epochs: Epochs,
        in_band: InBand,
        received: Received,
    ) -> None:
        """index is this end's receiver index; what is agreed goes to epochs."""
        self._ends = ends
        self._index = index
        self._entropy = entropy
        self._epochs = epochs
        self._in_band = in_band
        self._received = received
        self._own: _UnderWay | None = None
        self._answer: TunnelResponse | None = None

    def begin(self, now: Instant) -> None:
        """Ask for the next epoch, unless that or a negotiation is under way."""
        sending = self._epochs.current
        if sending is None or self._own is not None or self._epochs.is_reserved(now):
            return
        negotiation = self._entropy.getrandbits(128).to_bytes(16)
        handshake = self._handshake(negotiation, self._ends.role, sending)
        epoch = self._epochs.propose(now)
        self._own = _UnderWay(handshake, negotiation, epoch)
        role = self._ends.role
        request = TunnelRequest(negotiation, role, 0, self._index, epoch, handshake.write())
        self._in_band.ask(_number_of(negotiation), request, Purpose.REKEY, now)

    def abandon(self) -> None:
        """Give the own handshake up."""
        self._own = None
        self._in_band.drop(Purpose.REKEY)

    def give_way(self, number: int) -> int:
        """Return that number, which a negotiation takes: no own handshake is for it any more."""
        if self._own is not None and self._own.epoch == number:
            self.abandon()
        return number

    def handle_request(self, request: TunnelRequest, epoch: int, now: Instant) -> None:
        """Answer a request that came in that epoch; a repeated one agrees on nothing new."""
        answer = self._answer
        if answer is not None and answer.negotiation == request.negotiation:
            self._in_band.send(answer, now)
            return
        under = self._epochs.get(epoch)
        if (
            under is None
            or request.role is self._ends.role
            or request.epoch == self._epochs.sending
            or self._epochs.is_proven(request.epoch)
        ):
            return
        handshake = self._handshake(request.negotiation, request.role, under)
        try:
            handshake.read(request.noise)
        except HandshakeError:
            return
        role, noise = self._ends.role, handshake.write()
        answer = TunnelResponse(request.negotiation, role, 0, self._index, request.epoch, noise)
        self._answer = answer
        self._in_band.send(answer, now)
        self._learn(request.epoch, handshake.finish(), request.index, now, proven=False)

    def handle_response(self, response: TunnelResponse, now: Instant) -> bool:
        """Take the answer to our request, if it is one: a forged one changes nothing."""
        own = self._own
        if own is None or response.negotiation != own.negotiation:
            return False
        try:
            own.handshake.read(response.noise)
        except HandshakeError:
            return False
        self._own = None
        self._in_band.close(_number_of(response.negotiation))
        self._learn(own.epoch, own.handshake.finish(), response.index, now, proven=True)
        return True

    def _learn(
        self, epoch: int, secrets: Secrets, remote_index: int, now: Instant, *, proven: bool
    ) -> None:
        self._received.remember(now)
        self._epochs.learn(epoch, secrets, remote_index, now, proven=proven)

    def _handshake(self, negotiation: bytes, sender: Role, under: Epoch) -> Handshake:
        return Handshake(
            self._ends.terms(negotiation, sender),
            rekey_psk(under.secrets),
            self._ends.role,
            self._ends.identity,
            self._ends.peer.identity,
            self._entropy,
        )


def _number_of(negotiation: bytes) -> int:
    """Return what the request is known by among the open ones."""
    return int.from_bytes(negotiation[:8]) >> 2
