"""The dead letters as rows: found, marked, published again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import psycopg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from ingest.clock import SystemClock, to_datetime
from ingest.partition import partition_of, record_key
from services import topics
from services.cli.dead_form import readable
from services.settings import Settings

OPEN: Final = ("open", "fixed")
STATES: Final = (*OPEN, "redriven", "given_up")
MAX_RECORD_BYTES: Final = 2 << 20


class Letter(NamedTuple):
    """One dead letter; ``fixed`` is what an operator made of it, beside the original bytes."""

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    state: str
    key: bytes | None
    record: bytes
    fixed: bytes | None
    note: str | None
    recorded_at: datetime
    handled_at: datetime | None

    def brief(self) -> dict[str, Any]:
        """Return what a list shows."""
        return {
            "topic": self.topic, "partition": self.partition, "offset": self.offset, "state": self.state,
            "reason": self.reason, "detail": self.detail, "bytes": len(self.record),
            "recorded_at": self.recorded_at.isoformat(), "note": self.note,
        }  # fmt: skip

    @property
    def patient(self) -> int | None:
        """Return the patient its key names."""
        return patient_of(self.key)

    @property
    def place(self) -> tuple[str, int, int]:
        """Return topic, partition and offset."""
        return self.topic, self.partition, self.offset


_COLUMNS: Final = """topic, partition, record_offset, reason, detail, state, record_key, record, fixed_record, note,
    recorded_at, handled_at"""


def patient_of(key: bytes | None) -> int | None:
    """Return the patient a record's key names; None where it is no key of ours."""
    return int(key) if key is not None and key.isdigit() and len(key) < 10 else None


def connect(settings: Settings) -> psycopg.Connection:
    """Connect as the owner of the schema: an operator sees every organisation's letters."""
    return psycopg.connect(settings.postgres.conninfo("admin"))


def find(
    connection: psycopg.Connection, *, states: Sequence[str], reason: str | None, limit: int, oldest_first: bool,
    ours: bool = False,
) -> list[Letter]:  # fmt: skip
    """Return letters of these states, of one reason where given; ``ours``: only records of our own topics."""
    order = "recorded_at, topic, partition, record_offset" if oldest_first else "recorded_at DESC, record_offset DESC"
    rows = connection.execute(
        f"""SELECT {_COLUMNS} FROM dead_letter WHERE state = ANY(%s) AND (%s::text IS NULL OR reason = %s)
              AND (NOT %s OR topic = ANY(%s))
            ORDER BY {order} LIMIT %s""".encode(),
        [list(states), reason, reason, ours, list(topics.CO_PARTITIONED), limit],
    ).fetchall()
    return [Letter(*row) for row in rows]


def one(connection: psycopg.Connection, topic: str, partition: int, offset: int) -> Letter | None:
    """Return the letter of a record, None where there is none."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM dead_letter WHERE (topic, partition, record_offset) = (%s, %s, %s)".encode(),
        [topic, partition, offset],
    ).fetchone()
    return None if row is None else Letter(*row)


def mark(
    connection: psycopg.Connection, letter: Letter, state: str, *, note: str | None = None, fixed: bytes | None = None
) -> None:
    """Set a letter's state; its original bytes never change."""
    connection.execute(
        """UPDATE dead_letter SET state = %s, note = coalesce(%s, note), fixed_record = coalesce(%s, fixed_record),
               handled_at = %s
           WHERE (topic, partition, record_offset) = (%s, %s, %s)""",
        [state, note, fixed, to_datetime(SystemClock().now_ms()), *letter.place],
    )


async def redrive(
    settings: Settings, connection: psycopg.Connection, letters: Sequence[Letter], per_second: float
) -> int:
    """Publish letters to their topic again, the fixed record where there is one; return how many.

    Each is marked once Kafka has it. A crash between the two publishes it again the next time: storing is
    idempotent, so that is a duplicate and nothing else.
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka.bootstrap, acks="all", enable_idempotence=True,
        max_request_size=MAX_RECORD_BYTES, request_timeout_ms=10_000,
    )  # fmt: skip
    await producer.start()
    began = time.monotonic()
    try:
        for done, letter in enumerate(letters):
            await asyncio.sleep(max(0.0, began + done / per_second - time.monotonic()))
            key, record = _published(letter)
            partition = _partition(settings, letter, key)
            topic = topics.named(letter.topic, settings.kafka)
            await producer.send_and_wait(topic, value=record, key=key, partition=partition)
            mark(connection, letter, "redriven")
            connection.commit()
    finally:
        await producer.stop()
    return len(letters)


def _published(letter: Letter) -> tuple[bytes | None, bytes]:
    if letter.fixed is None:
        return letter.key, letter.record
    document = readable(letter.fixed) or {}
    return record_key(int(document["patient_id"])), letter.fixed


def _partition(settings: Settings, letter: Letter, key: bytes | None) -> int:
    return partition_of(int(key), settings.kafka.partitions) if key is not None and key.isdigit() else letter.partition


async def fetch(settings: Settings, topic: str, partition: int, offset: int) -> tuple[bytes | None, bytes]:
    """Return the key and value at an offset; empty when the log no longer holds it."""
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
