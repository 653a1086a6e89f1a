"""The DNS hook where the packet path cannot be had: /etc/resolv.conf names the stub first.

The original servers stay behind the stub, so a dead stub costs a C library one refused packet.
What was there before is kept beside the file under another name, a symbolic link as the link it
is; a new file takes its place in one step. Nothing is changed when the disk is full, and restoring
needs no space. Our lines stand between marks, so that a file left by a crash is recognised and
mended, and several agents can share one file.

Limits: glibc asks three servers, so a third original one is not reached; musl asks all servers at
once and takes the first answer, so there this hook is weak and the redirect (dns_hook_table.py) is
needed. Agents of different network namespaces must not use it on the same file: none can see
whether the other's stub lives.
"""

import errno
import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from ntmobile.agent.dns_hook_table import HookUnavailable
from ntmobile.wire.endpoint import Endpoint

PATH = Path("/etc/resolv.conf")
LOOPBACKS = tuple(f"127.78.0.{number}" for number in range(1, 16))
"""Where stubs listen on port 53 for this hook, one agent each."""
DNS_PORT = 53
_BLOCK = "# ntm {0}: added by the ntm agent, which removes it\nnameserver {0}\n# ntm {0}: end\n"
_BLOCKS = re.compile(r"# ntm (\S+): added[^\n]*\n.*?# ntm \1: end\n", re.DOTALL)

log = structlog.get_logger()


def nameservers(text: str) -> tuple[Endpoint, ...]:
    """Returns the servers of a resolv.conf that are not a stub's, in order.

    Like the C library's resolver: without any line it is the machine itself. Source:
    resolv.conf(5).
    """
    found: list[Endpoint] = []
    for line in _BLOCKS.sub("", text).splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            with suppress(ValueError):
                found.append(Endpoint(ip_address(words[1]), DNS_PORT))
    return tuple(found) or (Endpoint("127.0.0.1", DNS_PORT),)


class Nameservers:
    """The ordinary resolvers of this machine, as they are now; call it for each query."""

    def __init__(self, path: Path = PATH) -> None:
        """Reads path again whenever the file has changed."""
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._servers: tuple[Endpoint, ...] = ()

    def __call__(self) -> tuple[Endpoint, ...]:
        """Returns the last that could be read; a file that is missing for a moment is no change."""
        with suppress(OSError):
            state = self._path.stat()
            seen = (state.st_ino, state.st_mtime_ns, state.st_size)
            if seen != self._seen:
                self._servers = nameservers(_read(self._path))
                self._seen = seen
        return self._servers


def free_loopback(loopbacks: tuple[str, ...] = LOOPBACKS) -> str:
    """Returns an address on which no stub listens; raises HookUnavailable."""
    for address in loopbacks:
        if not _is_taken(address):
            return address
    raise HookUnavailable(
        "every address for a DNS stub is taken", remedy="end another agent: ntm --state DIR down"
    )


class ResolvConf:
    """The stub's line is in the file while the context is entered."""

    def __init__(
        self, stub: str, *, path: Path = PATH, is_alive: Callable[[str], bool] | None = None
    ) -> None:
        """Stub is the address (port 53) on which it already listens.

        is_alive tells whether another agent's stub still listens; asked of the system unless
        given.
        """
        self._stub = stub
        self._path = path
        self._kept = path.with_name(f"{path.name}.before-ntm")
        self._is_alive = is_alive or _is_taken

    def __enter__(self) -> Self:
        """Mends what a crashed agent left, then adds the stub; raises HookUnavailable."""
        try:
            self._mend()
            self._install()
        except OSError as error:
            with suppress(OSError):
                self._forget_kept()
            raise _unavailable(self._path, error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restores; when even that is impossible the servers behind the stub still answer."""
        try:
            self._uninstall({self._stub})
        except OSError as failure:
            log.error("resolv.conf keeps the stub's line", error=failure.strerror)

    def refresh(self) -> None:
        """Call every second or two, and after a move.

        Adds the stub again after a DHCP client or network manager wrote the file, and follows
        the file that an original symbolic link points to. What cannot be written now is tried
        again at the next call.
        """
        try:
            if self._stub not in _stubs(_read(self._path)):
                self._install()
            elif self._kept.is_symlink():
                self._follow()
        except OSError as error:
            log.warning("resolv.conf cannot be changed", error=error.strerror)

    def _mend(self) -> None:
        there = set(_stubs(_read_if_there(self._path))) - {self._stub}
        if dead := {stub for stub in there if not self._is_alive(stub)}:
            log.warning("a killed agent left its line in resolv.conf: removed")
            self._uninstall(dead)

    def _install(self) -> None:
        """Keeps what is there now, unless another agent's stub is in it: then it was kept."""
        text = _read_if_there(self._path)
        if not _stubs(text):
            _keep(self._path, self._kept)
        _write(self._path, _BLOCK.format(self._stub) + _without(text, {self._stub}))

    def _uninstall(self, stubs: set[str]) -> None:
        text = _read_if_there(self._path)
        if not stubs & set(_stubs(text)):
            # Somebody else wrote the file meanwhile: it is theirs, and what was kept is outdated.
            self._forget_kept()
            return
        rest = _without(text, stubs)
        if not _stubs(rest) and self._is_original(rest):
            _restore(self._kept, self._path)
            return
        _write(self._path, rest)
        self._forget_kept()

    def _forget_kept(self) -> None:
        """Unless another agent's line still stands before it."""
        if not _stubs(_read_if_there(self._path)):
            self._kept.unlink(missing_ok=True)

    def _is_original(self, rest: str) -> bool:
        """False when the lines behind the stub were edited since: then they stay as they are."""
        return self._kept.is_symlink() or _read_if_there(self._kept) == rest

    def _follow(self) -> None:
        text, target = _read(self._path), _read_if_there(self._kept)
        blocks = "".join(match.group() for match in _BLOCKS.finditer(text))
        if text != blocks + target:
            _write(self._path, blocks + target)


def _stubs(text: str) -> tuple[str, ...]:
    return tuple(match.group(1) for match in _BLOCKS.finditer(text))


def _without(text: str, stubs: set[str]) -> str:
    return _BLOCKS.sub(lambda match: "" if match.group(1) in stubs else match.group(), text)


def _read(path: Path) -> str:
    # Nothing in it but addresses and names matters here, and every byte must survive.
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _read_if_there(path: Path) -> str:
    """A missing file, or a symbolic link to one, counts as an empty one."""
    try:
        return _read(path)
    except FileNotFoundError:
        return ""


def _keep(path: Path, kept: Path) -> None:
    """Gives the original a second name, without a copy where the file system can do that."""
    if not path.is_symlink() and not path.exists():
        return
    fresh = kept.with_name(f".{kept.name}")
    fresh.unlink(missing_ok=True)
    try:
        os.link(path, fresh, follow_symlinks=False)
    except OSError:
        # A file that a container engine has mounted there cannot be linked.
        _write_new(fresh, _read(path), path.stat().st_mode)
    fresh.replace(kept)


def _restore(kept: Path, path: Path) -> None:
    try:
        kept.replace(path)
    except FileNotFoundError:
        path.unlink()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        _overwrite(path, _read(kept))
        kept.unlink()


def _write(path: Path, text: str) -> None:
    """Replaces the file in one step; in place only where it is a mount point of its own."""
    fresh = path.with_name(f".{path.name}.ntm")
    try:
        _write_new(fresh, text, 0o644)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        if error.errno != errno.EBUSY:
            raise
        _overwrite(path, text)


def _write_new(path: Path, text: str, mode: int) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
        file.flush()
        os.fchmod(descriptor, mode & 0o777)
        os.fsync(descriptor)


def _overwrite(path: Path, text: str) -> None:
    """Claims the space first: a full disk then leaves the old content whole."""
    data = text.encode("utf-8", "surrogateescape")
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if len(data) > size:
            os.posix_fallocate(descriptor, size, len(data) - size)
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_taken(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, DNS_PORT))
        except OSError:
            return True
    return False


def _unavailable(path: Path, error: OSError) -> HookUnavailable:
    return HookUnavailable(
        f"{path} cannot be changed: {error.strerror}; it was left as it is",
        remedy="make room or make it writable, then: ntm down && ntm up",
    )
