"""Run on a small file system of its own: every write of the store meets a full disk, one by one.

For each operation the disk is left with room for no page of a file, for one, for two ... until the
operation goes through, so each of its writes once is the first that finds no room. SQLite meets the
system's own ENOSPC. Prints as JSON what was seen, by operation.

    python -m tests.store.full_disk DIRECTORY    (a tmpfs of 4 KiB pages, this program's alone)
"""

import asyncio
import json
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from ntmobile.proto.coordinator.settings import StoredNode
from ntmobile.store import (
    Counter,
    Decision,
    Enrolled,
    Enrolment,
    Registration,
    Store,
    StoreUnavailable,
    create,
)
from ntmobile.time import Instant
from ntmobile.wire.identity import PublicIdentity

PAGE = 4096
MOST_PAGES = 200
ALICE = "laptop.alice.ntm.example.org"
Act = Callable[[Store], Awaitable[object]]


async def make_users(store: Store) -> None:
    """What every operation finds: a user with two keys and a node, a domain, a registration."""
    await store.users.add("alice", "hash", 1.0)
    await store.users.add("bob", None, 1.0)
    for digest in (b"1" * 32, b"2" * 32):
        await store.authorities.add(digest, "alice", 1.0)
    await store.nodes.enrol(enrolment(ALICE, b"d" * 32), 1.0)
    await store.federation.add("ntm.example.net", 1.0, key_pin="SHA256:" + "0" * 64)
    await store.registrations.put([registration(ALICE, 10.0)])
    await store.audit.add([DECISION])


def enrolment(fqdn: str, device: bytes) -> Enrolment:
    """A node of alice."""
    return Enrolment(fqdn, "alice", fqdn.split(".")[0], device, b"t" * 32)


def registration(fqdn: str, expires_at: float) -> Registration:
    """A registration of many bytes: several pages in all."""
    identity = PublicIdentity(b"d" * 32, b"t" * 32, b"s" * 64)
    own = IPv4Address("100.64.0.9"), IPv6Address("fd00::9")
    node = StoredNode(fqdn, identity, ("staff",) * 100, bytes(32), bytes(8), Instant(0), *own)
    return Registration(node, expires_at)


DECISION = Decision(1.0, "allowed", ALICE, "pc.bob.ntm.example.net", "")
MANY = [registration(f"n{number}.alice.ntm.example.org", 20.0) for number in range(12)]


async def tear(store: Store) -> None:
    """Two transactions are not one: what the checks here must find."""
    await store.users.add("carol", "hash", 2.0)
    await store.users.add("dave", "hash", 2.0)


TORN = "torn"
OPERATIONS: dict[str, Act] = {
    "users.add": lambda store: store.users.add("carol", "hash", 2.0),
    "users.set_password": lambda store: store.users.set_password("alice", "another"),
    "users.set_disabled": lambda store: store.users.set_disabled("alice", disabled=True),
    "users.remove": lambda store: store.users.remove("alice", 2.0),
    "authorities.add": lambda store: store.authorities.add(b"3" * 32, "alice", 2.0),
    "authorities.remove": lambda store: store.authorities.remove(1),
    "nodes.enrol": lambda store: enrolled(
        store.nodes.enrol(enrolment("pc.alice.ntm.example.org", b"e" * 32), 2.0, authority=2)
    ),
    "nodes.seen": lambda store: store.nodes.seen(ALICE, b"u" * 32, 2.0),
    "nodes.revoke": lambda store: store.nodes.revoke(ALICE, 2.0),
    "nodes.allow_rekey": lambda store: store.nodes.allow_rekey(ALICE),
    "registrations.put": lambda store: store.registrations.put(MANY),
    "registrations.remove": lambda store: store.registrations.remove(ALICE),
    "federation.add": lambda store: store.federation.add("ntm.example.com", 2.0),
    "federation.trust": lambda store: store.federation.trust("a.example", b"k" * 32, "web", 2.0),
    "federation.remove": lambda store: store.federation.remove("ntm.example.net"),
    "audit.add": lambda store: store.audit.add([DECISION] * 200),
    "settings.next": lambda store: store.settings.next(Counter.GENERATION),
    "sweep": lambda store: store.sweep(15.0),
}


async def enrolled(outcome: Awaitable[Enrolled]) -> None:
    """Judge an enrolment."""
    assert await outcome is Enrolled.DONE


class Disk:
    """The file system, and the database on it."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "ntm.db"
        self._filler = directory / "filler"
        self.url = f"sqlite+aiosqlite:///{self.file}"

    @contextmanager
    def holding(self, pages: int) -> Iterator[None]:
        """Leave room for so many pages, until the end."""
        with self._filler.open("wb", buffering=0) as filler, suppress(OSError):
            while filler.write(bytes(PAGE)):
                pass
        with self._filler.open("r+b") as filler:
            filler.truncate(max(self._filler.stat().st_size - pages * PAGE, 0))
        try:
            yield
        finally:
            self._filler.unlink()

    def restore(self, content: bytes) -> None:
        """Put a database there; no content is a fresh one."""
        for file in self.file.parent.glob("ntm.db*"):
            file.unlink()
        create(self.url)
        if content:
            self.file.write_bytes(content)

    def empty_log(self) -> None:
        """So that each page that is written needs room."""
        with closing(sqlite3.connect(self.file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def dump(self) -> list[str]:
        """Return all that is in it, and that it is whole."""
        with closing(sqlite3.connect(self.file)) as connection:
            (whole,) = connection.execute("PRAGMA integrity_check").fetchone()
            return [whole, *connection.iterdump()]


class Seen:
    """What one operation went through."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        """Of each failure: with room for no page, for one, ..."""
        self.faults: list[str] = []

    def check(self, holds: bool, fault: str) -> None:
        if not holds:
            self.faults.append(f"with {len(self.reasons)} pages: {fault}")


async def operate(disk: Disk, before: bytes, act: Act) -> Seen:
    """Do one operation with ever more room, until it goes through."""
    seen = Seen()
    for pages in range(MOST_PAGES):
        disk.restore(before)
        store = await Store.open(disk.url)
        disk.empty_log()
        old = disk.dump()
        with disk.holding(pages):
            reason = await outcome(act(store))
            names = await outcome(store.users.list())
        seen.check(names is None, f"reads end too: {names}")
        now = disk.dump()
        if reason is not None:
            seen.check(now == old, "something was half written")
            again = await outcome(act(store))
            seen.check(again is None, f"it does not work again: {again}")
            seen.reasons.append(reason)
        new = disk.dump()
        await store.close()
        if reason is None:
            return seen
        seen.check(new != old, "it wrote nothing")
    raise AssertionError("it never went through")


async def come_up(disk: Disk, before: bytes) -> Seen:
    """A server starts: its database is opened, and brought to this version's schema."""
    seen = Seen()
    for pages in range(MOST_PAGES):
        disk.restore(before)
        old = disk.dump()
        with disk.holding(pages):
            reason = await outcome(opened(disk))
        if reason is None:
            return seen
        seen.check(disk.dump() == old, "something was half written")
        again = await outcome(opened(disk))
        seen.check(again is None, f"it does not start again: {again}")
        seen.reasons.append(reason)
    raise AssertionError("it never went through")


async def opened(disk: Disk) -> None:
    """Open the store and close it."""
    store = await Store.open(disk.url)
    await store.close()


async def outcome(acting: Awaitable[object]) -> str | None:
    """Wait for an operation; the reason if the store could not do it."""
    try:
        await acting
    except StoreUnavailable as error:
        return error.reason
    return None


async def main(directory: Path) -> None:
    """Try everything."""
    disk = Disk(directory)
    disk.restore(b"")
    store = await Store.open(disk.url)
    await make_users(store)
    await store.close()
    before = disk.file.read_bytes()
    told = {name: await operate(disk, before, act) for name, act in OPERATIONS.items()}
    told[TORN] = await operate(disk, before, tear)
    told["come up"] = await come_up(disk, before)
    told["migrate"] = await come_up(disk, b"")
    json.dump({name: vars(seen) for name, seen in told.items()}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
