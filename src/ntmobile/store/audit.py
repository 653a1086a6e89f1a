"""Who asked for whom, and what was decided; the newest entries only."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from sqlalchemy import delete, func, insert, or_, select

from ntmobile.store.database import Database
from ntmobile.store.schema import audit

MOST = 100_000
"""Entries kept; about 10 MB."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision of the DC; names only, never addresses."""

    at: float
    verdict: str
    mn: str
    cn: str
    reason: str


class Audit:
    """Every method raises StoreUnavailable."""

    def __init__(self, database: Database, most: int = MOST) -> None:
        """Keeps that many entries."""
        self._database = database
        self._most = most

    async def add(self, decisions: Iterable[Decision]) -> None:
        """Append, and drop the oldest beyond the bound."""
        rows = [asdict(each) for each in decisions]
        if not rows:
            return
        async with self._database.writing() as connection:
            await connection.execute(insert(audit), rows)
            newest = (await connection.execute(select(func.max(audit.c.id)))).scalar_one()
            await connection.execute(delete(audit).where(audit.c.id <= newest - self._most))

    async def list(self, *, newest: int = 100, name: str | None = None) -> tuple[Decision, ...]:
        """The newest decisions, newest last; only those that name a node or a domain's nodes."""
        query = select(audit).order_by(audit.c.id.desc()).limit(newest)
        if name is not None:
            suffix = "%." + name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            named = (column for column in (audit.c.mn, audit.c.cn))
            query = query.where(
                or_(*((c == name) | c.like(suffix, escape="\\") for c in named)),
            )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return tuple(Decision(r.at, r.verdict, r.mn, r.cn, r.reason) for r in reversed(rows))
