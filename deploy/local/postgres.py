"""TimescaleDB on PostgreSQL 17: durable, on loopback by TCP only, passwords by SCRAM."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path

import psycopg
from psycopg import sql

from deploy.local import debian, process
from deploy.local.command import run
from deploy.local.errors import StackError
from deploy.local.server import Context, NotReadyError

ADMIN = "keepwell_admin"
DATABASE = "keepwell"
INITDB_S = 120.0

# No Unix socket: its path may not be longer than 107 bytes, and a killed server would leave it behind.
# Statements and parameters stay out of the log: they are about patients.
CONFIG = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = 120
password_encryption = 'scram-sha-256'
shared_preload_libraries = 'timescaledb'
timescaledb.telemetry_level = off
timescaledb.max_background_workers = 0
jit = off
shared_buffers = '192MB'
work_mem = '8MB'
maintenance_work_mem = '64MB'
effective_cache_size = '1GB'
random_page_cost = 1.1
max_wal_size = '1GB'
max_locks_per_transaction = 256
idle_in_transaction_session_timeout = '15s'
lock_timeout = '20s'
tcp_keepalives_idle = 30
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
log_min_messages = warning
log_error_verbosity = terse
log_min_error_statement = panic
log_parameter_max_length_on_error = 0
"""

ACCESS = """\
# type  database  user  address       method
host    all       all   127.0.0.1/32  scram-sha-256
"""


class Postgres:
    """The database."""

    name = "postgres"
    stop_signal = signal.SIGINT  # the fast stop; SIGTERM would wait for every client to leave
    ready_s = 60.0
    stop_s = 20.0

    def __init__(self, context: Context) -> None:
        self._context = context
        self._data = context.home.data(self.name) / "data"
        self._port = context.state.ports["postgres"]
        self._extension_made = False

    def prepare(self) -> None:
        """Make the cluster the first time, then write its configuration."""
        if not (self._data / "PG_VERSION").exists():
            self._context.report(self.name, "making the database cluster")
            self._initdb()
        for name, text in (("postgresql.conf", CONFIG.format(port=self._port)), ("pg_hba.conf", ACCESS)):
            self._context.hand_over(self._data / name, text)

    def _initdb(self) -> None:
        fresh = self._data.with_name("data.new")
        shutil.rmtree(fresh, ignore_errors=True)
        password = self._data.with_name("password")
        self._context.hand_over(password, self._context.state.secrets["admin"] + "\n")
        root = debian.tree(self._context.programs)
        program, share = root / "usr/lib/postgresql/17/bin/initdb", root / "usr/share/postgresql/17"
        options = ["-U", ADMIN, "-A", "scram-sha-256", "--locale=C.UTF-8", "-E", "UTF8", "--data-checksums"]
        try:
            run(
                [str(program), "-D", str(fresh), f"--pwfile={password}", *options, "-L", str(share)],
                what="making the database cluster",
                limit_s=INITDB_S,
                cwd=fresh.parent,
                env=self._context.environ(self.name),
                user=self._context.user,
            )
        finally:
            password.unlink()
        fresh.rename(self._data)

    def recover(self) -> None:
        """Wait for the children of a killed server, then remove its ``postmaster.pid``.

        PostgreSQL refuses to start while that file's pid exists, even as a zombie or as another program; we
        know better, because every process of this cluster works in its data folder.
        """
        process.wait_until(lambda: not process.working_in(self._data), 2)
        for left in process.working_in(self._data):
            process.kill(left)
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def argv(self) -> list[str]:
        """Return the command to start."""
        program = debian.tree(self._context.programs) / "usr/lib/postgresql/17/bin/postgres"
        return [str(program), "-D", str(self._data)]

    async def probe(self) -> None:
        """Run a query with the TimescaleDB extension, making database and extension the first time."""
        await _connectable("127.0.0.1", self._port)
        if not self._extension_made:
            await self._ensure_database()
            self._extension_made = True
        await probe(self._conninfo(DATABASE))

    def _conninfo(self, database: str) -> str:
        return psycopg.conninfo.make_conninfo(
            host="127.0.0.1", port=self._port, user=ADMIN, dbname=database,
            password=self._context.state.secrets["admin"], connect_timeout=5,
        )  # fmt: skip

    async def _ensure_database(self) -> None:
        try:
            async with await psycopg.AsyncConnection.connect(self._conninfo("postgres"), autocommit=True) as connection:
                found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if await found.fetchone() is None:
                    await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
            async with await psycopg.AsyncConnection.connect(self._conninfo(DATABASE), autocommit=True) as connection:
                await connection.execute("SET client_min_messages = error")
                await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        except psycopg.OperationalError as error:
            raise _explained(error, self._context.home.state) from error


async def _connectable(host: str, port: int) -> None:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 2)
    except (OSError, TimeoutError) as error:
        msg = f"no connection to {host}:{port} yet"
        raise NotReadyError(msg) from error
    writer.close()


async def probe(conninfo: str) -> None:
    """Run one query that needs the TimescaleDB extension.

    Raises:
        NotReadyError: no answer yet.
        StackError: the extension is missing or the password is refused.
    """
    try:
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
            found = await connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
            if await found.fetchone() is None:
                msg = "this database has no TimescaleDB: run CREATE EXTENSION timescaledb as its superuser"
                raise StackError(msg)
            await connection.execute("SELECT time_bucket('1 hour', now())")
    except psycopg.OperationalError as error:
        raise _explained(error, None) from error


def _explained(error: psycopg.OperationalError, state: Path | None) -> Exception:
    """Return a refused password as final, anything else as not yet."""
    if "password authentication failed" in str(error):
        where = f"; the one in {state} is not this cluster's" if state else ""
        return StackError(f"PostgreSQL refuses the password of the admin user{where}")
    return NotReadyError(str(error).strip().splitlines()[0])
