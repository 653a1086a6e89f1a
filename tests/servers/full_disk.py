"""Run on a small file system of its own: what AS, DC and operator write meets a full disk.

As tests.store.full_disk, a floor higher: an operator's verb changes database and files, a login
enrols, the DC's writer must lose nothing. Prints as JSON what was seen, by operation.

    python -m tests.servers.full_disk DIRECTORY    (a tmpfs of 4 KiB pages, this program's alone)
"""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from random import Random, SystemRandom

import structlog
from tests.servers.test_logins import GOOD, LAPTOP, THIEF, login
from tests.store.full_disk import ALICE, MOST_PAGES, Disk, Seen, enrolment, registration

from ntmobile.errors import Remedy
from ntmobile.keys.identity import Identity
from ntmobile.keys.passwords import Cost, authority_digest, hash_password
from ntmobile.proto.coordinator.policy import Federation
from ntmobile.proto.coordinator.settings import Audit
from ntmobile.proto.io import LoginVerified
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.tasks import Tasks
from ntmobile.servers import keeper
from ntmobile.servers.admin import Admin, opened
from ntmobile.servers.authority import NodeAuthority
from ntmobile.servers.config import ServerConfig, ServerSettings
from ntmobile.servers.init import initialise
from ntmobile.servers.keeper import Keeper
from ntmobile.servers.logins import Logins
from ntmobile.servers.policy import parse_policy
from ntmobile.store import Counter, StoreUnavailable
from ntmobile.time import Instant
from ntmobile.wire.login import LoginRefusal, LoginRefused

DOMAIN = "ntm.example.org"
SETTINGS = ServerConfig(server=ServerSettings(domain=DOMAIN, addresses=(ip_address("127.0.0.9"),)))
CHEAP = Cost(passes=1, memory_kib=8, lanes=1)
KEY = "ntmkey-" + "a" * 26
NEWER = Identity.of(b"3" * 32, b"t" * 32)
OTHER = "ntm.example.net"
RETRY_S = 0.01
"""Between two tries of the DC's writer, here."""
Act = Callable[[Admin], Awaitable[object]]


async def let_in(admin: Admin, **proof: object) -> None:
    """Log a node in; raises StoreUnavailable when that is why it is refused."""
    nobody = NodeAuthority(SETTINGS, None, (), Random(1), Clock())
    logins = Logins(DOMAIN, admin.store, parse_policy(""), Clock(), nobody, cost=CHEAP)
    try:
        answer = await logins.verify(login(**proof))  # type: ignore[arg-type]
    finally:
        logins.close()
    if isinstance(answer, LoginRefusal) and answer.reason is LoginRefused.STORE:
        raise StoreUnavailable("the disk is full", remedy="")
    assert isinstance(answer, LoginVerified), answer


VERBS: dict[str, Act] = {
    "add_user": lambda admin: admin.add_user("carol", None, 2.0),
    "set_password": lambda admin: admin.set_password("alice", "another password"),
    "set_disabled": lambda admin: admin.set_disabled("alice", disabled=True),
    "remove_user": lambda admin: admin.remove_user("alice", 2.0),
    "revoke": lambda admin: admin.revoke(ALICE, 2.0),
    "allow_rekey": lambda admin: admin.allow_rekey(ALICE),
    "create_key": lambda admin: admin.create_key(
        "alice", 2.0, reusable=False, ephemeral=False, tags=(), lifetime_s=None
    ),
    "remove_key": lambda admin: admin.remove_key(1),
    "add_domain": lambda admin: admin.add_domain("ntm.example.com", 2.0, key=None, ca=None),
    "remove_domain": lambda admin: admin.remove_domain(OTHER),
    "set_mode": lambda admin: admin.set_mode(Federation.OPEN),
    "set_policy": lambda admin: admin.set_policy(f"# {'x' * 9000}\n", "policy.toml"),
}
"""Every verb of an operator that writes."""
LOGINS: dict[str, Act] = {
    "login by password": lambda admin: let_in(admin, identity=NEWER, user="bob", password=GOOD),
    "login by key": lambda admin: let_in(admin, identity=THIEF, user="carl", authority=KEY),
}


class Place:
    """A domain's directory on the disk, and what it was at first."""

    def __init__(self, root: Path) -> None:
        self.path = root / "servers"
        self.disk = Disk(self.path)
        self._first: dict[Path, bytes] = {}

    async def make(self) -> None:
        """Make the domain, with users, a node, a key and a foreign domain."""
        await initialise(self.path, SETTINGS, entropy=SystemRandom(), now_s=1_800_000_000)
        async with opened(self.path, SystemRandom()) as admin:
            store = admin.store
            for user in ("alice", "bob", "carl"):
                await store.users.add(user, hash_password(GOOD, bytes(16), CHEAP), 1.0)
            await store.authorities.add(authority_digest(KEY), "carl", 1.0)
            await store.nodes.enrol(enrolment(ALICE, LAPTOP.public.device), 1.0)
            await store.federation.add(OTHER, 1.0)
            await store.registrations.put([registration(ALICE, 10.0)])
        self._first = {file: file.read_bytes() for file in self.path.iterdir()}

    @asynccontextmanager
    async def afresh(self) -> AsyncIterator[Admin]:
        """The operator's verbs on the directory as it was at first."""
        shutil.rmtree(self.path)
        self.path.mkdir(mode=0o700)
        for file, content in self._first.items():
            file.write_bytes(content)
        async with opened(self.path, SystemRandom()) as admin:
            self.disk.empty_log()
            yield admin

    def state(self) -> list[str]:
        """All that an operator can change, but for how often something was changed."""
        lines = [line for line in self.disk.dump() if f"'{Counter.GENERATION}'" not in line]
        files = ("server.toml", "policy.toml")
        return lines + [(self.path / name).read_text() for name in files]


async def operate(place: Place, act: Act) -> Seen:
    """Do one operation with ever more room, until it goes through."""
    seen = Seen()
    for pages in range(MOST_PAGES):
        async with place.afresh() as admin:
            old, before = place.state(), await admin.store.settings.get(Counter.GENERATION)
            with place.disk.holding(pages):
                reason = await outcome(act(admin))
            if reason is None:
                seen.check(place.state() != old, "it wrote nothing")
                return seen
            seen.check(place.state() == old, "something was half written")
            again = await outcome(act(admin))
            seen.check(again is None, f"it does not work again: {again}")
            told = await admin.store.settings.get(Counter.GENERATION)
            tells = act in (VERBS[name] for name in TELLING)
            seen.check(told > before or not tells, "running servers never hear of it")
            seen.reasons.append(reason)
    raise AssertionError("it never went through")


TELLING = ("set_disabled", "remove_user", "revoke", "add_domain", "remove_domain", "set_mode")


async def come_back(place: Place) -> Seen:
    """An enrolled node logs in: that it did is a note, which a full disk only loses."""
    seen = Seen()
    for pages in range(4):
        async with place.afresh() as admin:
            with place.disk.holding(pages):
                reason = await outcome(let_in(admin))
            seen.check(reason is None, f"who is enrolled is shut out: {reason}")
    return seen


async def keep(place: Place) -> Seen:
    """The DC's writer: what it was given while there was no room is written once there is."""
    seen = Seen()
    keeper.RETRY_S = RETRY_S
    nodes = [registration(f"n{n}.alice.{DOMAIN}", 20.0).node for n in range(12)]
    for pages in range(MOST_PAGES):
        tasks = Tasks()
        async with place.afresh() as admin:
            writer = Keeper(admin.store, Clock(), tasks)
            with place.disk.holding(pages):
                for node in nodes:
                    writer.keep_node(node)
                for number in range(60):
                    writer.keep_decision(
                        Audit(Instant(number), ALICE, f"pc.bob.{OTHER}", True, None)
                    )
                await until(lambda w=writer: w.counters["failures"] or w.counters["decisions"])
            await until(lambda w=writer: w.counters["decisions"])
            failures = writer.counters["failures"]
            await writer.close()
            lines = place.disk.dump()
            for table, number in (("registrations", 12 + 1), ("audit", 60)):
                held = sum(line.startswith(f'INSERT INTO "{table}"') for line in lines)
                seen.check(held == number, f"{held} of {number} in {table}")
        await tasks.close()
        if not failures:
            return seen
        seen.reasons.append("the disk is full")
    raise AssertionError("it never went through")


async def outcome(acting: Awaitable[object]) -> str | None:
    """Wait for an operation; what the operator would be told if it could not be done."""
    try:
        await acting
    except StoreUnavailable as error:
        return error.reason
    except Remedy as error:
        return str(error)
    return None


async def until(condition: Callable[[], int]) -> None:
    """Wait for the DC's writer."""
    while not condition():  # noqa: ASYNC110 -- it counts, and tells nobody
        await asyncio.sleep(RETRY_S)


async def main(root: Path) -> None:
    """Try everything."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    place = Place(root)
    await place.make()
    told = {name: await operate(place, act) for name, act in (VERBS | LOGINS).items()}
    told["login by device key"] = await come_back(place)
    told["the DC's writer"] = await keep(place)
    json.dump({name: vars(seen) for name, seen in told.items()}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
