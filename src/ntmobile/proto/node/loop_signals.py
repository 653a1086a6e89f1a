"""What the packet loops tell a node of its tunnels. A signal of one that is gone does nothing."""

from ntmobile.proto.node.peers import Peers
from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint


class LoopSignals:
    """The part of a node's face that is turned to its packet loops."""

    _peers: Peers

    def handle_control(
        self,
        index: int,
        epoch: int,
        source: Endpoint,
        interface: int,
        payload: bytes,
        now: Instant,
        socket: int = 0,
    ) -> None:
        """Take the opened plaintext of a control capsule; socket as in Path."""
        if (tunnel := self._peers.indexed(index)) is not None:
            tunnel.handle_control(epoch, source, interface, payload, now, socket)
            self._drain(now)

    def handle_moved(
        self, index: int, source: Endpoint, interface: int, now: Instant, socket: int = 0
    ) -> None:
        """An authentic capsule, newer than all before, came from elsewhere than the path."""
        if (tunnel := self._peers.indexed(index)) is not None:
            tunnel.handle_moved(source, interface, now, socket)
            self._drain(now)

    def handle_woken(self, index: int, now: Instant) -> None:
        """A packet left through a tunnel that had sent none for a while."""
        if (tunnel := self._peers.indexed(index)) is not None:
            tunnel.wake(now)
            self._drain(now)

    def handle_rekey_due(self, index: int, now: Instant) -> None:
        """An epoch is used up by count."""
        if (tunnel := self._peers.indexed(index)) is not None:
            tunnel.rekey(now)
            self._drain(now)

    def _drain(self, now: Instant) -> None:
        raise NotImplementedError
