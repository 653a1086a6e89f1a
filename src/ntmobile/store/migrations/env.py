"""Alembic runs this: it migrates the connection that `upgrade` handed over."""

from alembic import context

from ntmobile.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
