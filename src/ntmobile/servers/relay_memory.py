"""The file in which an RS keeps its paths, so that a restart interrupts them and forgets none.

Frames, one behind the other, each written in one step (big-endian)::

    length  4   of the body
    crc32   4   of the body
    body        wall  8   when it was written, in seconds of Unix time
                record    msgpack; see proto.relay.memory

A frame that a crash cut off ends the file: what is before it stands. kill -9 loses nothing; a loss
of power may lose the last seconds, whose paths are then negotiated anew, so nothing waits for the
disk. Where most of the file is history it is written anew.

It holds keys (Ktun, Kdcrs; none that opens a capsule), and only its owner may read it.
Ours: docs/protocol.md section 10.
"""

import errno
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from ntmobile.errors import DecodeError
from ntmobile.proto.relay.memory import RECORD, Record, Standing, StoredKey, standing
from ntmobile.runtime.clock import Clock
from ntmobile.servers.files import write
from ntmobile.wire.message import decode, encode

log = structlog.get_logger()

_HEAD = struct.Struct("!II")
_WALL = struct.Struct("!Q")
MOST_BODY = 4096
SLACK = 1 << 20
"""Bytes of history that are no reason to write the file anew."""
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class RelayMemory:
    """Keeps records in one file; on a disk that does not take them RS goes on, and says so."""

    def __init__(self, file: Path, clock: Clock) -> None:
        """Reads what is there; never raises for what it finds."""
        self._file = file
        self._clock = clock
        self._standing: dict[bytes, bytes] = {}
        """The frame of each key and path that stands, by its name."""
        self._descriptor: int | None = None
        self._size = 0
        self._standing_size = 0
        self._troubled = False
        self.restored: tuple[Standing, ...] = self._restore()
        """What stood when the last run ended."""

    def keep(self, record: Record) -> None:
        """Write a record; what cannot be written is forgotten at the next restart."""
        frame = _frame(record, int(self._clock.wall()))
        self._note(record, frame)
        try:
            if self._descriptor is None or self._size > SLACK + 3 * self._standing_size:
                self._write_anew()
            else:
                self._append(frame)
        except OSError as error:
            self._give_up(error)
        else:
            self._troubled = False

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _restore(self) -> tuple[Standing, ...]:
        try:
            data = self._file.read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as error:
            log.warning("RS starts with no paths", file=str(self._file), why=error.strerror)
            return ()
        now_s = int(self._clock.wall())
        records: list[Record] = []
        for wall_s, record, frame in frames(data):
            fresh = _aged(record, now_s - wall_s)
            if fresh is not None:
                records.append(fresh)
                self._note(record, frame)
        return standing(records)

    def _note(self, record: Record, frame: bytes) -> None:
        self._standing_size -= len(self._standing.pop(record.name, b""))
        if isinstance(record, Standing):
            self._standing[record.name] = frame
            self._standing_size += len(frame)

    def _write_anew(self) -> None:
        self.close()
        content = b"".join(self._standing.values())
        write(self._file, content, private=True)
        self._descriptor = os.open(self._file, FLAGS | os.O_APPEND)
        self._size = len(content)

    def _append(self, frame: bytes) -> None:
        assert self._descriptor is not None
        written = os.write(self._descriptor, frame)
        if written < len(frame):
            os.ftruncate(self._descriptor, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += written

    def _give_up(self, error: OSError) -> None:
        with suppress(OSError):
            self.close()
        if not self._troubled:
            needs = "room and leave to write there; until then a restart of RS forgets its paths"
            log.error(
                "RS cannot keep its paths", file=str(self._file), why=error.strerror, needs=needs
            )
        self._troubled = True


def frames(data: bytes) -> Iterator[tuple[int, Record, bytes]]:
    """Give what each whole frame says: when it was written, the record, and its bytes."""
    at = 0
    while at + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, at)
        body = data[at + _HEAD.size : at + _HEAD.size + length]
        sound = _WALL.size < length <= MOST_BODY and zlib.crc32(body) == checksum
        if not sound or len(body) < length:
            return
        with suppress(DecodeError):  # of a later version: not ours to judge
            yield (
                _WALL.unpack_from(body)[0],
                decode(RECORD, body[_WALL.size :]),
                data[at : at + _HEAD.size + length],
            )
        at += _HEAD.size + length


def _frame(record: Record, wall_s: int) -> bytes:
    body = _WALL.pack(wall_s) + encode(record)
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def _aged(record: Record, age_s: int) -> Record | None:
    """The record as it stands so much later; None for a key that is over by now."""
    if not isinstance(record, StoredKey):
        return record
    left_s = record.sharing.lifetime_s - max(age_s, 0)
    if left_s <= 0:
        return None
    return StoredKey(msgspec.structs.replace(record.sharing, lifetime_s=left_s))
