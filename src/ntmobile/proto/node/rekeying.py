"""New keys inside a tunnel: one handshake in control capsules, without servers.

The messages are those of the paper, Figs. 6 and 7; the psk comes from the epoch they travel in.
Ours: docs/protocol.md section 4.
"""

from dataclasses import dataclass

from ntmobile.proto.io import Entropy
from ntmobile.proto.node.ends import Ends
from ntmobile.proto.node.epochs import Epoch, Epochs
from ntmobile.proto.node.handshake import Handshake, HandshakeError, Secrets, rekey_psk
from ntmobile.time import Instant
from ntmobile.wire.direction import Role
from ntmobile.wire.tunnel import TunnelRequest, TunnelResponse


@dataclass(frozen=True, slots=True)
class Agreement:
    """The next Kmncn, as this end knows it."""

    epoch: int
    secrets: Secrets
    remote_index: int


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A handshake of ours."""

    handshake: Handshake
    negotiation: bytes
    epoch: int


class Rekeying:
    """Both sides of one tunnel's rekeys; what is agreed goes to `Epochs` by the caller."""

    def __init__(self, ends: Ends, index: int, entropy: Entropy, epochs: Epochs) -> None:
        """index is this end's receiver index."""
        self._ends = ends
        self._index = index
        self._entropy = entropy
        self._epochs = epochs
        self._own: _UnderWay | None = None
        self._answer: TunnelResponse | None = None

    def begin(self, now: Instant) -> TunnelRequest | None:
        """Return the request to send; none where one is under way, or a negotiation is."""
        sending = self._epochs.current
        if sending is None or self._own is not None or self._epochs.is_reserved(now):
            return None
        negotiation = self._entropy.getrandbits(128).to_bytes(16)
        handshake = self._handshake(negotiation, self._ends.role, sending)
        epoch = self._epochs.propose(now)
        self._own = _UnderWay(handshake, negotiation, epoch)
        role = self._ends.role
        return TunnelRequest(negotiation, role, 0, self._index, epoch, handshake.write())

    def abandon(self, epoch: int | None = None) -> bool:
        """Give the own handshake up: at once, or if it is for that epoch; whether one was."""
        if self._own is None or (epoch is not None and self._own.epoch != epoch):
            return False
        self._own = None
        return True

    def answer(
        self, request: TunnelRequest, epoch: int
    ) -> tuple[TunnelResponse, Agreement | None] | None:
        """Answer a request that came in that epoch; a repeated one agrees on nothing new."""
        answer = self._answer
        if answer is not None and answer.negotiation == request.negotiation:
            return answer, None
        under = self._epochs.get(epoch)
        if (
            under is None
            or request.role is self._ends.role
            or request.epoch == self._epochs.sending
        ):
            return None
        handshake = self._handshake(request.negotiation, request.role, under)
        try:
            handshake.read(request.noise)
        except HandshakeError:
            return None
        role, noise = self._ends.role, handshake.write()
        answer = TunnelResponse(request.negotiation, role, 0, self._index, request.epoch, noise)
        self._answer = answer
        return answer, Agreement(request.epoch, handshake.finish(), request.index)

    def conclude(self, response: TunnelResponse) -> Agreement | None:
        """Take the answer to our request; a forged one changes nothing."""
        own = self._own
        if own is None or response.negotiation != own.negotiation:
            return None
        try:
            own.handshake.read(response.noise)
        except HandshakeError:
            return None
        self._own = None
        return Agreement(own.epoch, own.handshake.finish(), response.index)

    def _handshake(self, negotiation: bytes, sender: Role, under: Epoch) -> Handshake:
        return Handshake(
            self._ends.terms(negotiation, sender),
            rekey_psk(under.secrets),
            self._ends.role,
            self._ends.identity,
            self._ends.peer.identity,
            self._entropy,
        )


def number_of(negotiation: bytes) -> int:
    """Return what the request is known by among the open ones."""
    return int.from_bytes(negotiation[:8]) >> 2
