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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

import faust
import msgspec
import psycopg
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError
from mode import Service

from ingest.clock import to_datetime
from services import topics
from services.reasons import DeadReason
from services.settings import Settings
from services.settings_sections import KafkaSettings

log = structlog.get_logger()

T = TypeVar("T")

BATCH, WITHIN_S = 100, 0.2
TRY_S: Final = 30.0
CATCH_UP_S: Final = 5.0
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


class Filed(NamedTuple):
    """A record of ``dead.v1``, by whichever consumer it came."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    at_ms: int


class Letter(NamedTuple):
    """One row of ``dead_letter``, filed under its place on ``dead.v1``."""

    partition: int
    offset: int
    reason: str
    detail: str
    key: bytes | None
    record: bytes
    at_ms: int


class Filer:
    """Files records in their order, those included that Faust's consumer skipped.

    Faust's consumer drops what it has fetched when a rebalance comes between, and does not always fetch it again
    (seen: a handful in a storm of twenty); what is later acknowledged hides the hole. So the stored position decides:
    what lies between it and a record in hand is fetched by a consumer of our own, and filed first.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = asyncio.Lock()
        self._behind: dict[int, int] = {}  # partition → where it stood, behind its end, when last looked at

    async def file(self, records: Sequence[Filed]) -> None:
        """File records of any partitions, each partition's in order."""
        async with self._lock:
            stored = await _retrying(lambda: _stored(self._settings))
            first: dict[int, int] = {}
            for record in records:
                first.setdefault(record.partition, record.offset)
            for partition, offset in first.items():
                await self._fetch_and_file(partition, stored.get(partition, 0), offset)
            await self._write(records)

    async def catch_up(self, ends: Mapping[int, int]) -> None:
        """File what nobody has handed over since the last look: partition → the end of its log as seen now."""
        async with self._lock:
            stored = await _retrying(lambda: _stored(self._settings))
            behind = {partition: stored.get(partition, 0) for partition, end in ends.items()}
            behind = {partition: at for partition, at in behind.items() if at < ends[partition]}
            for partition, at in behind.items():
                if self._behind.get(partition) == at:
                    await self._fetch_and_file(partition, at, ends[partition])
            self._behind = behind

    async def _fetch_and_file(self, partition: int, start: int, stop: int) -> None:
        while start < stop:
            following = min(start + BATCH, stop)
            records = await fetch(self._settings.kafka, partition, start, following)
            log.warning("filing_fetches_skipped", partition=partition, start=start, stop=following, found=len(records))
            await self._write(records, {partition: following})
            start = following

    async def _write(self, records: Sequence[Filed], reached: Mapping[int, int] = MappingProxyType({})) -> None:
        letters = [one for record in records if (one := read(record)) is not None]
        positions = {record.partition: record.offset + 1 for record in records} | dict(reached)
        await _retrying(lambda: _write(self._settings.postgres.conninfo("writer"), letters, positions))


def attach(app: faust.App, settings: Settings) -> None:
    """Give the app the agent, and the timer that looks after it."""
    topic = app.topic(
        topics.named(topics.DEAD, settings.kafka), key_serializer="raw", value_serializer="raw", internal=True
    )
    filer = Filer(settings)

    async def or_crash(work: Awaitable[None]) -> bool:
        try:
            await work
        except Exception as error:
            log.critical("filing_stops", error=repr(error))
            await app.crash(error)
            return False
        return True

    @app.agent(topic, name="filing", concurrency=1)
    async def file_dead(stream: Any) -> None:
        async for events in stream.noack_take(BATCH, within=WITHIN_S):
            if not await or_crash(filer.file([_filed(event.message) for event in events])):
                return
            for event in events:
                event.ack()

    @app.timer(CATCH_UP_S)  # type: ignore[untyped-decorator]
    async def catch_up() -> None:
        mine = [tp for tp in app.consumer.assignment() if tp.topic == topic.get_topic_name()]
        await or_crash(filer.catch_up({tp.partition: app.consumer.highwater(tp) or 0 for tp in mine}))


async def fetch(kafka: KafkaSettings, partition: int, start: int, stop: int) -> list[Filed]:
    """Return the records of a stretch of a partition that are still there.

    Raises:
        TimeoutError: the broker did not hand them out in time.
    """
    place = TopicPartition(topics.named(topics.DEAD, kafka), partition)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=None, auto_offset_reset="none")
    await consumer.start()
    try:
        async with asyncio.timeout(TRY_S):
            consumer.assign([place])
            begin = (await consumer.beginning_offsets([place]))[place]
            if begin >= stop:
                return []  # deleted by retention
            consumer.seek(place, max(start, begin))
            found: list[Filed] = []
            while await consumer.position(place) < stop:
                for record in (await consumer.getmany(place, timeout_ms=500, max_records=BATCH)).get(place, []):
                    found.append(Filed(partition, record.offset, record.key, record.value, record.timestamp))
            return [record for record in found if record.offset < stop]
    finally:
        await consumer.stop()


def _filed(message: Any) -> Filed:
    return Filed(message.partition, message.offset, message.key, message.value, int(message.timestamp * 1000))


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


def read(record: Filed) -> Letter | None:
    """Return the row for a record of ``dead.v1``, None for one of the processor's own; never raises on its content."""
    value = record.value or b""
    place = record.partition, record.offset
    try:
        notice = msgspec.json.decode(value, type=Notice)
        original = base64.b64decode(notice.record, validate=True)
    except (msgspec.DecodeError, binascii.Error, ValueError):
        what = "not a JSON object with reason and record"
        return Letter(*place, DeadReason.NOT_A_DEAD_RECORD, what, record.key, value, record.at_ms)
    if notice.topic in topics.CO_PARTITIONED:
        return None
    key = notice.key.encode() or record.key
    return Letter(*place, notice.reason[:MAX_REASON], notice.detail[:MAX_DETAIL], key, original, record.at_ms)
