"""The tables. Times are seconds since 1970; keys and identifiers are bytes.

A change here needs a revision in `migrations/versions`; a test compares the two.
Ours: docs/protocol.md section 10.
"""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)
from sqlalchemy.types import BigInteger

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
_ROW_ID = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in a column declared INTEGER."""

users = Table(
    "users",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("password", String, doc="Argon2id in PHC form; null: no login by password"),
    Column("disabled", Boolean, nullable=False, default=False),
    Column("added_at", Double, nullable=False),
)

authorities = Table(
    "authorities",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("user", ForeignKey("users.name", ondelete="CASCADE"), nullable=False),
    Column("reusable", Boolean, nullable=False),
    Column("ephemeral", Boolean, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("added_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("used_at", Double),
    sqlite_autoincrement=True,
)

nodes = Table(
    "nodes",
    metadata,
    Column("fqdn", String(253), primary_key=True),
    Column("user", ForeignKey("users.name", ondelete="CASCADE"), nullable=False, index=True),
    Column("label", String(63), nullable=False),
    Column("device", LargeBinary(32), nullable=False),
    Column("tunnel", LargeBinary(32), nullable=False),
    Column("tags", JSON, nullable=False),
    Column("ephemeral", Boolean, nullable=False, default=False),
    Column("rekey_allowed", Boolean, nullable=False, default=False),
    Column("enrolled_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("revoked_at", Double),
)

revoked_devices = Table(
    "revoked_devices",
    metadata,
    Column("device", LargeBinary(32), primary_key=True),
    Column("fqdn", String(253), nullable=False, index=True),
    Column("revoked_at", Double, nullable=False),
)

registrations = Table(
    "registrations",
    metadata,
    Column("fqdn", String(253), primary_key=True),
    Column("expires_at", Double, nullable=False, index=True),
    Column("content", LargeBinary, nullable=False),
)

federation = Table(
    "federation",
    metadata,
    Column("domain", String(253), primary_key=True),
    Column("key_pin", String(71), doc="SHA256:hex of the domain key that the operator gave"),
    Column("ca", LargeBinary, doc="PEM that the operator gave"),
    Column("key", LargeBinary(32), doc="the domain key last seen and trusted"),
    Column("trusted_by", String(32), doc="how that key was trusted"),
    Column("trusted_at", Double),
    Column("listed", Boolean, nullable=False),
    Column("added_at", Double, nullable=False),
)

settings = Table(
    "settings",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("mn", String(253), nullable=False),
    Column("cn", String(253), nullable=False),
    Column("reason", String(64), nullable=False),
    Index(None, "mn"),
    Index(None, "cn"),
    sqlite_autoincrement=True,
)
