"""Pre-authorised keys: whoever holds one enrols a node without a password."""

from dataclasses import dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Row
from sqlalchemy.exc import IntegrityError

from ntmobile.store.database import Database
from ntmobile.store.schema import authorities


@dataclass(frozen=True, slots=True)
class Authority:
    """What is known of a key; the key itself is not kept."""

    id: int
    user: str
    """Whose nodes it enrols."""
    reusable: bool
    ephemeral: bool
    """Nodes it enrolled are forgotten when they are gone for a while."""
    tags: tuple[str, ...]
    """Policy groups of the nodes it enrols."""
    added_at: float
    expires_at: float | None
    used_at: float | None

    def is_good(self, now: float) -> bool:
        """Whether it still enrols."""
        fresh = self.expires_at is None or now < self.expires_at
        return fresh and (self.reusable or self.used_at is None)


class Authorities:
    """Every method raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        """A face of the database; several may be open."""
        self._database = database

    async def add(
        self,
        digest: bytes,
        user: str,
        at: float,
        *,
        reusable: bool = False,
        ephemeral: bool = False,
        tags: tuple[str, ...] = (),
        expires_at: float | None = None,
    ) -> int | None:
        """Add a key by its digest; its id, None when there is no such user."""
        row = {
            "digest": digest,
            "user": user,
            "reusable": reusable,
            "ephemeral": ephemeral,
            "tags": list(tags),
            "added_at": at,
            "expires_at": expires_at,
        }
        try:
            async with self._database.writing() as connection:
                query = insert(authorities).values(row).returning(authorities.c.id)
                added: int = (await connection.execute(query)).scalar_one()
        except IntegrityError:
            return None
        return added

    async def find(self, digest: bytes) -> Authority | None:
        """The key of that digest, good or not."""
        async with self._database.reading() as connection:
            query = select(authorities).where(authorities.c.digest == digest)
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else _authority(row)

    async def list(self) -> tuple[Authority, ...]:
        """Every key, oldest first."""
        async with self._database.reading() as connection:
            found = await connection.execute(select(authorities).order_by(authorities.c.id))
            return tuple(map(_authority, found))

    async def remove(self, id: int) -> bool:
        """Remove a key; nodes it enrolled stay. Whether there was one."""
        async with self._database.writing() as connection:
            gone = await connection.execute(delete(authorities).where(authorities.c.id == id))
        return gone.rowcount > 0


def _authority(row: Row[tuple[object, ...]]) -> Authority:
    values = dict(row._mapping)
    values["tags"] = tuple(values["tags"])
    del values["digest"]
    return Authority(**values)
