"""Enrolled nodes: which device key is whose."""

from dataclasses import dataclass
from enum import Enum

from sqlalchemy import delete, exists, insert, select, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from ntmobile.store.database import Database
from ntmobile.store.schema import authorities, nodes, registrations, revoked_devices, users
from ntmobile.store.settings import Counter, count_up


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A node as it shows itself at a login that proved whose it is."""

    fqdn: str
    user: str
    label: str
    device: bytes
    """Ed25519 public key."""
    tunnel: bytes
    """X25519 public key that the device key vouches for."""
    tags: tuple[str, ...] = ()
    ephemeral: bool = False
    """Forgotten when it did not log in for a while."""


@dataclass(frozen=True, slots=True)
class StoredDevice:
    """A node of the domain, as enrolled."""

    fqdn: str
    user: str
    label: str
    device: bytes
    tunnel: bytes
    tags: tuple[str, ...]
    ephemeral: bool
    rekey_allowed: bool
    """The operator gave leave to enrol another device key under this name, once."""
    enrolled_at: float
    seen_at: float
    """Its last login."""
    revoked_at: float | None


class Enrolled(Enum):
    """What became of an enrolment."""

    DONE = "done"
    NAME_TAKEN = "name-taken"
    """Another device key holds the name."""
    REVOKED = "revoked"
    AUTHORITY_USED = "authority-used"
    """The single-use key was used up meanwhile."""
    NO_USER = "no-user"


class Nodes:
    """Every method raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        """A face of the database; several may be open."""
        self._database = database

    async def get(self, fqdn: str) -> StoredDevice | None:
        """The node of that name."""
        async with self._database.reading() as connection:
            return await _get(connection, fqdn)

    async def list(self, user: str | None = None) -> tuple[StoredDevice, ...]:
        """Every node, or a user's, by name."""
        query = select(nodes).order_by(nodes.c.fqdn)
        async with self._database.reading() as connection:
            found = await connection.execute(query if user is None else query.filter_by(user=user))
            return tuple(map(_node, found))

    async def enrol(
        self,
        new: Enrolment,
        at: float,
        *,
        successor_of: bytes | None = None,
        authority: int | None = None,
    ) -> Enrolled:
        """Add a node, or record its login; all or nothing.

        successor_of: the device key that signed this one. authority: id of a single-use key that
        is used up by this.
        """
        async with self._database.writing() as connection:
            outcome = await _judge(connection, new, successor_of)
            if outcome is Enrolled.DONE and authority is not None:
                outcome = await _use_up(connection, authority, at)
            if outcome is Enrolled.DONE:
                await _put(connection, new, at)
        return outcome

    async def seen(self, fqdn: str, tunnel: bytes, at: float) -> None:
        """Record a login by device key, and the tunnel key it brought."""
        async with self._database.writing() as connection:
            query = update(nodes).where(nodes.c.fqdn == fqdn)
            await connection.execute(query.values(seen_at=at, tunnel=tunnel))

    async def revoke(self, fqdn: str, at: float) -> bool:
        """Refuse the node's device key for ever; whether there is such a node.

        Counts a generation: running servers must know.
        """
        async with self._database.writing() as connection:
            node = await _get(connection, fqdn)
            if node is None:
                return False
            if node.revoked_at is None:
                query = update(nodes).where(nodes.c.fqdn == fqdn)
                await connection.execute(query.values(revoked_at=at, rekey_allowed=False))
                gone = {"device": node.device, "fqdn": fqdn, "revoked_at": at}
                await connection.execute(insert(revoked_devices).values(gone))
            await connection.execute(delete(registrations).where(registrations.c.fqdn == fqdn))
            await count_up(connection, Counter.GENERATION)
        return True

    async def revoked(self) -> frozenset[str]:
        """Names that may do nothing now: no key holds them since one was revoked.

        Those of disabled users are among them, those of removed users too.
        """
        held = exists().where(nodes.c.fqdn == revoked_devices.c.fqdn, nodes.c.revoked_at.is_(None))
        keys = select(revoked_devices.c.fqdn).where(~held)
        disabled = select(nodes.c.fqdn).join(users).where(users.c.disabled)
        async with self._database.reading() as connection:
            return frozenset((await connection.execute(keys.union(disabled))).scalars())

    async def allow_rekey(self, fqdn: str) -> bool:
        """Let the next login with the user's password bring another device key."""
        async with self._database.writing() as connection:
            query = update(nodes).where(nodes.c.fqdn == fqdn).values(rekey_allowed=True)
            return (await connection.execute(query)).rowcount > 0

    async def is_revoked(self, device: bytes) -> bool:
        """Whether that device key was ever revoked."""
        async with self._database.reading() as connection:
            return await _is_revoked(connection, device)


async def _judge(
    connection: AsyncConnection, new: Enrolment, successor_of: bytes | None
) -> Enrolled:
    known = await connection.execute(select(users.c.disabled).where(users.c.name == new.user))
    if known.scalar_one_or_none() is not False:
        return Enrolled.NO_USER
    if await _is_revoked(connection, new.device):
        return Enrolled.REVOKED
    old = await _get(connection, new.fqdn)
    if old is None or old.device == new.device or old.revoked_at is not None:
        return Enrolled.DONE
    good = old.rekey_allowed or old.device == successor_of
    return Enrolled.DONE if good else Enrolled.NAME_TAKEN


async def _use_up(connection: AsyncConnection, authority: int, at: float) -> Enrolled:
    unused = (authorities.c.id == authority) & authorities.c.used_at.is_(None)
    query = update(authorities).where(unused).values(used_at=at)
    used = await connection.execute(query)
    return Enrolled.DONE if used.rowcount else Enrolled.AUTHORITY_USED


async def _put(connection: AsyncConnection, new: Enrolment, at: float) -> None:
    old = await _get(connection, new.fqdn)
    values = {
        "device": new.device,
        "tunnel": new.tunnel,
        "tags": list(new.tags),
        "ephemeral": new.ephemeral,
        "rekey_allowed": False,
        "seen_at": at,
        "revoked_at": None,
    }
    if old is None:
        name = {"fqdn": new.fqdn, "user": new.user, "label": new.label, "enrolled_at": at}
        await connection.execute(insert(nodes).values({**name, **values}))
        return
    if old.device == new.device:
        # A later login by password keeps what the enrolment granted.
        values["tags"], values["ephemeral"] = list(old.tags), old.ephemeral
    await connection.execute(update(nodes).where(nodes.c.fqdn == new.fqdn).values(values))


async def _get(connection: AsyncConnection, fqdn: str) -> StoredDevice | None:
    row = (await connection.execute(select(nodes).where(nodes.c.fqdn == fqdn))).one_or_none()
    return None if row is None else _node(row)


async def _is_revoked(connection: AsyncConnection, device: bytes) -> bool:
    query = select(revoked_devices.c.device).where(revoked_devices.c.device == device)
    return (await connection.execute(query)).one_or_none() is not None


def _node(row: Row[tuple[object, ...]]) -> StoredDevice:
    values = dict(row._mapping)
    values["tags"] = tuple(values["tags"])
    return StoredDevice(**values)
