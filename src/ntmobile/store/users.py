"""Users of the domain."""

from dataclasses import dataclass, field

from sqlalchemy import delete, insert, literal, select, update
from sqlalchemy.engine import Row
from sqlalchemy.exc import IntegrityError

from ntmobile.store.database import Database
from ntmobile.store.schema import nodes, registrations, revoked_devices, users
from ntmobile.store.settings import Counter, count_up


@dataclass(frozen=True, slots=True)
class User:
    """Someone who may have nodes: NAME in name@domain and in node.NAME.domain."""

    name: str
    password: str | None = field(repr=False)
    """Argon2id hash; None: only pre-authorised keys enrol nodes."""
    disabled: bool
    added_at: float
    """Seconds since 1970, as every `_at` of the store."""


class Users:
    """Every method raises StoreUnavailable. What running servers must know counts a generation."""

    def __init__(self, database: Database) -> None:
        """A face of the database; several may be open."""
        self._database = database

    async def add(self, name: str, password: str | None, at: float) -> bool:
        """Add a user; whether the name was free."""
        row = {"name": name, "password": password, "disabled": False, "added_at": at}
        try:
            async with self._database.writing() as connection:
                await connection.execute(insert(users).values(row))
        except IntegrityError:
            return False
        return True

    async def get(self, name: str) -> User | None:
        """The user of that name."""
        async with self._database.reading() as connection:
            found = await connection.execute(select(users).where(users.c.name == name))
            row = found.one_or_none()
        return None if row is None else _user(row)

    async def list(self) -> tuple[User, ...]:
        """Every user, by name."""
        async with self._database.reading() as connection:
            found = await connection.execute(select(users).order_by(users.c.name))
            return tuple(map(_user, found))

    async def set_password(self, name: str, password: str | None) -> bool:
        """Replace the hash; whether there is such a user."""
        return await self._change(name, password=password)

    async def set_disabled(self, name: str, *, disabled: bool) -> bool:
        """A disabled user's nodes cannot log in; whether there is such a user."""
        return await self._change(name, told=True, disabled=disabled)

    async def remove(self, name: str, at: float) -> bool:
        """Remove a user with its keys and nodes, revoking those; whether there was one."""
        theirs = (nodes.c.user == name) & nodes.c.revoked_at.is_(None)
        devices = select(nodes.c.device, nodes.c.fqdn, literal(at)).where(theirs)
        names = select(nodes.c.fqdn).where(nodes.c.user == name)
        async with self._database.writing() as connection:
            columns = ["device", "fqdn", "revoked_at"]
            await connection.execute(insert(revoked_devices).from_select(columns, devices))
            await connection.execute(delete(registrations).where(registrations.c.fqdn.in_(names)))
            gone = await connection.execute(delete(users).where(users.c.name == name))
            if gone.rowcount:
                await count_up(connection, Counter.GENERATION)
        return gone.rowcount > 0

    async def _change(self, name: str, *, told: bool = False, **values: object) -> bool:
        async with self._database.writing() as connection:
            query = update(users).where(users.c.name == name).values(**values)
            changed = await connection.execute(query)
            if told and changed.rowcount:
                await count_up(connection, Counter.GENERATION)
        return changed.rowcount > 0


def _user(row: Row[tuple[object, ...]]) -> User:
    return User(**row._mapping)
