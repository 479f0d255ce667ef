"""``keepwell dead``: records that could not be processed."""

from __future__ import annotations

import asyncio
import json

import typer
from rich.console import Console
from rich.table import Table

from ingest.clock import SystemClock, to_datetime
from services import topics
from services.settings import Settings, load


def register(app: typer.Typer) -> None:
    """Add the ``dead`` commands."""
    dead = typer.Typer(
        help="Look at records that could not be processed, and step over one that stops a processor.",
        no_args_is_help=True,
    )
    app.add_typer(dead, name="dead")

    @dead.command("list")
    def list_(as_json: bool = typer.Option(False, "--json", help="print JSON for scripts")) -> None:
        """List the dead letters, newest first (at most 1,000), with the reason of each."""
        import psycopg

        with psycopg.connect(load().settings.postgres.conninfo("admin")) as connection:
            rows = connection.execute(
                """SELECT topic, partition, record_offset, reason, detail, recorded_at FROM dead_letter
                   ORDER BY recorded_at DESC LIMIT 1000"""
            ).fetchall()
        names = ("topic", "partition", "offset", "reason", "detail", "recorded_at")
        if as_json:
            Console().print_json(json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=str))
            return
        table = Table(*names, box=None)
        for row in rows:
            table.add_row(*map(str, row))
        Console().print(table if rows else "no dead letters")

    @dead.command()
    def skip(topic: str, partition: int, offset: int) -> None:
        """Step over the record at OFFSET, when a partition stands there and it stops every processor.

        Stop the processors first. The record's bytes are filed as a dead letter, so that nothing is lost.
        """
        import psycopg

        settings = load().settings
        key, value = asyncio.run(_record(settings, topic, partition, offset))
        now = to_datetime(SystemClock().now_ms())
        with psycopg.connect(settings.postgres.conninfo("admin")) as connection:
            moved = connection.execute(
                """UPDATE partition_position SET next_offset = %s, epoch = epoch + 1
                   WHERE topic = %s AND partition = %s AND next_offset = %s RETURNING 1""",
                [offset + 1, topic, partition, offset],
            ).fetchone()
            if moved is None:
                row = connection.execute(
                    "SELECT next_offset FROM partition_position WHERE topic = %s AND partition = %s", [topic, partition]
                ).fetchone()
                stands = f"stands at {row[0]}" if row else "is not known"
                Console(stderr=True).print(
                    f"{topic}/{partition} {stands}, not at {offset}; only that one may be skipped"
                )
                raise typer.Exit(2)
            connection.execute(
                """INSERT INTO dead_letter
                       (topic, partition, record_offset, reason, detail, record_key, record, recorded_at)
                   VALUES (%s, %s, %s, 'skipped', 'skipped by an operator', %s, %s, %s) ON CONFLICT DO NOTHING""",
                [topic, partition, offset, key, value, now],
            )
        Console().print(f"{topic}/{partition} goes on at {offset + 1}; the record is filed as dead", highlight=False)


async def _record(settings: Settings, topic: str, partition: int, offset: int) -> tuple[bytes | None, bytes]:
    """Return the key and value at an offset; empty when the log no longer holds it."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka.bootstrap, group_id=None)
    await consumer.start()
    try:
        place = TopicPartition(topics.named(topic, settings.kafka), partition)
        consumer.assign([place])
        consumer.seek(place, offset)
        found = await consumer.getmany(timeout_ms=5_000, max_records=1)
        records = [record for batch in found.values() for record in batch if record.offset == offset]
        return (records[0].key, records[0].value or b"") if records else (None, b"")
    finally:
        await consumer.stop()
