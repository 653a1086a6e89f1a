"""Files that survive a crash: what is read is the old content or the new, never half of either."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from ntmobile.errors import Remedy

_ANOTHER = "choose another one: ntm --state DIR, or set NTM_STATE"


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file in one step; only its owner may read it, unless mode says otherwise.

    It has its mode before its name: who watches the directory may read it at once.
    Raises OSError (a full disk, a read-only mount); the old content then stands.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        _write(fresh, data, mode)
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise
    _sync_directory(path.parent)


def read_if_there(path: Path) -> bytes | None:
    """Return the content, None when there is no such file; raises OSError otherwise."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def remove(path: Path) -> None:
    """Remove a file for good; one that is not there is no error."""
    path.unlink(missing_ok=True)
    _sync_directory(path.parent)


def private_directory(path: Path) -> None:
    """Make a directory only its owner may enter, and its parents; raises Remedy.

    One that is there stays, but one where anybody may put files (/tmp) holds nobody's keys.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & stat.S_IWOTH:
            raise Remedy(f"anybody may write in {path}: no place for keys", remedy=_ANOTHER)
    except OSError as error:
        raise unusable(path, error) from None


def unusable(directory: Path, error: OSError) -> Remedy:
    """Say that a state directory cannot be used."""
    return Remedy(f"cannot use the state directory {directory}: {error.strerror}", remedy=_ANOTHER)


def _write(path: Path, data: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    # Without this the rename itself may be lost with the power.
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
