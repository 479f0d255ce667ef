"""The loop: Kafka records in batches, each batch one transaction, under the fence of the partitions' epochs.

Its own aiokafka loop inside a Faust service: a Faust agent costs 12 to 17 times the CPU a message. Position and
fence are in the database; Kafka's committed offsets, at most one a second, only display the lag.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import psycopg
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError

from ingest.clock import Clock
from services import topics
from services.processor.batch import Bounds, process_batch
from services.processor.core import Core
from services.processor.records import DeadRecord, Effects, Record
from services.processor.silence import judge_silence
from services.reasons import DeadReason
from services.settings import Settings
from services.store import fence, writer
from services.store.reader import Reader

log = structlog.get_logger()

LIVE_TOPICS: Final = (topics.READINGS, topics.CONTROL)
COMMIT_EVERY_S: Final = 1.0
SILENCE_EVERY_S: Final = 1.0
FETCH_WAIT_MS: Final = 200  # how long an empty getmany waits: bounds how late a stop or a timer is noticed
# A dead database is retried in place: 0.2 s doubling to 5 s, about two minutes in all, then the process stops loudly
# and its supervisor starts it again. Heartbeats go on meanwhile.
FIRST_BACKOFF_S, MAX_BACKOFF_S, MAX_TRIES = 0.2, 5.0, 28
POISON_WINDOW, POISON_RATIO = 200, 0.5  # more than half of the last 200 records dead: a bad deploy, not bad records

MAX_PART_BYTES: Final = 512 * 1024  # of one transaction: some 100,000 readings, a second or two on a busy machine
# A batch takes well under a second; a server that is frozen rather than gone is given up after this long.
BATCH_S: Final = 60.0

TRANSIENT: Final = (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError)
# What a record's content can cause; anything else stops the process.
POISON: Final = (psycopg.DataError, psycopg.IntegrityError, ValueError, LookupError, ArithmeticError, TypeError)


class PoisonError(RuntimeError):
    """Too many records can't be processed; going on would drain everything into the dead letters."""


class StreamLoop(ConsumerRebalanceListener):  # type: ignore[misc]
    """Owns the partitions it is assigned, and stops at anything it does not expect."""

    def __init__(self, settings: Settings, clock: Clock, core: Core) -> None:
        self._settings = settings
        self._clock = clock
        self._core = core
        chosen = settings.processor
        self._bounds = Bounds(chosen.reordering_bound_s * 1000, chosen.clock_skew_s * 1000, chosen.silence_s * 1000)
        self._connection: psycopg.AsyncConnection | None = None
        self._epochs: dict[tuple[str, int], int] = {}
        self._positions: dict[tuple[str, int], int] = {}
        self._generation = 0
        self._lock = asyncio.Lock()
        self._dead: deque[bool] = deque(maxlen=POISON_WINDOW)
        self._committed_at = self._silence_at = time.monotonic()
        self._failure: BaseException | None = None
        self.wrote = asyncio.Event()  # set after each commit that left something in the outbox
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka.bootstrap,
            group_id=topics.named("processor", settings.kafka),
            group_instance_id=chosen.instance_id or None,
            partition_assignment_strategy=(RangePartitionAssignor,),
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # between assignment and our seek; what comes then is dropped
            isolation_level="read_committed",
            session_timeout_ms=10_000,
            heartbeat_interval_ms=1_000,
            max_poll_interval_ms=300_000,
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=1 << 20,
        )

    @property
    def partitions(self) -> list[int]:
        """Return the numbers of the partitions owned now."""
        return sorted({partition for _, partition in self._epochs})

    async def run(self, stopping: asyncio.Event) -> None:
        """Consume until ``stopping``.

        Raises:
            FencedError, PoisonError: this process must not go on.
            RuntimeError: the log and the stored positions contradict each other.
        """
        await self._consumer.start()
        self._consumer.subscribe([topics.named(name, self._settings.kafka) for name in LIVE_TOPICS], listener=self)
        try:
            while not stopping.is_set():
                generation = self._generation
                fetched = await self._consumer.getmany(
                    timeout_ms=FETCH_WAIT_MS, max_records=self._settings.processor.max_records
                )
                if self._failure is not None:
                    raise self._failure
                if fetched:
                    await self._handle(fetched, generation)
                await self._timers()
        finally:
            await self._close()

    async def _handle(self, fetched: dict[TopicPartition, list[Any]], generation: int) -> None:
        for attempt in range(MAX_TRIES):
            async with self._lock:
                if generation != self._generation:
                    self._seek()  # rebalanced while these were fetched: drop them, begin again where we stand
                    return
                try:
                    await self._connected()  # first: a lost answer to a commit may have moved the positions
                    for part in _parts(self._fresh(fetched)):
                        async with asyncio.timeout(BATCH_S):
                            await self._settle_batch(part)
                except TRANSIENT as error:
                    log.warning("database_trouble", error=str(error).strip(), attempt=attempt)
                    await self._drop_connection()
                else:
                    return
            await asyncio.sleep(min(FIRST_BACKOFF_S * 2**attempt, MAX_BACKOFF_S))
        msg = f"the database did not answer in {MAX_TRIES} tries; stopping with nothing lost: the records stay in Kafka"
        raise RuntimeError(msg)

    def _fresh(self, fetched: dict[TopicPartition, list[Any]]) -> list[Record]:
        """Return the fetched records as plain values, without those already processed."""
        prefix = self._settings.kafka.prefix
        records = []
        for place, batch in fetched.items():
            topic = place.topic.removeprefix(prefix)
            position = self._positions[topic, place.partition]
            fresh = [Record(topic, r.partition, r.offset, r.key, r.value or b"") for r in batch if r.offset >= position]
            if fresh and fresh[0].offset > position:
                msg = (
                    f"{topic}/{place.partition}: the log goes on at {fresh[0].offset}, {position} was expected: "
                    "records are gone. Restore the log, or accept the loss with `keepwell dead skip`"
                )
                raise RuntimeError(msg)
            records += fresh
        records.sort(key=lambda record: record.topic != topics.CONTROL)  # what people changed comes first
        return records

    async def _settle_batch(self, records: list[Record]) -> None:
        """Commit the records; one that can't be processed is found by halving and filed as dead, then on."""
        if not records:
            return
        try:
            await self._transact(records)
        except POISON as error:
            log.error("poison", error=str(error).strip()[:300], kind=type(error).__name__, records=len(records))
            if len(records) == 1:
                await self._bury(records[0], error)
                return
            middle = len(records) // 2
            await self._settle_batch(records[:middle])
            await self._settle_batch(records[middle:])

    async def _bury(self, record: Record, error: Exception) -> None:
        connection = await self._connected()
        effects = Effects(recorded_ms=self._clock.now_ms())
        effects.dead = [DeadRecord(record, DeadReason.UNPROCESSABLE, f"{type(error).__name__}: {error}"[:300])]
        effects.positions = {(record.topic, record.partition): record.offset + 1}
        self._check_poison([record], effects)
        async with connection.transaction():
            await fence.check(connection, self._epochs)
            await self._write(connection, effects)
        self._positions.update(effects.positions)
        self.wrote.set()

    async def _transact(self, records: list[Record]) -> None:
        """Run one batch as one transaction; on any failure memory is dropped and loaded again."""
        connection = await self._connected()
        try:
            async with connection.transaction():
                await fence.check(connection, self._epochs)
                effects = await process_batch(
                    records, self._core, Reader(connection), self._bounds, self._clock.now_ms()
                )
                self._check_poison(records, effects)
                await self._write(connection, effects)
        except BaseException:
            self._core.clear()
            raise
        self._positions.update(effects.positions)
        if effects.events or effects.dead:
            self.wrote.set()

    async def _write(self, connection: psycopg.AsyncConnection, effects: Effects) -> None:
        hot = [self._core.keep(slot, effects.closed.get(slot)) for slot in sorted(effects.touched)]
        await writer.write(connection, effects, hot, self._core.patient_of)

    def _check_poison(self, records: list[Record], effects: Effects) -> None:
        dead = {(d.record.topic, d.record.partition, d.record.offset) for d in effects.dead}
        self._dead.extend((r.topic, r.partition, r.offset) in dead for r in records)
        if len(self._dead) == POISON_WINDOW and sum(self._dead) > POISON_RATIO * POISON_WINDOW:
            msg = (
                f"{sum(self._dead)} of the last {POISON_WINDOW} records can't be processed; stopping before everything "
                "is filed as dead. See `keepwell dead list` for the reasons"
            )
            raise PoisonError(msg)

    async def _timers(self) -> None:
        now = time.monotonic()
        if now - self._silence_at >= SILENCE_EVERY_S and self._epochs:
            self._silence_at = now
            await self._judge_silence()
        if now - self._committed_at >= COMMIT_EVERY_S and self._epochs:
            self._committed_at = now
            await self._commit_to_kafka()

    async def _judge_silence(self) -> None:
        """Judge silence by the clock, only when everything sent before that instant has been processed."""
        now_ms = self._clock.now_ms()
        owned = [TopicPartition(topics.named(topic, self._settings.kafka), p) for topic, p in self._epochs]
        try:
            ends = await self._consumer.end_offsets(owned)
        except KafkaError:
            return  # the broker is away: nothing can be judged
        async with self._lock:
            if not self._caught_up(ends):
                return
            try:
                connection = await self._connected()
                effects = judge_silence(self._core, self._bounds, now_ms)
                if effects.touched:
                    async with connection.transaction():
                        await fence.check(connection, self._epochs)
                        await self._write(connection, effects)
                    self.wrote.set()
            except TRANSIENT as error:
                log.warning("database_trouble", error=str(error).strip())
                self._core.clear()
                await self._drop_connection()

    def _caught_up(self, ends: dict[TopicPartition, int]) -> bool:
        prefix = self._settings.kafka.prefix
        return all(
            self._positions.get((tp.topic.removeprefix(prefix), tp.partition), -1) >= end for tp, end in ends.items()
        )

    async def _commit_to_kafka(self) -> None:
        places = {
            TopicPartition(topics.named(topic, self._settings.kafka), p): offset
            for (topic, p), offset in self._positions.items()
        }
        try:
            await asyncio.wait_for(self._consumer.commit(places), 10)
        except (KafkaError, TimeoutError) as error:
            log.info("commit_skipped", error=type(error).__name__)  # display only: the position is in the database

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        """Forget everybody; the in-flight batch has finished when the lock is ours."""
        async with self._lock:
            self._generation += 1
            self._epochs.clear()
            self._positions.clear()
            self._core.clear()

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        """Raise the epochs, load the states, seek to the stored positions; a failure here stops the process."""
        try:
            async with self._lock:
                self._generation += 1
                await self._take_over(assigned)
        except BaseException as error:
            self._failure = error

    async def _take_over(self, assigned: list[TopicPartition]) -> None:
        prefix = self._settings.kafka.prefix
        owned = {(tp.topic.removeprefix(prefix), tp.partition) for tp in assigned}
        sets = [{p for topic, p in owned if topic == name} for name in LIVE_TOPICS]
        if any(one != sets[0] for one in sets):
            msg = f"the topics' partitions differ ({owned}); they must be co-partitioned: check the partition counts"
            raise RuntimeError(msg)
        if not owned:
            return
        taken = await self._retrying(owned)
        self._epochs = {key: epoch for key, (_, epoch) in taken.items()}
        self._positions = {key: offset for key, (offset, _) in taken.items()}
        begins = await self._consumer.beginning_offsets(assigned)
        ends = await self._consumer.end_offsets(assigned)
        for tp in assigned:
            position = self._positions[tp.topic.removeprefix(prefix), tp.partition]
            if not begins[tp] <= position <= ends[tp]:
                msg = (
                    f"{tp.topic}/{tp.partition}: the stored position {position} is outside the log "
                    f"({begins[tp]} to {ends[tp]}); records were lost or the log was replaced. "
                    "Restore the log, or accept the loss with `keepwell dead skip`"
                )
                raise RuntimeError(msg)
        self._seek()
        log.info("assigned", partitions=self.partitions, epochs={f"{t}/{p}": e for (t, p), e in self._epochs.items()})

    def _seek(self) -> None:
        for (topic, partition), offset in self._positions.items():
            self._consumer.seek(TopicPartition(topics.named(topic, self._settings.kafka), partition), offset)

    async def _retrying(self, owned: set[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        for attempt in range(MAX_TRIES):
            try:
                connection = await self._connected()
                return await fence.take_over(connection, owned)
            except TRANSIENT as error:
                log.warning("database_trouble", error=str(error).strip(), attempt=attempt)
                await self._drop_connection()
                await asyncio.sleep(min(FIRST_BACKOFF_S * 2**attempt, MAX_BACKOFF_S))
        msg = f"the database did not answer in {MAX_TRIES} tries during assignment"
        raise RuntimeError(msg)

    async def _connected(self) -> psycopg.AsyncConnection:
        """Return the connection, made again when it was lost; memory is loaded where it was dropped."""
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(
                self._settings.postgres.conninfo("writer"), autocommit=True
            )
            await self._connection.execute(
                "SET lock_timeout = '10s'; "
                "SET idle_in_transaction_session_timeout = '30s'; SET statement_timeout = '50s'"
            )
            await self._read_positions()
        if not self._core.loaded and self._epochs:
            async with self._connection.transaction():
                reader = Reader(self._connection)
                since = self._core.load(await reader.states(self.partitions))
                self._core.take_pending(await reader.recent(since))
        return self._connection

    async def _read_positions(self) -> None:
        """Take the positions from the database: a commit whose answer was lost has moved them."""
        if self._connection is None or not self._epochs:
            return
        cursor = await self._connection.execute("SELECT topic, partition, next_offset FROM partition_position")
        for topic, partition, offset in await cursor.fetchall():
            if (topic, partition) in self._epochs:
                self._positions[topic, partition] = offset

    async def _drop_connection(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _close(self) -> None:
        if self._epochs:
            await self._commit_to_kafka()
        await self._consumer.stop()
        await self._drop_connection()


def _parts(records: list[Record]) -> Iterator[list[Record]]:
    """Cut a batch where its bytes would make a transaction long; the order stays."""
    part: list[Record] = []
    size = 0
    for record in records:
        if part and size + len(record.value) > MAX_PART_BYTES:
            yield part
            part, size = [], 0
        part.append(record)
        size += len(record.value)
    if part:
        yield part
