"""The face of the Rust core; stubtest holds it against the built extension."""

from typing import Literal, final

__all__ = [
    "Datagram",
    "HandshakeError",
    "Noise",
    "Port",
    "Relay",
    "__version__",
    "x25519_public",
]

__version__: str

@final
class Datagram:
    """One datagram that is not a capsule, as it came.

    source_host has 4 or 16 bytes and is never an IPv4-mapped address; interface
    is the index of the interface it came in through, 0 when unknown.
    """

    @property
    def source_host(self) -> bytes: ...
    @property
    def source_port(self) -> int: ...
    @property
    def interface(self) -> int: ...
    @property
    def payload(self) -> bytes: ...
    def __new__(
        cls, source_host: bytes, source_port: int, interface: int, payload: bytes
    ) -> Datagram: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Port:
    """A UDP port: a socket per family, read by a thread into a bounded queue.

    After close every method but close raises ValueError.
    """

    def __new__(cls, *, port: int = 0, mark: int = 0, queue: int = 4096) -> Port:
        """Opens the port on every address; 0 takes a number free in both families.

        mark, unless 0, is put on everything sent (SO_MARK). queue bounds the
        datagrams waiting for drain. Raises OSError when the number is taken.
        """

    @property
    def port(self) -> int:
        """The number both sockets are bound to."""

    def fileno(self) -> int:
        """Descriptor that is readable exactly while drain has something."""

    def drain(self, most: int = 256) -> list[Datagram]:
        """Takes what waits, oldest first; never blocks."""

    def send(self, host: bytes, port: int, payload: bytes, interface: int = 0) -> int:
        """Sends one datagram; returns 0, or the errno with which it was refused.

        host has 4 or 16 bytes (else ValueError); interface 0 leaves the uplink
        to the system. Never blocks: a full socket buffer is EAGAIN.
        """

    def counters(self) -> dict[str, int]:
        """received, queue_full, too_long (over 2048 bytes), sent, send_failed."""

    def close(self) -> None:
        """Ends the thread and frees the number; again is no error."""

@final
class Relay:
    """A UDP port that forwards capsules and queues all else, as Port does.

    A capsule from a source goes, unopened and unchanged, to where its receiver
    index is bound; without a binding it is dropped and counted, and nothing
    answers. After close every method but close raises ValueError.

    Source: paper, Fig. 7. Ours: docs/protocol.md section 7.
    """

    def __new__(cls, *, port: int = 0, queue: int = 4096) -> Relay:
        """Opens the port, as Port does, and starts forwarding.

        Bindings are not bounded here: only what was authenticated may be bound.
        """

    @property
    def port(self) -> int:
        """The number both sockets are bound to."""

    def fileno(self) -> int:
        """Descriptor that is readable exactly while drain has something."""

    def drain(self, most: int = 256) -> list[Datagram]:
        """Takes what waits and is no capsule, oldest first; never blocks."""

    def send(self, host: bytes, port: int, payload: bytes, interface: int = 0) -> int:
        """Sends one datagram from this port, as Port.send does."""

    def bind(
        self,
        source_host: bytes,
        source_port: int,
        index: int,
        destination_host: bytes,
        destination_port: int,
        *,
        path: int,
        rate: int,
    ) -> bool:
        """Forwards capsules for index from source to destination from now on.

        Binding again moves. path (below 2**128) owns the binding; rate, in bytes
        per second of UDP payload, limits the whole path, both directions together,
        after a burst of 0.1 s or 64 KiB; 0 lifts the limit. False, and nothing
        changed, when another path has this index at this source.
        """

    def unbind(self, source_host: bytes, source_port: int, index: int) -> bool:
        """Ends one binding; False when there was none. The path's account stays."""

    def forget(self, path: int) -> int:
        """Ends all bindings of a path and drops its account; returns how many."""

    def statistics(self, path: int) -> tuple[int, int, int | None]:
        """Bytes and packets a path has carried, and for how many ns it is idle.

        Idle is None when it has carried nothing; an unknown path is (0, 0, None).
        """

    def counters(self) -> dict[str, int]:
        """What happened since the relay was opened, in datagrams.

        Port's counters, and forwarded, forward_failed (refused by the system),
        unbound, over_rate, malformed, bindings (in force now).
        """

    def close(self) -> None:
        """Ends the thread and frees the number; again is no error."""

class HandshakeError(ValueError):
    """A handshake message could not be written or read; nothing has changed."""

@final
class Noise:
    """One side of one Noise handshake of two messages; no randomness of its own.

    The initiator calls write, then read; the responder read, then write. Then
    split and hash. A message that fails changes nothing, so a forged answer
    cannot end the exchange with the true peer. Keys are erased on deletion.

    Source: Noise revision 34. Ours: Kmncn agreed this way, docs/protocol.md section 4.
    """

    def __new__(
        cls,
        pattern: Literal["KKpsk0", "NNpsk0"],
        *,
        initiator: bool,
        cipher: Literal["aes-256-gcm", "chacha20-poly1305"],
        prologue: bytes,
        psk: bytes,
        ephemeral: bytes,
        local_private: bytes | None = None,
        remote_public: bytes | None = None,
    ) -> Noise:
        """Starts the handshake Noise_<pattern>_25519_<cipher>_SHA256.

        Every key has 32 bytes; ephemeral is a private key of this handshake alone,
        from a CSPRNG. KKpsk0 needs both static keys and NNpsk0 takes none; anything
        else raises ValueError.
        """

    def write(self, payload: bytes) -> bytes:
        """The next message, 48 bytes longer than payload, which travels encrypted."""

    def read(self, message: bytes) -> bytes:
        """The payload of the peer's message; HandshakeError whatever is wrong."""

    @property
    def finished(self) -> bool:
        """Both messages passed."""

    def split(self) -> tuple[bytes, bytes]:
        """This side's key to send with and its key to receive with, 32 bytes each."""

    @property
    def hash(self) -> bytes:
        """32 bytes over everything agreed, the same on both sides."""

def x25519_public(private: bytes) -> bytes:
    """The public key of a 32-byte X25519 private key. Source: RFC 7748 section 6.1."""
