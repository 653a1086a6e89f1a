"""Sealing the frames of one TCP connection under a Table 1 key.

As signalling datagrams are (`keys.sealing`), with two differences that suit a connection: frames
come in order, so that each counter must be the next; and a connection may rest for an hour, so that
no cipher is kept, only the numbers it is made of again for each frame.
Ours: docs/protocol.md section 9.
"""

from ntmobile.errors import DecodeError, StateError
from ntmobile.keys.sealing import MAX_COUNTER, open_once, seal_once
from ntmobile.keys.table import CommonKey
from ntmobile.wire.datagram import Header, Sender


class Channel:
    """One end of a connection; each connection has a new one."""

    __slots__ = ("_heard", "_key", "_own", "_salt", "_sent", "_their_salt", "_theirs")

    def __init__(self, key: CommonKey, own: Sender, theirs: Sender, salt: bytes) -> None:
        """Salt is 8 random bytes, new for each connection."""
        self._key = key
        self._own = own
        self._theirs = theirs
        self._salt = salt
        self._their_salt = b""
        self._sent = 0
        self._heard = 0

    def seal(self, plaintext: bytes) -> bytes:
        """Return the next datagram of this end."""
        if self._sent == MAX_COUNTER:
            raise StateError("a connection's key is used up")
        header = Header(self._own, self._key.identifier, self._salt, self._sent)
        self._sent += 1
        return seal_once(self._key, header, plaintext)

    def open(self, header: Header, data: bytes) -> bytes:
        """Return the plaintext of the other end's next datagram.

        Raises DecodeError for anything else; the connection may go on after it.
        """
        if header.sender != self._theirs or header.identifier != self._key.identifier:
            raise DecodeError("out of place")
        if header.counter != self._heard or (self._heard and header.salt != self._their_salt):
            raise DecodeError("replayed")
        plaintext = open_once(self._key, header, data)
        self._their_salt = header.salt
        self._heard += 1
        return plaintext
