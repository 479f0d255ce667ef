"""Take a backup under load: one snapshot of the database, with what it must hold after a restore.

Positions are rows beside the effects, so the snapshot knows exactly where in Kafka a restored system goes on. A
backup holds no password (roles are not in it), and an open one delays neither writers nor readers of the streams.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from ingest.clock import SystemClock, to_datetime
from services.settings import Settings
from services.settings_sections import PostgresSettings
from services.store.bundle import FORMAT, BackupError, Manifest, Position, Writer
from services.store.schema import check_schema

LIMIT_S: Final = 6 * 3600.0  # of one pg_dump or pg_restore
ERROR_LINES: Final = 5
Told = Callable[[int], None]

# Tables of the schema with their rows; hypertables count those of their chunks.
TABLES: Final = """
    SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') ORDER BY 1"""


def backup(settings: Settings, file: Path, programs: Path | None, told: Told) -> Manifest:
    """Write a backup of the settings' database to ``file``; ``told`` is called with the bytes written so far.

    ``programs`` is a folder with ``pg_dump``, None: the one on PATH.

    Raises:
        SchemaError: the database has another schema than this code's.
        BackupError: the file exists, ``pg_dump`` is missing or too old, or it failed.
        psycopg.Error: the database can't be read.
    """
    if file.exists():
        msg = f"{file} exists and is not overwritten; give another name"
        raise BackupError(msg)
    postgres = settings.postgres
    check_schema(postgres, "admin")
    with psycopg.connect(postgres.conninfo("admin")) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.execute("SET idle_in_transaction_session_timeout = 0")
        server = connection.info.server_version
        program = find("pg_dump", programs, server)
        snapshot = _one(connection, "SELECT pg_export_snapshot()")
        facts = _facts(connection, settings)
        argv = [
            str(program),
            "--format=custom",
            "--compress=zstd:3",
            f"--snapshot={snapshot}",
            "--lock-wait-timeout=60s",
        ]

        def describe(size: int, digest: str) -> Manifest:
            running.finish()
            return Manifest(**facts, dump_bytes=size, dump_sha256=digest)

        with Program(argv, postgres, postgres.database) as running:
            return Writer(file).write(running.output, describe, told)


def _facts(connection: psycopg.Connection, settings: Settings) -> dict[str, Any]:
    rows = connection.execute(
        "SELECT topic, partition, next_offset, epoch FROM partition_position ORDER BY topic, partition"
    ).fetchall()
    return {
        "format": FORMAT,
        "made_at": to_datetime(SystemClock().now_ms()).isoformat(),
        "code": version("keepwell"),
        "revision": _one(connection, "SELECT version_num FROM alembic_version"),
        "postgres": connection.info.server_version,
        "timescaledb": _one(connection, "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"),
        "owner": settings.postgres.admin_user,
        "prefix": settings.kafka.prefix,
        "horizon": int(_one(connection, "SELECT stream_horizon()::text")),
        "positions": [Position(*row) for row in rows],
        "counts": counts(connection),
    }


def counts(connection: psycopg.Connection) -> dict[str, int]:
    """Return table → rows, as the connection's transaction sees them."""
    names = [name for (name,) in connection.execute(TABLES).fetchall()]
    return {
        name: int(_one(connection, sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name)))) for name in names
    }


def _one(connection: psycopg.Connection, query: str | sql.Composed) -> Any:
    row = connection.execute(query.encode() if isinstance(query, str) else query).fetchone()
    if row is None:
        msg = "this database has no schema of Keepwell's; name the right one in postgres.database"
        raise BackupError(msg)
    return row[0]


def find(name: str, programs: Path | None, server: int) -> Path:
    """Return a PostgreSQL client program, at least as new as the server.

    Raises:
        BackupError: there is none, or it is older than the server.
    """
    beside = programs / name if programs else None
    found = beside if beside is not None and beside.exists() else shutil.which(name)
    major = server // 10_000
    if found is None:
        msg = f"{name} is missing; install the client of PostgreSQL {major} (Debian: postgresql-client-{major})"
        raise BackupError(msg)
    told = subprocess.run([str(found), "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    own = re.search(r"(\d+)", told)
    if own is None or int(own[1]) < major:
        msg = f"{found} is version {told.strip() or 'unknown'}, the server is PostgreSQL {major}; "
        raise BackupError(msg + f"install postgresql-client-{major} or newer")
    return Path(found)


class Program:
    """A PostgreSQL client program at work on one database; ended, whatever happens, within `LIMIT_S`."""

    def __init__(self, argv: list[str], postgres: PostgresSettings, database: str, *, fed: bool = False) -> None:
        self._name = Path(argv[0]).name
        self._argv, self._fed = argv, fed
        self._environ = os.environ | {
            "PGHOST": postgres.host, "PGPORT": str(postgres.port), "PGUSER": postgres.admin_user,
            "PGPASSWORD": postgres.admin_password.get_secret_value(), "PGDATABASE": database, "LC_ALL": "C",
        }  # fmt: skip
        self._said: list[bytes] = []

    def __enter__(self) -> Program:
        self._process = subprocess.Popen(
            self._argv,
            stdin=subprocess.PIPE if self._fed else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if self._fed else subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environ,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._limit = threading.Timer(LIMIT_S, self._process.kill)
        self._limit.daemon = True
        self._limit.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._limit.cancel()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with _broken_is_fine():
                    pipe.close()

    @property
    def output(self) -> Any:
        """What it writes."""
        return self._process.stdout

    def feed(self, parts: Iterator[bytes], told: Told) -> None:
        """Hand it its input; what it says when it stops early is told by `finish`."""
        assert self._process.stdin is not None  # noqa: S101 - made with fed=True
        size = 0
        with _broken_is_fine():
            for part in parts:
                self._process.stdin.write(part)
                size += len(part)
                told(size)
            self._process.stdin.close()

    def finish(self) -> None:
        """Wait for its end.

        Raises:
            BackupError: it failed; the text is its own.
        """
        code = self._process.wait(LIMIT_S)
        self._listener.join()
        if code != 0:
            said = b"".join(self._said).decode("utf-8", "replace").strip().splitlines()
            msg = f"{self._name} failed (exit code {code}): " + " · ".join(said[:ERROR_LINES])
            raise BackupError(msg)

    def _listen(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - a pipe
        for line in self._process.stderr:
            if len(self._said) < 200:
                self._said.append(line)


@contextmanager
def _broken_is_fine() -> Iterator[None]:
    try:
        yield
    except (BrokenPipeError, ConnectionResetError):
        pass
