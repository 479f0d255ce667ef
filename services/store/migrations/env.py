"""Alembic's entry: runs the migrations on the connection handed over by services/store/migrate.py."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=None)
with context.begin_transaction():
    context.run_migrations()
