"""Run by Alembic: migrates over the connection that `mlstudio.store.migrate` hands in, inside its transaction."""

from __future__ import annotations

from alembic import context

from mlstudio.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,  # the caller's transaction is the transaction
    render_as_batch=True,
)
context.run_migrations()
