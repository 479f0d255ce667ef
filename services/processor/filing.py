"""The Faust agent that files what others put on ``dead.v1``: the bridge, integrators.

The processor's own dead records are in the table already, in the transaction that moved its position past them; they
are left alone here, so that what was looked at, sent again or erased since does not come back.

A Faust agent acknowledges past what it could not do, unless it is written like this (measured): one ordered loop, the
batch acknowledged after the transaction, transient trouble waited out in place, and a crash at anything else. The
stored position moves in the same transaction, so a database restored from a backup is filed into again from there.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import faust
import msgspec
import psycopg
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError
from faust import EventT
from mode import Service

from ingest.clock import to_datetime
from services import topics
from services.reasons import DeadReason
from services.settings import Settings

log = structlog.get_logger()

T = TypeVar("T")

BATCH, WITHIN_S = 100, 0.2
TRY_S: Final = 30.0
SESSION_S: Final = 15.0  # longer than the agents' session time-out
FIRST_BACKOFF_S, MAX_BACKOFF_S, MAX_TRIES = 0.2, 5.0, 28
TRANSIENT: Final = (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError)
MAX_REASON, MAX_DETAIL = 64, 300


class Notice(msgspec.Struct):
    """A ``dead.v1`` record: why, the original bytes in base64, and the place on our own topics where it has one."""

    reason: str
    record: str
    detail: str = ""
    key: str = ""
    topic: str = ""


class Letter(NamedTuple):
    """One row of ``dead_letter``, filed under its place on ``dead.v1``."""

    partition: int
    offset: int
    reason: str
    detail: str
    key: bytes | None
    record: bytes
    at_ms: int


def attach(app: faust.App, settings: Settings) -> None:
    """Give the app the agent."""
    topic = app.topic(
        topics.named(topics.DEAD, settings.kafka), key_serializer="raw", value_serializer="raw", internal=True
    )

    @app.agent(topic, name="filing", concurrency=1)
    async def file_dead(stream: Any) -> None:
        async for events in stream.noack_take(BATCH, within=WITHIN_S):
            try:
                await _file(settings, events)
            except Exception as error:
                log.critical("filing_stops", error=repr(error))
                await app.crash(error)
                return
            for event in events:
                event.ack()


class Beginning(Service):
    """Takes the agent's group back where it is ahead of the database: that was restored, and knows less.

    Started before Faust's consumer. A missing topic (an agent would wait there for ever) and a group that is in use
    elsewhere while it has to go back are a loud stop.
    """

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(**options)
        self._settings = settings

    async def on_start(self) -> None:
        """Compare what is committed in Kafka with what is stored."""
        try:
            await _go_back(self._settings)
        except Exception as error:
            log.critical("filing_stops", error=repr(error))
            await self.crash(error)


async def _go_back(settings: Settings) -> None:
    name, group = topics.named(topics.DEAD, settings.kafka), topics.named("agents", settings.kafka)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap, group_id=group, enable_auto_commit=False, request_timeout_ms=10_000
    )
    await consumer.start()
    try:
        if name not in await consumer.topics():
            msg = f"topic {name} does not exist; run `keepwell migrate`"
            raise RuntimeError(msg)
        places = [TopicPartition(name, number) for number in range(topics.partitions(topics.DEAD, settings.kafka))]
        consumer.assign(places)
        committed = {place: await consumer.committed(place) or 0 for place in places}
        stored = await _retrying(lambda: _stored(settings))  # after: an agent at work elsewhere stores, then commits
        begin = {place: stored.get(place.partition, 0) for place in places}
        back = {place: at for place, at in begin.items() if committed[place] > at}
        if back:
            log.info("filing_goes_back", partitions={place.partition: offset for place, offset in back.items()})
            await _commit(consumer, back)
    finally:
        await consumer.stop()


async def _commit(consumer: AIOKafkaConsumer, back: dict[TopicPartition, int]) -> None:
    """Commit for a group without members; one that was killed is a member until its session ends."""
    for _ in range(int(SESSION_S)):
        with contextlib.suppress(CommitFailedError):
            await consumer.commit(back)
            return
        await asyncio.sleep(1)
    msg = "the group of dead.v1 has to go back, and another processor is in it: stop all of them, then start again"
    raise RuntimeError(msg)


async def _stored(settings: Settings) -> dict[int, int]:
    async with await psycopg.AsyncConnection.connect(settings.postgres.conninfo("writer")) as connection:
        cursor = await connection.execute(
            "SELECT partition, next_offset FROM partition_position WHERE topic = %s", [topics.DEAD]
        )
        return dict(await cursor.fetchall())


async def _file(settings: Settings, events: Sequence[EventT[Any]]) -> None:
    messages = [event.message for event in events]
    letters = [one for message in messages if (one := read(message)) is not None]
    positions: dict[int, int] = {}
    for message in messages:
        positions[message.partition] = max(positions.get(message.partition, 0), message.offset + 1)
    await _retrying(lambda: _write(settings.postgres.conninfo("writer"), letters, positions))


async def _retrying(work: Callable[[], Awaitable[T]]) -> T:
    for attempt in range(MAX_TRIES):
        try:
            async with asyncio.timeout(TRY_S):
                return await work()
        except TRANSIENT as error:
            log.warning("database_trouble", error=str(error).strip(), attempt=attempt)
            await asyncio.sleep(min(FIRST_BACKOFF_S * 2**attempt, MAX_BACKOFF_S))
    msg = f"the database did not answer in {MAX_TRIES} tries; stopping with nothing lost: the records stay in Kafka"
    raise RuntimeError(msg)


async def _write(conninfo: str, letters: list[Letter], positions: dict[int, int]) -> None:
    async with await psycopg.AsyncConnection.connect(conninfo) as connection, connection.cursor() as cursor:
        # What a frozen process holds would stand in its successor's way: no other time-out of the server's counts
        # while it waits for the rest of a pipeline.
        await cursor.execute(f"SET LOCAL transaction_timeout = '{TRY_S:g}s'")
        await cursor.executemany(
            """INSERT INTO dead_letter
                   (topic, partition, record_offset, reason, detail, record_key, record, recorded_at)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
            [
                (
                    topics.DEAD,
                    one.partition,
                    one.offset,
                    one.reason,
                    one.detail,
                    one.key,
                    one.record,
                    to_datetime(one.at_ms),
                )
                for one in letters
            ],
        )
        await cursor.executemany(
            """INSERT INTO partition_position AS p (topic, partition, next_offset, epoch) VALUES (%s, %s, %s, 0)
               ON CONFLICT (topic, partition)
               DO UPDATE SET next_offset = greatest(p.next_offset, excluded.next_offset)""",
            [(topics.DEAD, partition, offset) for partition, offset in sorted(positions.items())],
        )


def read(message: Any) -> Letter | None:
    """Return the row for a record of ``dead.v1``, None for one of the processor's own; never raises on its content."""
    value, at_ms = message.value or b"", int(message.timestamp * 1000)
    place = message.partition, message.offset
    try:
        notice = msgspec.json.decode(value, type=Notice)
        record = base64.b64decode(notice.record, validate=True)
    except (msgspec.DecodeError, binascii.Error, ValueError):
        return Letter(
            *place, DeadReason.NOT_A_DEAD_RECORD, "not a JSON object with reason and record", message.key, value, at_ms
        )
    if notice.topic in topics.CO_PARTITIONED:
        return None
    key = notice.key.encode() or message.key
    return Letter(*place, notice.reason[:MAX_REASON], notice.detail[:MAX_DETAIL], key, record, at_ms)
