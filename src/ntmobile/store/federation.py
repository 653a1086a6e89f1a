"""Foreign domains: which are listed, what the operator pinned, and which key is trusted."""

from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.engine import Row

from ntmobile.store.database import Database, inserting, upsert
from ntmobile.store.schema import federation
from ntmobile.store.settings import Counter, count_up


@dataclass(frozen=True, slots=True)
class ForeignDomain:
    """What is known of one domain."""

    domain: str
    key_pin: str | None
    """SHA256:hex of the domain key, given by the operator."""
    ca: bytes | None
    """PEM of the CA that its DC's certificate must come from, given by the operator."""
    key: bytes | None
    """The domain key that was last trusted; another is refused unless this one signed it."""
    trusted_by: str | None
    """How that key came to be trusted: pin, ca, dnssec, web."""
    trusted_at: float | None
    listed: bool
    """The operator added it; False: only seen, in mode `open`."""
    added_at: float


class Federation:
    """Every method raises StoreUnavailable. What an operator changes counts a generation."""

    def __init__(self, database: Database) -> None:
        """A face of the database; several may be open."""
        self._database = database

    async def add(
        self, domain: str, at: float, *, key_pin: str | None = None, ca: bytes | None = None
    ) -> None:
        """List a domain; what was trusted of it before is forgotten, the operator judged anew."""
        row = {
            "domain": domain,
            "key_pin": key_pin,
            "ca": ca,
            "key": None,
            "trusted_by": None,
            "trusted_at": None,
            "listed": True,
            "added_at": at,
        }
        async with self._database.writing() as connection:
            await upsert(connection, federation, "domain", [row])
            await count_up(connection, Counter.GENERATION)

    async def trust(self, domain: str, key: bytes, by: str, at: float) -> None:
        """Record the key that was just trusted, and how."""
        values = {"key": key, "trusted_by": by, "trusted_at": at}
        row = {"domain": domain, "listed": False, "added_at": at, **values}
        async with self._database.writing() as connection:
            added = inserting(connection, federation).values(row)
            await connection.execute(
                added.on_conflict_do_update(index_elements=["domain"], set_=values)
            )

    async def get(self, domain: str) -> ForeignDomain | None:
        """What is known of a domain."""
        query = select(federation).where(federation.c.domain == domain)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else _domain(row)

    async def list(self) -> tuple[ForeignDomain, ...]:
        """Every known domain, by name."""
        async with self._database.reading() as connection:
            found = await connection.execute(select(federation).order_by(federation.c.domain))
            return tuple(map(_domain, found))

    async def listed(self) -> frozenset[str]:
        """Domains that the operator added."""
        return frozenset(each.domain for each in await self.list() if each.listed)

    async def pins(self) -> frozenset[tuple[str, str]]:
        """Every domain that the operator added, with what they said of its key."""
        added = [each for each in await self.list() if each.listed]
        return frozenset((each.domain, f"{each.key_pin} {each.ca!r}") for each in added)

    async def remove(self, domain: str) -> bool:
        """Forget a domain; whether it was known."""
        async with self._database.writing() as connection:
            gone = await connection.execute(delete(federation).where(federation.c.domain == domain))
            if gone.rowcount:
                await count_up(connection, Counter.GENERATION)
        return gone.rowcount > 0


def _domain(row: Row[tuple[object, ...]]) -> ForeignDomain:
    return ForeignDomain(**row._mapping)
