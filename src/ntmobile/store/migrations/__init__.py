"""Brings a database to the schema of this version of the program, with Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

_LOCK = 0x6E746D6F62  # "ntmob"


def upgrade(connection: Connection) -> None:
    """Apply what is missing, inside the caller's transaction; does nothing when all is there.

    Several processes may start at once: SQLite's write lock, or PostgreSQL's advisory lock, lets
    one at a time through.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
