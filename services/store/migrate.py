"""Make or upgrade the database, its roles and the topics: ``keepwell migrate``, idempotent."""

from __future__ import annotations

import psycopg
import sqlalchemy
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql

from ingest.catalogue import catalogue
from services import topics
from services.settings import Settings
from services.settings_sections import KafkaSettings, PostgresSettings
from services.store.schema import MIGRATIONS, SchemaError, revisions, unknown

LOGIN_ROLES = ("writer", "api", "gateway", "notifier", "research")
OWNERS = ("keepwell_reader", "keepwell_auditor")  # of views, and of the audit; nobody logs in as them
MIGRATION_WAIT_S = 300  # for another `keepwell migrate` on the same server


def migrate_database(settings: PostgresSettings, to: str = "head") -> list[str]:
    """Create the database and roles where missing, run the migrations up to ``to``, refresh the metric table.

    One at a time on a server, and each in one transaction: what fails leaves the schema as it was. Returns the
    revisions that were applied, in order.

    Raises:
        psycopg.Error: the server refused; the text says what.
        SchemaError: the database has a revision this code does not know.
    """
    with psycopg.connect(settings.conninfo("admin", "postgres"), autocommit=True) as server:
        server.execute("SELECT set_config('lock_timeout', %s, false)", [f"{MIGRATION_WAIT_S}s"])
        server.execute("SELECT pg_advisory_lock(hashtext('keepwell migrate'))")  # released with the connection
        _create_database(server, settings)
        create_roles(server, settings)
        applied = _run_migrations(settings, to)
        with psycopg.connect(settings.conninfo("admin")) as connection:
            _fill_metrics(connection)
            _fill_classes(connection)
    return applied


async def migrate_topics(settings: KafkaSettings) -> None:
    """Create the topics that are missing; a topic with another partition count is a loud stop.

    Raises:
        RuntimeError: a topic exists with another number of partitions than the settings say.
    """
    wanted = {name: topics.partitions(name, settings) for name in topics.ALL}
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap, request_timeout_ms=15_000)
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        missing = [name for name in wanted if topics.named(name, settings) not in existing]
        for name in missing:
            new = NewTopic(topics.named(name, settings), wanted[name], settings.replication)
            try:
                await admin.create_topics([new], timeout_ms=15_000)
            except TopicAlreadyExistsError:
                continue
        for entry in await admin.describe_topics([topics.named(name, settings) for name in wanted]):
            name = entry["topic"].removeprefix(settings.prefix)
            found = len(entry["partitions"])
            if name not in missing and found != wanted[name]:
                msg = (
                    f"topic {entry['topic']} has {found} partitions, the settings say {wanted[name]}; "
                    "changing it is a drain-and-move step"
                )
                raise RuntimeError(msg)
    finally:
        await admin.close()


async def migrate(settings: Settings) -> list[str]:
    """Make or upgrade everything a start of Keepwell needs; return the schema's revisions that were applied."""
    applied = migrate_database(settings.postgres)
    await migrate_topics(settings.kafka)
    return applied


def _create_database(server: psycopg.Connection, settings: PostgresSettings) -> None:
    exists = server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [settings.database]).fetchone()
    if not exists:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(settings.database)))


def create_roles(connection: psycopg.Connection, settings: PostgresSettings) -> None:
    """Make the roles where missing, and give them the passwords of the settings."""
    known = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'keepwell_%'")}
    for name in OWNERS:
        if name not in known:
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN NOSUPERUSER NOBYPASSRLS").format(sql.Identifier(name)))
    for role in LOGIN_ROLES:
        name = f"keepwell_{role}"
        verb = sql.SQL("ALTER" if name in known else "CREATE")
        password = getattr(settings, f"{role}_password").get_secret_value() or None  # none: nobody can log in
        connection.execute(
            sql.SQL("{} ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE PASSWORD {}").format(
                verb, sql.Identifier(name), sql.Literal(password)
            )
        )


def _run_migrations(settings: PostgresSettings, to: str) -> list[str]:
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(settings.conninfo("admin")),
        poolclass=sqlalchemy.NullPool,
    )
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    try:
        with engine.connect() as connection:
            before = MigrationContext.configure(connection).get_current_revision()
            if before is not None and before not in (known := revisions()):
                raise SchemaError(unknown(settings, before, known[0]))
            config.attributes["connection"] = connection
            command.upgrade(config, to)
            after = MigrationContext.configure(connection).get_current_revision()
            connection.commit()
    finally:
        engine.dispose()
    steps = ScriptDirectory(str(MIGRATIONS)).iterate_revisions(after or "base", before or "base")
    return [step.revision for step in steps][::-1]


def _fill_metrics(connection: psycopg.Connection) -> None:
    connection.cursor().executemany(
        """INSERT INTO metric (id, key, title, unit, loinc, kind, aggregation, decimals)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
           ON CONFLICT (id) DO UPDATE SET
               title = excluded.title, loinc = excluded.loinc, decimals = excluded.decimals""",
        [(m.id, m.key, m.title, m.unit, m.loinc, m.kind, m.aggregation, m.decimals) for m in catalogue().values()],
    )


def _fill_classes(connection: psycopg.Connection) -> None:
    there = "SELECT FROM information_schema.columns WHERE table_name = 'metric' AND column_name = 'data_class'"
    if connection.execute(there).fetchone() is None:
        return  # an earlier schema
    connection.cursor().executemany(
        "UPDATE metric SET data_class = %s WHERE id = %s AND data_class IS DISTINCT FROM %s",
        [(m.data_class, m.id, m.data_class) for m in catalogue().values()],
    )
