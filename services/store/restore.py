"""Restore a backup: into a database that does not exist or is empty, all of it or nothing.

Everything is done in a database of another name, which is renamed at the end. An interrupted restore leaves that one,
and never a database that looks whole; the next try removes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from services.settings import Settings
from services.settings_sections import PostgresSettings
from services.store import bundle
from services.store.backup import Program, Told, counts, find
from services.store.bundle import BackupError, Manifest
from services.store.migrate import create_roles
from services.store.schema import revisions

UNFINISHED: Final = "_restoring"  # after the name of a database that is not whole yet
# Above whatever was given out between the backup and the loss of the database: a hundred thousand transactions a
# second for four months, and a rebalance a second for a century.
STREAM_GAP: Final = 1 << 40
EPOCH_GAP: Final = 1 << 32
RENAME_TRIES: Final = 20

_EXISTS: Final = "SELECT 1 FROM pg_database WHERE datname = %s"
_OBJECTS: Final = """
    SELECT count(*) FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')"""


def restore(settings: Settings, file: Path, programs: Path | None, read: Told, fed: Told) -> Manifest:
    """Make the settings' database from a backup; ``read`` and ``fed`` are called with the bytes so far.

    Raises:
        BackupError: the file is damaged or of a newer schema, the database is not empty, the servers don't fit.
        psycopg.Error: the server refused; nothing is left but an unfinished database.
    """
    manifest = bundle.read(file, read)
    postgres = settings.postgres
    unfinished = postgres.database + UNFINISHED
    with psycopg.connect(postgres.conninfo("admin", "postgres"), autocommit=True) as server:
        _check(server, manifest, postgres)
        program = find("pg_restore", programs, server.info.server_version)
        _drop(server, unfinished)
        create_roles(server, postgres)
        name = sql.Identifier(unfinished)
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(name))
        _fill(postgres, unfinished, manifest, file, [str(program)], fed)
        if server.execute(_EXISTS, [postgres.database]).fetchone():
            _drop(server, postgres.database)  # it is empty: `_check` looked
        _rename(server, unfinished, postgres.database)
    return manifest


def _check(server: psycopg.Connection, manifest: Manifest, postgres: PostgresSettings) -> None:
    if manifest.revision not in (known := revisions()):
        msg = (
            f"the backup has schema {manifest.revision}, made by Keepwell {manifest.code}; this one knows up to "
            f"{known[0]}: restore with the Keepwell that made it, or a newer one"
        )
        raise BackupError(msg)
    if server.info.server_version // 10_000 < manifest.postgres // 10_000:
        msg = (
            f"the backup is of PostgreSQL {manifest.postgres // 10_000}, this server is "
            f"{server.info.server_version // 10_000}: restore on that version or a newer one"
        )
        raise BackupError(msg)
    available = server.execute(
        "SELECT version FROM pg_available_extension_versions WHERE name = 'timescaledb'"
    ).fetchall()
    if (manifest.timescaledb,) not in available:
        has = ", ".join(version for (version,) in available) or "none"
        msg = f"the backup needs TimescaleDB {manifest.timescaledb}, this server has {has}: "
        raise BackupError(msg + "install that version, restore, then ALTER EXTENSION timescaledb UPDATE")
    if manifest.owner != postgres.admin_user:
        msg = f"the backup's tables belong to {manifest.owner}, postgres.admin_user is {postgres.admin_user}: "
        raise BackupError(msg + f"set postgres.admin_user = {manifest.owner!r} for this server")
    if server.execute(_EXISTS, [postgres.database]).fetchone():
        with psycopg.connect(postgres.conninfo("admin")) as there:
            found = _value(there, _OBJECTS)
        if found:
            msg = (
                f"database {postgres.database} is not empty ({found} tables, views and indexes) and is left alone: "
                "restore into another with --database, look at it, then name it in postgres.database"
            )
            raise BackupError(msg)


def _fill(
    postgres: PostgresSettings, database: str, manifest: Manifest, file: Path, argv: list[str], fed: Told
) -> None:
    with psycopg.connect(postgres.conninfo("admin", database), autocommit=True) as connection:
        version = sql.Literal(manifest.timescaledb)
        connection.execute(sql.SQL("CREATE EXTENSION timescaledb VERSION {}").format(version))
    with psycopg.connect(postgres.conninfo("admin", database), autocommit=True) as connection:
        connection.execute("SELECT timescaledb_pre_restore()")
    argv = [*argv, "--exit-on-error", f"--dbname={database}"]
    with Program(argv, postgres, database, fed=True) as running:
        running.feed(bundle.chunks(file), fed)
        running.finish()
    with psycopg.connect(postgres.conninfo("admin", database), autocommit=True) as connection:
        connection.execute("SELECT timescaledb_post_restore()")
    with psycopg.connect(postgres.conninfo("admin", database)) as connection:
        _compare(connection, manifest)
        _go_on_from(connection, manifest)
        connection.execute("ANALYZE")


def _compare(connection: psycopg.Connection, manifest: Manifest) -> None:
    found = counts(connection)
    wrong = [
        f"{name}: {found.get(name)} of {rows}" for name, rows in manifest.counts.items() if found.get(name) != rows
    ]
    if wrong or found.keys() != manifest.counts.keys():
        msg = f"rows are missing after the restore ({', '.join(wrong)}); nothing was put in place. Please report this"
        raise BackupError(msg)


def _go_on_from(connection: psycopg.Connection, manifest: Manifest) -> None:
    """Let nobody who knew the lost database write here, and let every reader of its streams go on."""
    connection.execute("UPDATE partition_position SET epoch = epoch + %s", [EPOCH_GAP])
    base = sql.Literal(manifest.horizon + STREAM_GAP)
    connection.execute(
        sql.SQL(
            "CREATE OR REPLACE FUNCTION stream_base() RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS {}"
        ).format(sql.Literal(f"SELECT {base.as_string()}::bigint"))
    )


def _drop(server: psycopg.Connection, database: str) -> None:
    server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))


def _rename(server: psycopg.Connection, old: str, new: str) -> None:
    """Give the database its name; TimescaleDB's own workers may have to be sent away first."""
    statement = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))
    for attempt in range(RENAME_TRIES):
        server.execute("SELECT pg_terminate_backend(pid, 500) FROM pg_stat_activity WHERE datname = %s", [old])
        try:
            server.execute(statement)
        except psycopg.errors.ObjectInUse:
            if attempt == RENAME_TRIES - 1:
                raise
        else:
            return


def _value(connection: psycopg.Connection, query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None
