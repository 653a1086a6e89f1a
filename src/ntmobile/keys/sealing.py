"""Sealing signalling datagrams under subkeys of a Table 1 key.

A Table 1 key never seals anything itself: each sender derives
HKDF-SHA-256(key, info = "ntm seal 1" | key name | sender's role | sender's boot salt), so two
senders, or one sender before and after a restart, never share a nonce.
Ours: docs/protocol.md section 3.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ntmobile.errors import DecodeError, StateError
from ntmobile.keys.table import CommonKey
from ntmobile.wire.datagram import HEADER_SIZE, Header, Sender

SALT_SIZE = 8
WINDOW = 1024
MAX_COUNTER = 1 << 48
"""Far beyond what one boot sends, far below what AES-GCM allows under one key."""


def derive(secret: bytes, info: bytes, *, salt: bytes | None = None, size: int = 32) -> bytes:
    """HKDF-SHA-256."""
    return HKDF(algorithm=SHA256(), length=size, salt=salt, info=info).derive(secret)


def subkey(key: CommonKey, sender: Sender, salt: bytes) -> AESGCM:
    """Return the cipher of one sender's boot under a Table 1 key."""
    info = b"ntm seal 1\0" + key.name.encode() + b"\0" + bytes((sender,)) + salt
    return AESGCM(derive(key.secret, info))


class ReplayWindow:
    """Remembers the last 1024 counters (RFC 4303, section 3.4.3)."""

    __slots__ = ("_bitmap", "_highest")

    def __init__(self) -> None:
        """Has seen nothing."""
        self._highest = -1
        self._bitmap = 0

    def accept(self, counter: int) -> bool:
        """Whether the counter is new; call once per datagram that authenticated."""
        ahead = counter - self._highest
        if ahead > 0:
            self._bitmap = (self._bitmap << ahead if ahead < WINDOW else 0) | 1
            self._bitmap &= (1 << WINDOW) - 1
            self._highest = counter
            return True
        if -ahead >= WINDOW or self._bitmap >> -ahead & 1:
            return False
        self._bitmap |= 1 << -ahead
        return True


class Sealer:
    """Seals datagrams of one sender under one key for one boot."""

    __slots__ = ("_cipher", "_counter", "_salt", "_sender")

    def __init__(self, key: CommonKey, sender: Sender, salt: bytes) -> None:
        """Salt is 8 random bytes, new at every start of the sender."""
        self._cipher = subkey(key, sender, salt)
        self._sender = sender
        self._salt = salt
        self._counter = 0

    def seal(self, identifier: bytes, plaintext: bytes) -> bytes:
        """Return the whole datagram; identifier is one of the key's names."""
        if self._counter == MAX_COUNTER:
            raise StateError("a signalling key is used up")
        header = Header(self._sender, identifier, self._salt, self._counter)
        self._counter += 1
        return _seal(self._cipher, header, plaintext)


class Opener:
    """Opens datagrams of one sender's boot under one key."""

    __slots__ = ("_cipher", "_window")

    def __init__(self, key: CommonKey, sender: Sender, salt: bytes) -> None:
        """Keeps one replay window."""
        self._cipher = subkey(key, sender, salt)
        self._window = ReplayWindow()

    def open(self, header: Header, data: bytes) -> bytes:
        """Return the plaintext; raises DecodeError when forged or replayed."""
        if header.counter >= MAX_COUNTER:
            raise DecodeError("counter out of range")
        plaintext = _open(self._cipher, header, data)
        if not self._window.accept(header.counter):
            raise DecodeError("replayed")
        return plaintext


def seal_once(key: CommonKey, header: Header, plaintext: bytes) -> bytes:
    """Return the datagram of a header; the caller never uses its salt and counter again."""
    return _seal(subkey(key, header.sender, header.salt), header, plaintext)


def open_once(key: CommonKey, header: Header, data: bytes) -> bytes:
    """Return the plaintext; raises DecodeError when forged. The caller looks for replays."""
    return _open(subkey(key, header.sender, header.salt), header, data)


def _seal(cipher: AESGCM, header: Header, plaintext: bytes) -> bytes:
    clear = header.encode()
    return clear + cipher.encrypt(header.counter.to_bytes(12), plaintext, clear)


def _open(cipher: AESGCM, header: Header, data: bytes) -> bytes:
    nonce = header.counter.to_bytes(12)
    try:
        return cipher.decrypt(nonce, data[HEADER_SIZE:], data[:HEADER_SIZE])
    except InvalidTag:
        raise DecodeError("forged") from None
