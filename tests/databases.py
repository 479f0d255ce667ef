"""Databases of the tests' own: copies of one that was migrated once, a fifth of the time of migrating each.

That migrating makes the schema from nothing and upgrades it, `tests/integration/test_upgrade.py` proves.
"""

from __future__ import annotations

import os
from typing import Final

import psycopg
from psycopg import sql

from services.settings import Settings
from services.settings_sections import PostgresSettings
from services.store.migrate import migrate_database

TEMPLATE: Final = f"kw_template_{os.getpid()}"
_made: Final[dict[int, PostgresSettings]] = {}  # port → the template of the server there


def copy_database(settings: PostgresSettings) -> None:
    """Make a migrated database; the first on a server migrates the template that is copied."""
    template = settings.model_copy(update={"database": TEMPLATE})
    if settings.port not in _made:
        migrate_database(template)
        _made[settings.port] = template
    made, copied = sql.Identifier(settings.database), sql.Identifier(TEMPLATE)
    with psycopg.connect(settings.conninfo("admin", "postgres"), autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(made, copied))


def drop_database(settings: Settings | PostgresSettings) -> None:
    """Remove a test's database, whoever is still connected."""
    postgres = settings.postgres if isinstance(settings, Settings) else settings
    with psycopg.connect(postgres.conninfo("admin", "postgres"), autocommit=True) as server:
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(postgres.database)))


def drop_template(port: int) -> None:
    """Remove a server's template before the server is stopped."""
    if port in _made:
        drop_database(_made.pop(port))
