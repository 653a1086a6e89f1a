"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table; those of users before those that name one."""
    _coordinator()
    _devices_and_settings()
    _users()
    _nodes()


def _coordinator() -> None:
    op.create_table(
        "audit",
        sa.Column("id", _ROW_ID, autoincrement=True, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("mn", sa.String(length=253), nullable=False),
        sa.Column("cn", sa.String(length=253), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_audit_cn"), "audit", ["cn"], unique=False)
    op.create_index(op.f("ix_audit_mn"), "audit", ["mn"], unique=False)
    op.create_table(
        "federation",
        sa.Column("domain", sa.String(length=253), nullable=False),
        sa.Column("key_pin", sa.String(length=71), nullable=True),
        sa.Column("ca", sa.LargeBinary(), nullable=True),
        sa.Column("key", sa.LargeBinary(length=32), nullable=True),
        sa.Column("trusted_by", sa.String(length=32), nullable=True),
        sa.Column("trusted_at", sa.Double(), nullable=True),
        sa.Column("listed", sa.Boolean(), nullable=False),
        sa.Column("added_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("domain", name=op.f("pk_federation")),
    )
    op.create_table(
        "registrations",
        sa.Column("fqdn", sa.String(length=253), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("fqdn", name=op.f("pk_registrations")),
    )
    op.create_index(
        op.f("ix_registrations_expires_at"), "registrations", ["expires_at"], unique=False
    )


def _devices_and_settings() -> None:
    op.create_table(
        "revoked_devices",
        sa.Column("device", sa.LargeBinary(length=32), nullable=False),
        sa.Column("fqdn", sa.String(length=253), nullable=False),
        sa.Column("revoked_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("device", name=op.f("pk_revoked_devices")),
    )
    op.create_index(op.f("ix_revoked_devices_fqdn"), "revoked_devices", ["fqdn"], unique=False)
    op.create_table(
        "settings",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_settings")),
    )


def _users() -> None:
    op.create_table(
        "users",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("password", sa.String(), nullable=True),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("added_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_users")),
    )
    op.create_table(
        "authorities",
        sa.Column("id", _ROW_ID, autoincrement=True, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("user", sa.String(length=63), nullable=False),
        sa.Column("reusable", sa.Boolean(), nullable=False),
        sa.Column("ephemeral", sa.Boolean(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("added_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user"], ["users.name"], name=op.f("fk_authorities_user"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_authorities")),
        sa.UniqueConstraint("digest"),
        sqlite_autoincrement=True,
    )


def _nodes() -> None:
    op.create_table(
        "nodes",
        sa.Column("fqdn", sa.String(length=253), nullable=False),
        sa.Column("user", sa.String(length=63), nullable=False),
        sa.Column("label", sa.String(length=63), nullable=False),
        sa.Column("device", sa.LargeBinary(length=32), nullable=False),
        sa.Column("tunnel", sa.LargeBinary(length=32), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("ephemeral", sa.Boolean(), nullable=False),
        sa.Column("rekey_allowed", sa.Boolean(), nullable=False),
        sa.Column("enrolled_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user"], ["users.name"], name=op.f("fk_nodes_user"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("fqdn", name=op.f("pk_nodes")),
    )
    op.create_index(op.f("ix_nodes_user"), "nodes", ["user"], unique=False)
