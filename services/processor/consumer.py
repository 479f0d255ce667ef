"""The loop: records from Kafka to the worker, live ones first, history in small slices beside them.

Its own aiokafka loop inside a Faust service: a Faust agent costs 12 to 17 times the CPU a message. Two consumers:
one in the group takes live readings and control changes; a second one, without a group, follows its assignment and
takes ``backfill.v1``, so that prefetched history never stands in front of a live record. Position and fence are in
the database; Kafka's committed offsets, at most one a second, only display the lag.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
import time
from typing import Final

import psycopg
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError

from ingest.clock import Clock
from services import metrics, topics
from services.processor.batch import Bounds
from services.processor.core import Core
from services.processor.pace import Pace
from services.processor.places import Fetched, Places, count
from services.processor.rebuild import Rebuilder
from services.processor.worker import Place, Worker
from services.settings import Settings
from services.store.session import Session

log = structlog.get_logger()

LIVE_TOPICS: Final = (topics.READINGS, topics.CONTROL)
COMMIT_EVERY_S: Final = 1.0
SILENCE_EVERY_S: Final = 1.0
REBUILD_EVERY_S: Final = 0.5
FETCH_WAIT_MS: Final = 200  # how long an empty getmany waits: bounds how late a stop or a timer is noticed
HISTORY_WAIT_MS: Final = 20  # the same while there is history to take in
HISTORY_FETCH_BYTES: Final = 16 * 1024  # small fetches: the broker is busy with live ones too
HISTORY_PATIENCE_S: Final = 30.0  # then history goes on beside a live backlog: what it overtakes is rebuilt
# A database in trouble is waited for in place, 0.2 s doubling to 5 s, heartbeats going on, for about two minutes. Then
# the process stops loudly and its supervisor starts it again, for ever: waiting longer in place would meet Kafka's
# max.poll.interval (5 min), after which the partitions are taken away anyway, and a start also mends what is ours.
FIRST_BACKOFF_S, MAX_BACKOFF_S, MAX_TRIES = 0.2, 5.0, 28
TRANSIENT: Final = (
    psycopg.OperationalError,  # away, starting, stopping, disk full, out of memory or connections, locks, time-outs
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,  # ours was frozen for too long
    psycopg.errors.ReadOnlySqlTransaction,  # a standby that has not taken over yet
    TimeoutError,
)


class StreamLoop(ConsumerRebalanceListener):  # type: ignore[misc]
    """Feeds the worker what its partitions hold, and stops at anything it does not expect."""

    def __init__(self, settings: Settings, clock: Clock, core: Core) -> None:
        self._settings, self._clock = settings, clock
        self._places = Places(settings.kafka)
        chosen = settings.processor
        bounds = Bounds.of(chosen)
        owner = chosen.instance_id or f"{socket.gethostname()}-{os.getpid()}"
        self.worker = Worker(Session(settings.postgres.conninfo("writer")), clock, core, bounds, owner)
        self._generation = 0
        self._lock = self.worker.lock
        self._rebuilder = Rebuilder(core, self.worker, bounds.silence_ms, bounds.history_ms)
        self._caught_up = False  # when silence was last judged
        self._control_ends: dict[Place, int] = {}  # readings wait until control has been taken in up to here
        self._history_waits = False
        self._committed_at = self._silence_at = self._history_at = time.monotonic()
        self._pace = Pace(chosen.max_records, time.monotonic())
        self._failure: BaseException | None = None
        self.trouble: str | None = None  # the SQLSTATE of what a batch waits for, "none" where the connection was lost
        self.assigned = False  # the group has said what is ours, if only nothing
        self._ends: dict[Place, int] = {}
        self._ends_at = -math.inf
        self._waiting_ms: dict[Place, int] = {}  # the time of the last record known not to be newer than what waits
        self._live = AIOKafkaConsumer(
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
        self._history = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka.bootstrap,
            group_id=None,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=HISTORY_FETCH_BYTES,
        )

    @property
    def ends_age_s(self) -> float:
        """Return since when it is known how far the log goes."""
        return time.monotonic() - self._ends_at

    def behind(self) -> dict[Place, int]:
        """Return how many records wait in each owned place that has any, by the ends last seen."""
        at = self.worker.positions
        return {place: end - at[place] for place, end in self._ends.items() if place in at and end > at[place]}

    def waiting_since_ms(self) -> dict[Place, int]:
        """Return a time (Kafka's, Unix ms) for each place: no record that waits there is older."""
        return dict(self._waiting_ms)

    async def look_at_ends(self, older_than_s: float = 0.0) -> dict[TopicPartition, int]:
        """Ask where the log of each owned place ends, unless that is known from less than ``older_than_s`` ago."""
        if self.ends_age_s < older_than_s:
            return {}
        ends: dict[TopicPartition, int] = await self._live.end_offsets(
            [self._places.partition(place) for place in self.worker.epochs]
        )
        self._ends = {self._places.place(tp): end for tp, end in ends.items()}
        self._ends_at = time.monotonic()
        return ends

    async def run(self, stopping: asyncio.Event) -> None:
        """Consume until ``stopping``.

        Raises:
            FencedError, PoisonError: this process must not go on.
            RuntimeError: the log and the stored positions contradict each other.
        """
        rebuilding = asyncio.create_task(self._rebuild())
        try:
            await self._live.start()
            await self._history.start()
            self._live.subscribe([self._places.named(name) for name in LIVE_TOPICS], listener=self)
            while not stopping.is_set():
                await self._turn()
        finally:
            rebuilding.cancel()  # in the middle of one: nothing of it has happened
            await asyncio.gather(rebuilding, return_exceptions=True)
            await self._close()

    async def _turn(self) -> None:
        generation = self._generation
        wait_ms = HISTORY_WAIT_MS if self._history_waits else FETCH_WAIT_MS
        fetched = await self._live.getmany(timeout_ms=wait_ms, max_records=self._settings.processor.max_records)
        if self._failure is not None:
            raise self._failure
        live = count(fetched)
        if not self._control_ends and self._history.assignment():
            fetched = fetched | await self._some_history(fetched)
        if fetched:
            began = time.monotonic()
            await self._handle(fetched, generation)
            self._pace.took(began, time.monotonic(), live, count(fetched) - live)
            self._resume_when_control_is_in()
        self._history_waits = self._lag(self._history) > 0
        await self._timers()

    async def _some_history(self, live: Fetched) -> Fetched:
        """Return history to be taken in after these live records, in their transaction."""
        fetched: Fetched = {}
        limit = self._pace.allows(time.monotonic(), count(live), self._lag(self._live))
        if limit and (takeable := self._takeable_history(live)):
            fetched = await self._history.getmany(*takeable, timeout_ms=0, max_records=limit)
        if fetched or not self._history_waits:
            self._history_at = time.monotonic()
        return fetched

    def _lag(self, consumer: AIOKafkaConsumer) -> int:
        """Return how many records the broker has shown and we have not taken in."""
        return sum(
            max(0, (consumer.highwater(tp) or 0) - self.worker.positions.get(self._places.place(tp), 0))
            for tp in consumer.assignment()
        )

    def _takeable_history(self, live: Fetched) -> list[TopicPartition]:
        """Return the partitions whose live readings are in, with these: overtaken, they would look late and silent."""
        places = list(self._history.assignment())
        if time.monotonic() - self._history_at > HISTORY_PATIENCE_S:
            return places
        return [tp for tp in places if self._live_is_in((topics.READINGS, tp.partition), live)]

    def _live_is_in(self, place: Place, live: Fetched) -> bool:
        fetched, end = live.get(self._places.partition(place)), self._live.highwater(self._places.partition(place))
        return end is not None and (fetched[-1].offset + 1 if fetched else self.worker.positions.get(place, -1)) >= end

    async def _handle(self, fetched: Fetched, generation: int) -> None:
        self._waiting_ms |= {self._places.place(tp): batch[0].timestamp for tp, batch in fetched.items()}
        for attempt in range(MAX_TRIES):
            async with self._lock:
                if generation != self._generation:
                    self._seek()  # rebalanced while these were fetched: drop them, begin again where we stand
                    return
                try:
                    await self.worker.prepare()  # first: a lost answer to a commit may have moved the positions
                    await self.worker.process(self._places.fresh(fetched, self.worker.positions))
                except TRANSIENT as error:
                    self._in_trouble(error, attempt)
                    await self.worker.drop()
                else:
                    self.trouble = None
                    self._waiting_ms |= {self._places.place(tp): batch[-1].timestamp for tp, batch in fetched.items()}
                    return
            await asyncio.sleep(min(FIRST_BACKOFF_S * 2**attempt, MAX_BACKOFF_S))
        msg = f"the database did not answer in {MAX_TRIES} tries; stopping with nothing lost: the records stay in Kafka"
        raise RuntimeError(msg)

    async def _timers(self) -> None:
        now = time.monotonic()
        if now - self._silence_at >= SILENCE_EVERY_S and self.worker.epochs:
            self._silence_at = now
            await self._judge_silence()
        if now - self._committed_at >= COMMIT_EVERY_S and self.worker.epochs:
            self._committed_at = now
            await self._commit_to_kafka()

    async def _judge_silence(self) -> None:
        """Judge silence by the clock, only when everything sent before that instant has been processed."""
        now_ms, generation = self._clock.now_ms(), self._generation
        try:
            ends = await self.look_at_ends()
        except KafkaError:
            self._caught_up = False
            return  # the broker is away: nothing can be judged
        async with self._lock:
            # After a rebalance these are the ends of what was ours before: nothing is known of the rest.
            self._caught_up = generation == self._generation and all(
                self.worker.positions.get(self._places.place(tp), -1) >= end for tp, end in ends.items()
            )
            if not self._caught_up:
                return
            try:
                await self.worker.prepare()
                await self.worker.judge_silence(now_ms)
            except TRANSIENT as error:
                self._in_trouble(error, 0)
                await self.worker.drop()
            else:
                self.trouble = None  # a rebuild may have met it while no record came

    def _in_trouble(self, error: BaseException, attempt: int) -> None:
        self.trouble = getattr(error, "sqlstate", None) or "none"
        metrics.DATABASE_RETRIES.labels(self.trouble).inc()
        log.warning("database_trouble", error=str(error).strip(), code=self.trouble, attempt=attempt)

    async def _rebuild(self) -> None:
        """Rebuild whom late data have come for, beside the batches, until cancelled."""
        try:
            done = False
            while True:
                await asyncio.sleep(0 if done else REBUILD_EVERY_S)
                done = False
                try:
                    done = await self._rebuilder.turn(self._clock.now_ms(), caught_up=self._caught_up)
                except TRANSIENT as error:
                    self._in_trouble(error, 0)
                    async with self._lock:
                        await self.worker.drop()
        except Exception as error:
            self._failure = error

    async def _commit_to_kafka(self) -> None:
        places = {self._places.partition(place): offset for place, offset in self.worker.positions.items()}
        try:
            await asyncio.wait_for(self._live.commit(self._of_the_group(places)), 10)
        except (KafkaError, TimeoutError) as error:
            log.info("commit_skipped", error=type(error).__name__)  # display only: the position is in the database

    def _of_the_group(self, places: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
        return {tp: offset for tp, offset in places.items() if tp in self._live.assignment()}

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        """Forget everybody; the in-flight batch has finished when the lock is ours."""
        async with self._lock:
            self._generation += 1
            self._history.unsubscribe()
            self._control_ends.clear()
            self._ends.clear()
            self._waiting_ms.clear()
            self.assigned = False
            self.worker.release()

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        """Raise the epochs, load the states, seek to the stored positions; a failure here stops the process."""
        try:
            async with self._lock:
                await self._take_over(assigned)
                self._generation += 1  # what was fetched meanwhile was not held back: it is dropped and fetched again
        except BaseException as error:
            self._failure = error

    async def _take_over(self, assigned: list[TopicPartition]) -> None:
        owned = {self._places.place(tp) for tp in assigned}
        sets = [{p for topic, p in owned if topic == name} for name in LIVE_TOPICS]
        if any(one != sets[0] for one in sets):
            msg = f"the topics' partitions differ ({owned}); they must be co-partitioned: check the partition counts"
            raise RuntimeError(msg)
        self.assigned = True
        if not owned:
            log.info("assigned", partitions=[])
            return
        owned |= {(topics.BACKFILL, partition) for partition in sets[0]}
        await self._retrying(owned)
        await self._check_the_log()
        self._history.assign([self._places.partition(place) for place in owned if place[0] == topics.BACKFILL])
        self._seek()
        self._hold_readings_until_control_is_in()
        epochs = {f"{topic}/{p}": epoch for (topic, p), epoch in self.worker.epochs.items()}
        log.info("assigned", partitions=self.worker.partitions, epochs=epochs)

    async def _check_the_log(self) -> None:
        places = [self._places.partition(place) for place in self.worker.positions]
        begins, ends = await self._live.beginning_offsets(places), await self._live.end_offsets(places)
        self._places.check(self.worker.positions, begins, ends)
        self._control_ends = {
            place: ends[self._places.partition(place)]
            for place, position in self.worker.positions.items()
            if place[0] == topics.CONTROL and position < ends[self._places.partition(place)]
        }

    def _hold_readings_until_control_is_in(self) -> None:
        """Pause the readings; a pause does not survive a rebalance, so this is done at each assignment."""
        if self._control_ends:
            self._live.pause(*(tp for tp in self._live.assignment() if self._places.place(tp)[0] == topics.READINGS))

    def _resume_when_control_is_in(self) -> None:
        if not self._control_ends:
            return
        for place, end in list(self._control_ends.items()):
            if self.worker.positions.get(place, end) >= end:
                del self._control_ends[place]
        if not self._control_ends:
            self._live.resume(*self._live.paused())

    def _seek(self) -> None:
        for place, offset in self.worker.positions.items():
            consumer = self._history if place[0] == topics.BACKFILL else self._live
            consumer.seek(self._places.partition(place), offset)

    async def _retrying(self, owned: set[Place]) -> None:
        for attempt in range(MAX_TRIES):
            try:
                await self.worker.take_over(owned)
            except TRANSIENT as error:
                self._in_trouble(error, attempt)
                await self.worker.drop()
                await asyncio.sleep(min(FIRST_BACKOFF_S * 2**attempt, MAX_BACKOFF_S))
            else:
                self.trouble = None
                return
        msg = f"the database did not answer in {MAX_TRIES} tries during assignment"
        raise RuntimeError(msg)

    async def _close(self) -> None:
        if self.worker.epochs:
            await self._commit_to_kafka()
        await self._live.stop()
        await self._history.stop()
        await self.worker.drop()
