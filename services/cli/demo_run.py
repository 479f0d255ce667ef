"""One demo run: a database and topics of its own, and the processes that serve it."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from psycopg import sql

from ingest.clock import SystemClock, to_datetime
from services import topics
from services.cli.supervise import RunError
from services.settings import Settings, load

DATABASE: Final = "keepwell_demo_"
PREFIX: Final = "demo-"


@dataclass(frozen=True)
class Run:
    """Where one run lives. ``name`` is unique in its stack; ``settings`` point at its own database and topics."""

    name: str
    home: Path
    settings: Settings

    @classmethod
    def create(cls, home: Path) -> Run:
        """Name a new run in the stack at ``home``; nothing is made yet."""
        name = to_datetime(SystemClock().now_ms()).strftime("%Y%m%d%H%M%S") + f"{os.getpid() % 1000:03d}"
        return cls(name, home.absolute(), load(_own(name) | {"stack.home": home}).settings)

    @property
    def folder(self) -> Path:
        """Books and logs of this run."""
        return self.home / "demo" / self.name

    @property
    def environment(self) -> dict[str, str]:
        """What its processes are told."""
        told = {f"KEEPWELL_{key.replace('.', '__').upper()}": value for key, value in _own(self.name).items()}
        return told | {"KEEPWELL_STACK__HOME": str(self.home), "KEEPWELL_CLOCK__SOURCE": "driven"}

    def announce(self) -> None:
        """Let other commands of this stack (`keepwell enrol`, `keepwell simulate`) find this run."""
        own = _own(self.name)
        (self.home / "demo.toml").write_text(
            "# Written by a running `keepwell demo`, removed at its end: other commands follow it.\n"
            f'[kafka]\nprefix = "{own["kafka.prefix"]}"\n\n[postgres]\ndatabase = "{own["postgres.database"]}"\n',
            "utf-8",
        )

    def withdraw(self) -> None:
        """Let other commands of this stack go their own way again."""
        file = self.home / "demo.toml"
        if file.exists() and _own(self.name)["kafka.prefix"] in file.read_text("utf-8"):
            file.unlink()


def _own(name: str) -> dict[str, str]:
    return {"kafka.prefix": f"{PREFIX}{name}.", "postgres.database": f"{DATABASE}{name}"}


async def drop_old_runs(settings: Settings) -> int:
    """Drop databases and topics of demo runs that nobody uses any more; return how many runs that were."""
    dropped = 0
    with psycopg.connect(settings.postgres.conninfo("admin", "postgres"), autocommit=True) as connection:
        rows = connection.execute(
            """SELECT d.datname FROM pg_database d WHERE d.datname LIKE %s AND NOT EXISTS
               (SELECT 1 FROM pg_stat_activity a WHERE a.datname = d.datname AND a.application_name <> '')""",
            [DATABASE.replace("_", r"\_") + "%"],
        ).fetchall()
        for (name,) in rows:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            dropped += 1
        kept = {
            row[0].removeprefix(DATABASE)
            for row in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'keepwell%'")
        }
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap, request_timeout_ms=15_000)
    await admin.start()
    try:
        old = [
            topic
            for topic in await admin.list_topics()
            if topic.startswith(PREFIX) and topic.removeprefix(PREFIX).partition(".")[0] not in kept
        ]
        if old:
            await admin.delete_topics(old, timeout_ms=15_000)
    finally:
        await admin.close()
    return dropped


async def until_processed(settings: Settings, within_s: float) -> None:
    """Return once the processor's stored positions have reached the ends of its topics.

    Raises:
        RunError: it did not get there in time.
    """
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka.bootstrap, group_id=None)
    await consumer.start()
    try:
        until = time.monotonic() + within_s
        while behind := await _behind(consumer, settings):
            if time.monotonic() > until:
                msg = f"after {within_s:g} s the processor is still {behind} records behind; see its log"
                raise RunError(msg)
            await asyncio.sleep(0.1)
    finally:
        await consumer.stop()


async def _behind(consumer: AIOKafkaConsumer, settings: Settings) -> int:
    places = [
        TopicPartition(topics.named(topic, settings.kafka), number)
        for topic in topics.CO_PARTITIONED
        for number in range(settings.kafka.partitions)
    ]
    ends = await consumer.end_offsets(places)
    query = "SELECT topic, partition, next_offset FROM partition_position"
    async with await psycopg.AsyncConnection.connect(settings.postgres.conninfo("writer")) as connection:
        rows = await (await connection.execute(query)).fetchall()
    reached = {(topics.named(topic, settings.kafka), number): offset for topic, number, offset in rows}
    return sum(end - reached.get((tp.topic, tp.partition), 0) for tp, end in ends.items())


def counted(settings: Settings, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a query, asked as the processor's role, which sees every organisation."""
    with psycopg.connect(settings.postgres.conninfo("writer")) as connection:
        return connection.execute(query, values or None).fetchall()
