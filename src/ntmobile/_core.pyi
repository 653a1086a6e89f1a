"""The face of the Rust core; stubtest holds it against the built extension."""

from collections.abc import Sequence
from typing import Literal, final

__all__ = [
    "CapsuleError",
    "Capsules",
    "Control",
    "Datagram",
    "Engine",
    "HandshakeError",
    "Link",
    "Moved",
    "Noise",
    "Port",
    "RekeyDue",
    "Relay",
    "SendFailed",
    "Stack",
    "TunnelStatistics",
    "Wanted",
    "Woken",
    "__version__",
    "open_tun",
    "x25519_public",
]

__version__: str

_Cipher = Literal["aes-256-gcm", "chacha20-poly1305"]

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

    def __new__(
        cls,
        *,
        port: int = 0,
        mark: int = 0,
        queue: int = 4096,
        ipv4: bytes | None = None,
        ipv6: bytes | None = None,
        homes: int = 0,
    ) -> Port:
        """Opens the port; 0 takes a number free in both families.

        mark, unless 0, is put on everything sent (SO_MARK). queue bounds the datagrams waiting for
        drain. ipv4 (4 bytes) and ipv6 (16) are the one address of this machine to be at; None is
        all of the family, and b"" for ipv6 opens no IPv6 socket. Where it is at all, what is sent
        to a peer leaves from the address that the peer's last datagram came to, for at least the
        last homes peers, unless that is 0: NATs drop answers from elsewhere. Raises OSError
        (EADDRINUSE, EADDRNOTAVAIL).
        """

    @property
    def port(self) -> int:
        """The number both sockets are bound to."""

    def fileno(self) -> int:
        """Descriptor that is readable exactly while drain has something."""

    def sockets(self) -> list[int]:
        """Descriptors of the UDP sockets, which stay the port's: for protect()."""

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

    A capsule from a source goes, unopened and unchanged, to where its receiver index is bound;
    else it is dropped and counted, unanswered. After close all but close raise ValueError.

    Source: paper, Fig. 7. Ours: docs/protocol.md section 7.
    """

    def __new__(
        cls,
        *,
        port: int = 0,
        queue: int = 4096,
        ipv4: bytes | None = None,
        ipv6: bytes | None = None,
    ) -> Relay:
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

        Port's counters, and forwarded, forward_failed (refused by the system), unbound, hinted (of
        those, who was told), over_rate, malformed, bindings (in force now).
        """

    def close(self) -> None:
        """Ends the thread and frees the number; again is no error."""

class HandshakeError(ValueError):
    """A handshake message could not be written or read; nothing has changed."""

@final
class Noise:
    """One side of one Noise handshake of two messages; no randomness of its own.

    The initiator calls write, then read; the responder read, then write. Then split and hash. What
    fails changes nothing, so no forged answer ends the exchange. Keys are erased on deletion.

    Source: Noise revision 34. Ours: Kmncn agreed this way, docs/protocol.md section 4.
    """

    def __new__(
        cls,
        pattern: Literal["KKpsk0", "NNpsk0"],
        *,
        initiator: bool,
        cipher: _Cipher,
        prologue: bytes,
        psk: bytes,
        ephemeral: bytes,
        local_private: bytes | None = None,
        remote_public: bytes | None = None,
    ) -> Noise:
        """Starts the handshake Noise_<pattern>_25519_<cipher>_SHA256.

        Every key has 32 bytes; ephemeral is a private key of this handshake alone, from a CSPRNG.
        KKpsk0 needs both static keys and NNpsk0 takes none; anything else raises ValueError.
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

class CapsuleError(ValueError):
    """A capsule was refused, or no epoch is active; the argument names the reason.

    malformed, stranger (another index), unknown_epoch, replayed, too_old, forged;
    not_ready when there is nothing to seal with.
    """

@final
class Capsules:
    """Seals and opens the capsules of one tunnel; reads no clock and does no I/O.

    The simulator's counterpart of Engine, on the same Rust code.
    """

    def __new__(cls, index: int) -> Capsules:
        """Without keys; the capsules that the peer seals for us carry index."""

    def install(
        self, epoch: int, cipher: _Cipher, send_key: bytes, receive_key: bytes, remote_index: int
    ) -> None:
        """Puts keys of 32 bytes into epoch, 0 to 3, whatever it held.

        Capsules of it open from now on; sealing waits for activate. remote_index
        is the peer's index of this tunnel. ValueError on a wrong size or name.
        """

    def activate(self, epoch: int) -> None:
        """Seals with epoch from now on; CapsuleError("not_ready") without keys."""

    def retire(self, epoch: int) -> None:
        """Erases the keys of epoch."""

    def seal(self, payload: bytes, *, control: bool = False) -> bytes:
        """One capsule, 32 bytes longer than payload, at most 64968 bytes.

        A packet is kept for missing, a control message is not.
        """

    def open(self, capsule: bytes) -> tuple[bool, int, bytes]:
        """Whether it is a control message, its epoch, its payload."""

    def receive_state(self) -> tuple[int, int, bytes] | None:
        """Newest epoch heard, highest counter in it, bitmap; None before the first.

        Bit k of the bitmap, lowest first, says whether highest - k was received;
        what lies beyond its last byte was. At most 1024 bytes, one if nothing lacks.
        """

    def missing(self, *told: tuple[int, int, bytes]) -> list[bytes]:
        """The kept capsules that a peer with these receive states lacks, oldest first.

        Each is of one epoch. They are the very bytes sent before. Epochs later than the oldest
        told, and not told themselves, are missing as a whole.
        """

@final
class Control:
    """An authentic control message that a tunnel's peer sealed."""

    @property
    def index(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def source_host(self) -> bytes: ...
    @property
    def source_port(self) -> int: ...
    @property
    def interface(self) -> int: ...
    @property
    def socket(self) -> int:
        """What it came to: 0 is the engine's port, 1 << 31 its second one, else of open_sockets."""

    @property
    def payload(self) -> bytes: ...

@final
class Moved:
    """An authentic capsule, newer than all before, came from off the path.

    Comes again each second until set_path or clear_path.
    """

    @property
    def index(self) -> int: ...
    @property
    def source_host(self) -> bytes: ...
    @property
    def source_port(self) -> int: ...
    @property
    def interface(self) -> int: ...
    @property
    def socket(self) -> int:
        """As Control's."""

@final
class Wanted:
    """A packet waits for a tunnel to this virtual address, of 4 or 16 bytes.

    Comes again each second while more packets come.
    """

    @property
    def destination(self) -> bytes: ...

@final
class Woken:
    """A packet left through this tunnel after none had for a second."""

    @property
    def index(self) -> int: ...

@final
class RekeyDue:
    """The active epoch of this tunnel has sealed as much as it should."""

    @property
    def index(self) -> int: ...

@final
class SendFailed:
    """The system refused to send; index is 0 for a datagram of Engine.send.

    A tunnel tells it once, until sending works again or set_path is called.
    """

    @property
    def index(self) -> int: ...
    @property
    def errno(self) -> int: ...

@final
class TunnelStatistics:
    """What passed through a tunnel: inner packets and control messages."""

    @property
    def tx_bytes(self) -> int: ...
    @property
    def rx_bytes(self) -> int: ...
    @property
    def tx_packets(self) -> int:
        """Capsules sealed."""

    @property
    def rx_packets(self) -> int:
        """Capsules opened."""

    @property
    def last_tx_ns(self) -> int | None:
        """Nanoseconds since the last was sealed; None before the first."""

    @property
    def last_rx_ns(self) -> int | None:
        """Nanoseconds since the last was opened; None before the first."""

@final
class Engine:
    """A node's UDP port with its tunnels, run by threads of its own.

    Watch fileno, then drain. Every command returns at once. A command for an index that has no
    tunnel raises KeyError; after close all but close raise ValueError. Hosts have 4 or 16 bytes;
    epochs are 0 to 3; interface 0 leaves the uplink to the system.
    """

    def __new__(cls, *, port: int = 0, mark: int = 0, queue: int = 4096) -> Engine:
        """Opens the port on every address; 0 takes a number free in both families.

        mark, unless 0, is put on everything sent (SO_MARK). queue bounds what
        waits for drain. Raises OSError when the number is taken.
        """

    @property
    def port(self) -> int:
        """The number both sockets are bound to."""

    def fileno(self) -> int:
        """Descriptor that is readable exactly while drain has something."""

    def sockets(self) -> list[int]:
        """Descriptors of the UDP sockets, which stay the engine's: for protect()."""

    def drain(
        self, most: int = 256
    ) -> list[Datagram | Control | Moved | Wanted | Woken | RekeyDue | SendFailed]:
        """Takes what waits, oldest first; never blocks."""

    def open_spare(self) -> int:
        """Opens the second port, of IPv4, socket 1 << 31; its descriptor is for protect()."""

    def send(
        self, host: bytes, port: int, payload: bytes, interface: int = 0, socket: int = 0
    ) -> None:
        """Sends one datagram that is not a capsule; a refusal is a SendFailed."""

    def attach_tun(self, fd: int, *, offload: bool) -> None:
        """Exchanges inner packets with a TUN device, of which it takes a duplicate.

        offload must be what open_tun returned; for a descriptor from elsewhere
        False, unless it was opened with IFF_VNET_HDR. OSError on a bad descriptor.
        """

    def attach_divided(self, fd: int, stack: Stack, hosts: list[bytes]) -> None:
        """As attach_tun without offload; but the stack answers for these hosts.

        What an application sends to them reaches no tunnel, and what they send goes to the device.
        One read or write of the descriptor is one packet, so a datagram socket will do. The stack
        must have these addresses, and is closed after the engine has let go.
        """

    def attach_stack(self, stack: Stack) -> None:
        """Exchanges inner packets with a stack in this process, instead of a device."""

    def detach_tun(self) -> None:
        """Lets go of the device or stack; the tunnels stay, their packets are dropped."""

    def open_tunnel(
        self, index: int, *, own_ipv4: bytes, own_ipv6: bytes, peer_ipv4: bytes, peer_ipv6: bytes
    ) -> None:
        """Makes a tunnel without keys and path; packets to the peer wait.

        Arriving packets get these addresses, whatever they carry: the peer's (or its alias here) as
        the source, our own as the destination. ValueError when index or a peer address is in use.
        """

    def close_tunnel(self, index: int) -> None:
        """Forgets the tunnel with its keys."""

    def install_keys(
        self,
        index: int,
        epoch: int,
        cipher: _Cipher,
        send_key: bytes,
        receive_key: bytes,
        remote_index: int,
    ) -> None:
        """Puts keys of 32 bytes into epoch; capsules of it open from now on.

        remote_index is the peer's index of this tunnel. Not for the active epoch.
        """

    def activate_keys(self, index: int, epoch: int) -> None:
        """Seals with epoch from now on and sends what waits; ValueError without keys."""

    def retire_keys(self, index: int, epoch: int) -> None:
        """Erases the keys of epoch; if it was active, packets wait."""

    def open_sockets(self, index: int, first: int, count: int) -> list[int]:
        """Opens IPv4 sockets of the tunnel's own, numbered from first (not 0) on.

        Returns their descriptors, which stay the engine's: for protect(). Fewer where the process
        has none left. Capsules of other tunnels, and what is no capsule, are not taken there.
        """

    def close_sockets(self, index: int, keep: Sequence[int]) -> None:
        """Closes the tunnel's own sockets but those of these numbers."""

    def set_path(
        self,
        index: int,
        host: bytes,
        port: int,
        interface: int = 0,
        *,
        mtu: int,
        hold: bool = False,
        socket: int = 0,
    ) -> None:
        """Sends capsules there from now on, and what waits.

        With hold data are only sealed, and sent by resend or the next set_path.
        mtu is the largest inner packet in bytes; the UDP payload of its capsule
        is at most 40 bytes longer. Larger ones are answered with ICMP. socket is
        one of the tunnel's own, which reach IPv4 only; 0 is the engine's port.
        """

    def clear_path(self, index: int) -> None:
        """Only seals packets, and keeps as many as resend can send, until there is a path again."""

    def send_control(
        self,
        index: int,
        payload: bytes,
        *,
        host: bytes | None = None,
        port: int | None = None,
        interface: int = 0,
        socket: int = 0,
    ) -> bool:
        """Seals payload and sends it along the path, or to host and port from socket.

        False when no epoch is active, or no path and no host is given. It is not kept for resend.
        """

    def receive_state(self, index: int) -> tuple[int, int, bytes] | None:
        """As Capsules.receive_state."""

    def resend(self, index: int, *told: tuple[int, int, bytes]) -> int:
        """Sends again what a peer with these receive states lacks; how many capsules."""

    def shrink(self, index: int) -> None:
        """Gives back the resend memory that a silent tunnel does not need."""

    def set_networks(
        self,
        beyond: Sequence[tuple[bytes, int, bytes]],
        behind: Sequence[tuple[bytes, int]],
        guests: tuple[bytes, int] | None,
    ) -> None:
        """Replaces what lies beyond peers (network, length, the peer's virtual address of the same
        family), and behind this node for the peers whose IPv6 addresses lie in guests.

        A network of length 0 is the Internet: no private address, no virtual one.
        """

    def refuse(self, destination: bytes) -> None:
        """Answers the packets that wait for this address with ICMP, and drops them."""

    def statistics(self, index: int) -> TunnelStatistics:
        """What passed so far."""

    def counters(self) -> dict[str, int]:
        """What was dropped, refused or failed, by reason."""

    def set_rekey_after(self, capsules: int) -> None:
        """Capsules of an epoch after which RekeyDue comes; 2**40 unless set."""

    def close(self) -> None:
        """Ends the threads and frees the number; again is no error."""

@final
class Stack:
    """TCP and UDP on a node's virtual addresses, inside this process.

    Watch fileno, then drain. Hosts have 4 or 16 bytes. Connections, listeners and
    UDP ports have numbers that are never used twice; what fails raises OSError as
    the system's own sockets do (ENOTCONN for an unknown number). No call blocks;
    all are safe in any thread. After close all but close raise ValueError.

    Source: paper, abstract (the framework built-in type).
    """

    def __new__(
        cls, seed: int, *, receive_buffer: int = 1048576, send_buffer: int = 1048576
    ) -> Stack:
        """Without addresses; seed, of 64 bits from a CSPRNG, hides sequence numbers.

        Each connection may hold so many bytes that were not read, or not acknowledged.
        """

    def fileno(self) -> int:
        """Descriptor that is readable exactly while drain has something."""

    def drain(self, most: int = 256) -> list[tuple[int, int]]:
        """What happened, oldest first: a number and a sum of 1 (readable: data, the end
        of it, a connection to accept), 2 (there is room to send; of a new connection: it
        stands) and 4 (it is over, see failure).

        Readable comes again only after receive returned None or accept did; writable
        only after send took less than all.
        """

    def set_addresses(self, *hosts: bytes) -> None:
        """The node's virtual addresses, at most one a family."""

    def set_mtu(self, host: bytes, mtu: int) -> None:
        """Packets to this host have at most mtu bytes; 1280 unless set."""

    def connect(self, host: bytes, port: int) -> tuple[int, tuple[bytes, int]]:
        """Begins a connection: its number and own address. EADDRNOTAVAIL: none of that family."""

    def listen(self, port: int, backlog: int) -> tuple[int, int]:
        """Lets peers connect to port, 0 for any free one: number and port. EADDRINUSE."""

    def accept(self, listener: int) -> tuple[int, tuple[bytes, int], tuple[bytes, int]] | None:
        """The next connection: its number, its own address and the peer's."""

    def close_listener(self, listener: int) -> None:
        """Gives the port back; what waits to be accepted is broken off."""

    def send(self, id: int, data: bytes) -> int:
        """How many bytes of data there was room for; 0 before it stands, EPIPE after shutdown."""

    def receive(self, id: int, most: int) -> bytes | None:
        """The next bytes, at most so many; b"" at the end, None while there are none."""

    def shutdown(self, id: int) -> None:
        """Nothing more will be sent; what was sent still arrives."""

    def leave(self, id: int) -> None:
        """Lets go of a connection, which ends in its own time; the number is unknown then."""

    def abort(self, id: int) -> None:
        """Breaks a connection off and lets go of it."""

    def failure(self, id: int) -> int:
        """The errno with which a connection ended or did not begin, or 0."""

    def unsent(self, id: int) -> int:
        """Bytes that the peer has not acknowledged."""

    def bind(self, port: int) -> tuple[int, int]:
        """Takes a UDP port, 0 for any free one: number and port. EADDRINUSE."""

    def unbind(self, id: int) -> None:
        """Gives a UDP port back."""

    def send_to(self, id: int, host: bytes, port: int, payload: bytes) -> None:
        """Sends a datagram, in several packets where the path demands it. EMSGSIZE."""

    def receive_from(self, id: int) -> tuple[tuple[bytes, int], bytes] | None:
        """The next datagram with its source. An error about one that was sent is raised once."""

    def count(self) -> int:
        """Connections that are kept, however they stand."""

    def close(self) -> None:
        """Ends the thread of the timers; no connection moves any more."""

def open_tun(name: str, *, offload: bool) -> tuple[int, str, bool]:
    """Opens a TUN device, which it makes if there is none of this name.

    Returns its descriptor, which the caller closes, the name it got ("%d" in name
    takes the next free number) and whether the kernel grants offload; pass that
    to Engine.attach_tun. OSError without the right to do so (CAP_NET_ADMIN).
    """

@final
class Link:
    """A link with delay, loss and the rest between an interface and a new TAP device.

    Directions are "out", from the interface to the TAP device, and "back". Whoever
    makes it sees to it that nobody else takes what arrives at the interface. After
    close every method but close raises ValueError.
    """

    def __new__(cls, interface: str, tap: str, *, seed: int = 1) -> Link:
        """Starts as a plain wire; needs CAP_NET_RAW and CAP_NET_ADMIN.

        seed decides what the settings leave to chance. Raises OSError when there is
        no such interface, or the TAP device cannot be made.
        """

    def set(
        self,
        way: Literal["out", "back"],
        *,
        delay_ns: int = 0,
        jitter_ns: int = 0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        reorder_ns: int = 0,
        rate_bps: int = 0,
        queue_ns: int = 0,
    ) -> None:
        """For what arrives from now on; loss, duplicate and reorder are probabilities."""

    def statistics(self, way: Literal["out", "back"]) -> dict[str, int]:
        """Packets arrived, delivered, lost, duplicated, overflowed (the rate's queue
        or the memory was full), refused by the other end; late_ns is the longest that
        one left behind its time."""

    def close(self) -> None:
        """Stops the link; what is on the way is lost."""
