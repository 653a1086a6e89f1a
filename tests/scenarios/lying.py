"""A DC that lies: it holds every key a DC holds, and rewrites what it tells nodes and other DCs."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from ntmobile.keys.identity import Identity
from ntmobile.keys.sealing import subkey
from ntmobile.proto.io import Transmit
from ntmobile.sim.organisation import Organisation
from ntmobile.wire.datagram import HEADER_SIZE, Envelope, Header, Signal
from ntmobile.wire.direction import (
    NodeInformation,
    NodeInformationRequest,
    NodeInformationResponse,
    RouteDirection,
)
from ntmobile.wire.identity import PublicIdentity

Lie = Callable[[Signal], Signal]

EVIL = Identity.of(b"\x66" * 32, b"\x67" * 32)
"""Keys of the operator's own: whoever believes them talks to the operator."""


def corrupt(organisation: Organisation, lie: Lie) -> None:
    """From now the organisation's DC rewrites every datagram it sends, under the same keys."""
    machine = organisation.coordinator.machine
    honest = machine.poll_transmit

    def poll_transmit() -> Transmit | None:
        sent = honest()
        if sent is None:
            return None
        return Transmit(sent.destination, _rewritten(sent.payload, lie), sent.interface)

    def _rewritten(data: bytes, lie: Lie) -> bytes:
        try:
            header = Header.decode(data)
        except Exception:
            return data
        nonce, head = header.counter.to_bytes(12), data[:HEADER_SIZE]
        key = next(key for key in machine.keyring if key.identifier == header.identifier)
        cipher = subkey(key, header.sender, header.salt)
        told = Envelope.decode(cipher.decrypt(nonce, data[HEADER_SIZE:], head))
        retold = Envelope(told.transaction, told.token, lie(told.message))
        return head + cipher.encrypt(nonce, retold.encode(len(data) - HEADER_SIZE - 16), head)

    machine.poll_transmit = poll_transmit  # type: ignore[method-assign]


@dataclass(frozen=True)
class AboutPeer:
    """Rewrites whom a message presents; to nodes and DCs alike, or to one node only."""

    change: Callable[[PublicIdentity], PublicIdentity]
    to: str | None = None

    def __call__(self, message: Signal) -> Signal:
        """Lie, where the message presents a peer."""
        match message:
            case RouteDirection() if self.to in (None, message.fqdn):
                return msgspec.structs.replace(message, peer=self._retold(message.peer))
            case NodeInformationResponse() if self.to is None:
                return msgspec.structs.replace(message, cn=self._retold(message.cn))
            case NodeInformationRequest() if self.to is None:
                return msgspec.structs.replace(message, mn=self._retold(message.mn))
            case _:
                return message

    def _retold(self, node: NodeInformation) -> NodeInformation:
        return msgspec.structs.replace(node, identity=self.change(node.identity))


def stripped(identity: PublicIdentity) -> PublicIdentity:
    """Leave the certificate out."""
    return identity.bare


def own_keys(identity: PublicIdentity) -> PublicIdentity:
    """Put the operator's keys in the place of the peer's, with the peer's certificate."""
    return msgspec.structs.replace(EVIL.public, certificate=identity.certificate)


def own_tunnel_key(identity: PublicIdentity) -> PublicIdentity:
    """Put only the operator's tunnel key in; the device key never signed it."""
    public = EVIL.public
    return msgspec.structs.replace(identity, tunnel=public.tunnel, signature=public.signature)


def certified(certificate: bytes) -> Callable[[PublicIdentity], PublicIdentity]:
    """Put in the operator's keys, with that folded certificate over them."""
    return lambda _: msgspec.structs.replace(EVIL.public, certificate=certificate)
