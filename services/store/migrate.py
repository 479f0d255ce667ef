"""Make or upgrade the database, its roles and the topics: ``keepwell migrate``, idempotent."""

from __future__ import annotations

from pathlib import Path

import psycopg
import sqlalchemy
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError
from alembic import command
from alembic.config import Config
from psycopg import sql

from ingest.catalogue import catalogue
from services import topics
from services.settings import KafkaSettings, PostgresSettings, Settings

LOGIN_ROLES = ("writer", "api", "gateway")
MIGRATIONS = Path(__file__).parent / "migrations"


def migrate_database(settings: PostgresSettings) -> None:
    """Create the database and roles where missing, run every migration, refresh the metric table.

    Raises:
        psycopg.Error: the server refused; the text says what.
    """
    _create_database(settings)
    with psycopg.connect(settings.conninfo("admin"), autocommit=True) as connection:
        _create_roles(connection, settings)
    _run_migrations(settings)
    with psycopg.connect(settings.conninfo("admin")) as connection:
        _fill_metrics(connection)


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


async def migrate(settings: Settings) -> None:
    """Make or upgrade everything a start of Keepwell needs."""
    migrate_database(settings.postgres)
    await migrate_topics(settings.kafka)


def _create_database(settings: PostgresSettings) -> None:
    with psycopg.connect(settings.conninfo("admin", "postgres"), autocommit=True) as connection:
        exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [settings.database]).fetchone()
        if not exists:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(settings.database)))


def _create_roles(connection: psycopg.Connection, settings: PostgresSettings) -> None:
    known = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'keepwell_%'")}
    if "keepwell_reader" not in known:
        connection.execute("CREATE ROLE keepwell_reader NOLOGIN NOSUPERUSER NOBYPASSRLS")
    for role in LOGIN_ROLES:
        name = f"keepwell_{role}"
        verb = sql.SQL("ALTER" if name in known else "CREATE")
        password = getattr(settings, f"{role}_password").get_secret_value()
        connection.execute(
            sql.SQL("{} ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE PASSWORD {}").format(
                verb, sql.Identifier(name), sql.Literal(password)
            )
        )


def _run_migrations(settings: PostgresSettings) -> None:
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(settings.conninfo("admin")),
        poolclass=sqlalchemy.NullPool,
    )
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
    engine.dispose()


def _fill_metrics(connection: psycopg.Connection) -> None:
    connection.cursor().executemany(
        """INSERT INTO metric (id, key, title, unit, loinc, kind, aggregation, decimals)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
           ON CONFLICT (id) DO UPDATE SET
               title = excluded.title, loinc = excluded.loinc, decimals = excluded.decimals""",
        [(m.id, m.key, m.title, m.unit, m.loinc, m.kind, m.aggregation, m.decimals) for m in catalogue().values()],
    )
