"""Brings a database to the schema of this version of the program, with Alembic."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from ntmobile.store.errors import StoreUnavailable

HEAD = "0001"
"""The newest revision in `versions`."""
_LOCK = 0x6E746D6F62  # "ntmob"


def upgrade(connection: Connection) -> None:
    """Apply what is missing, inside the caller's transaction; does nothing when all is there.

    Raises StoreUnavailable when the schema is a later version's.

    Several processes may start at once: SQLite's write lock, or PostgreSQL's advisory lock, lets
    one at a time through.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    if revision_of(connection) != HEAD:
        _migrate(connection)


def revision_of(connection: Connection) -> str | None:
    """The revision of the schema that is there; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _migrate(connection: Connection) -> None:
    # Imported here: it costs a third of the start of `ntm admin`, and is needed once a version.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, HEAD)
    except CommandError as error:
        raise StoreUnavailable(
            f"a later version of NTMobile made it ({error})",
            remedy="install that version again, or put a backup of the older one in its place",
        ) from None
