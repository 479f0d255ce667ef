"""What the processor shows of itself: is each part it needs there, how far behind is it, does it get on."""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import psycopg
import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from ingest.clock import Clock, SystemClock, to_datetime
from ingest.health import Check, NotReady
from services import metrics, topics
from services.processor.consumer import LIVE_TOPICS, StreamLoop
from services.processor.worker import Place
from services.settings import Settings
from services.store.revision import DATABASE_UNAVAILABLE, QUERY, check_revision

MEASURE_S: Final = 1.0
SLOWLY_S: Final = 5.0  # figures that take a query or a walk over all patients
ENDS_FRESH_S: Final = 8.0
BEHIND_S: Final = 60.0  # live records that wait longer than this are told
OUTBOX_S: Final = 60.0
DISK_FREE: Final = 0.03
BATCH_LIMIT_S: Final = 60.0  # a batch may take this long before the watchdog begins to count

BROKER_UNAVAILABLE: Final = "broker_unavailable"
DATABASE_TROUBLE: Final = "database_trouble"
NOT_ASSIGNED: Final = "not_assigned"
BEHIND: Final = "behind"
OUTBOX_WAITING: Final = "outbox_waiting"
DISK_FULL: Final = "disk_full"
CODES: Final = {"53100": DISK_FULL, "none": DATABASE_UNAVAILABLE}

log = structlog.get_logger()


class Watch:
    """Measures one stream loop."""

    def __init__(self, settings: Settings, clock: Clock, loop: StreamLoop) -> None:
        self._settings, self._clock, self._loop = settings, clock, loop
        self._host = SystemClock()  # records carry the host's time, also in a time-lapse
        self._outbox: tuple[int, float] | None = None  # unsent, oldest in seconds
        self._progress_at = time.monotonic()
        self._position = -1
        self._shown: set[Place] = set()

    def checks(self) -> dict[str, Check]:
        """Return what readiness looks at, by the name of the part."""
        return {
            "broker": self._broker,
            "database": self._database,
            "storing": self._storing,
            "partitions": self._partitions,
            "caught_up": self._caught_up,
            "outbox": self._outbox_sent,
            "disk": self._disk,
        }

    def stuck_s(self) -> float:
        """Return for how long nothing was committed though records wait and nothing is known to be in the way."""
        waits = self._loop.trouble is None and self._loop.ends_age_s < ENDS_FRESH_S and self._live_behind()
        return max(0.0, time.monotonic() - self._progress_at - BATCH_LIMIT_S) if waits else 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        slow_at = 0.0
        retention = asyncio.create_task(self._read_retention(), name="retention")
        try:
            while True:
                try:
                    if self._loop.worker.epochs:
                        with contextlib.suppress(KafkaError, TimeoutError, OSError):
                            await asyncio.wait_for(self._loop.look_at_ends(MEASURE_S), 5)
                    self._measure()
                    if time.monotonic() - slow_at >= SLOWLY_S:
                        slow_at = time.monotonic()
                        self._measure_patients()
                except Exception as error:  # figures must not end the process they are about
                    log.error("not_measured", exc_info=error)
                await asyncio.sleep(MEASURE_S)
        finally:
            retention.cancel()

    def _measure(self) -> None:
        worker = self._loop.worker
        position = sum(offset for (topic, _), offset in worker.positions.items() if topic in LIVE_TOPICS)
        waiting, live = self._loop.behind(), self._live_behind()
        if position != self._position or not live:
            self._position, self._progress_at = position, time.monotonic()
        metrics.COMMIT_AGE.set(time.monotonic() - self._progress_at if live else 0)
        metrics.PARTITIONS.set(len(worker.partitions))
        metrics.POISON.set(worker.poison_ratio)
        owned = set(worker.positions)
        for topic, partition in self._shown - owned:
            metrics.BEHIND.remove(topic, str(partition))
            if topic == topics.READINGS:
                metrics.EPOCH.remove(str(partition))
        for topic, partition in owned:
            metrics.BEHIND.labels(topic, str(partition)).set(waiting.get((topic, partition), 0))
            if topic == topics.READINGS:
                metrics.EPOCH.labels(str(partition)).set(worker.epochs[topic, partition])
        self._shown = owned
        for topic, age_s in self._ages().items():
            metrics.WAITING_AGE.labels(topic).set(age_s)

    def _live_behind(self) -> dict[Place, int]:
        """Return how many live records wait; history is taken in beside them, when it can be."""
        return {place: n for place, n in self._loop.behind().items() if place[0] in LIVE_TOPICS}

    def _ages(self) -> dict[str, float]:
        """Return how old the oldest waiting record of each topic is."""
        ages = dict.fromkeys(topics.CO_PARTITIONED, 0.0)
        behind, now_ms = self._loop.behind(), self._host.now_ms()
        for place, told_ms in self._loop.waiting_since_ms().items():
            if behind.get(place):
                ages[place[0]] = max(ages[place[0]], (now_ms - told_ms) / 1000)
        return ages

    def _measure_patients(self) -> None:
        hot = self._loop.worker.core.hot
        metrics.PATIENTS.labels("all").set(len(hot))
        metrics.PATIENTS.labels("dirty").set(sum(one.dirty_ms is not None for one in hot))
        metrics.PATIENTS.labels("anew").set(sum(one.anew_ms is not None for one in hot))
        metrics.PATIENTS.labels("silent").set(sum(bool(one.silent) for one in hot))
        settled = np.fromiter((one.settled_ms for one in hot if one.settled_ms), np.int64)
        ages = np.maximum(0, self._clock.now_ms() - settled) / 1000
        metrics.WATERMARK_AGE.labels("median").set(float(np.median(ages)) if len(ages) else 0)
        metrics.WATERMARK_AGE.labels("oldest").set(float(ages.max()) if len(ages) else 0)

    async def _read_retention(self) -> None:
        """Read the topics' retention once, trying again until the broker answers."""
        names = {topics.named(topic, self._settings.kafka): topic for topic in topics.CO_PARTITIONED}
        while True:
            admin = AIOKafkaAdminClient(bootstrap_servers=self._settings.kafka.bootstrap)
            try:
                await admin.start()
                asked = [ConfigResource(ConfigResourceType.TOPIC, name, {"retention.ms": None}) for name in names]
                for answer in await admin.describe_configs(asked):
                    for _, _, _, name, entries in answer.resources:
                        kept_ms = int(entries[0][1])
                        metrics.RETENTION.labels(names[name]).set(kept_ms / 1000 if kept_ms >= 0 else math.inf)
                return
            except (KafkaError, OSError, LookupError, ValueError) as error:
                log.info("retention_unknown", error=repr(error))
                await asyncio.sleep(SLOWLY_S)
            finally:
                await admin.close()

    async def _broker(self) -> None:
        if self._loop.worker.epochs and self._loop.ends_age_s > ENDS_FRESH_S:
            raise NotReady(BROKER_UNAVAILABLE, f"no answer to a question about offsets within {ENDS_FRESH_S:g} s")

    async def _database(self) -> Mapping[str, Any]:
        conninfo = self._settings.postgres.conninfo("writer")
        try:
            async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
                row = await (await connection.execute(QUERY)).fetchone()
                await self._ask_outbox(connection)
        except psycopg.Error as error:
            raise NotReady(DATABASE_UNAVAILABLE, f"the database does not answer ({type(error).__name__})") from error
        return check_revision(row[0] if row else None)

    async def _ask_outbox(self, connection: psycopg.AsyncConnection) -> None:
        cursor = await connection.execute(
            """SELECT count(*), min(created_at) FROM
               (SELECT created_at FROM outbox WHERE sent_at IS NULL AND partition = ANY(%s) LIMIT 100000) AS unsent""",
            [self._loop.worker.partitions],
        )
        row = await cursor.fetchone()
        unsent, oldest = row or (0, None)
        now = to_datetime(self._clock.now_ms())
        self._outbox = unsent, max(0.0, (now - oldest).total_seconds()) if oldest else 0.0
        metrics.OUTBOX.set(self._outbox[0])
        metrics.OUTBOX_AGE.set(self._outbox[1])

    async def _storing(self) -> None:
        trouble = self._loop.trouble
        if trouble is not None:
            code = CODES.get(trouble, DATABASE_TROUBLE)
            raise NotReady(code, f"a batch is tried again and again (SQLSTATE {trouble}); records wait in Kafka")

    async def _partitions(self) -> Mapping[str, Any]:
        if not self._loop.assigned:
            raise NotReady(NOT_ASSIGNED, "the group has not given this process its partitions yet")
        return {"owned": len(self._loop.worker.partitions)}

    async def _caught_up(self) -> Mapping[str, Any]:
        live = self._live_behind()
        behind, age_s = sum(live.values()), max(self._ages()[topic] for topic in LIVE_TOPICS)
        if behind and age_s > BEHIND_S:
            raise NotReady(BEHIND, f"{behind} live records wait, the oldest for {age_s:.0f} s")
        history = sum(n for place, n in self._loop.behind().items() if place not in live)
        return {"behind_records": behind, "oldest_s": round(age_s, 1), "history_records": history}

    async def _outbox_sent(self) -> Mapping[str, Any]:
        unsent, oldest_s = self._outbox or (0, 0.0)
        if oldest_s > OUTBOX_S:
            raise NotReady(OUTBOX_WAITING, f"{unsent} events are not sent, the oldest for {oldest_s:.0f} s")
        return {"unsent": unsent}

    async def _disk(self) -> Mapping[str, Any]:
        home = self._settings.stack.home
        usage = shutil.disk_usage(home if home.exists() else Path())
        free = usage.free / usage.total
        metrics.DISK_FREE.set(free)
        if free < DISK_FREE:
            raise NotReady(DISK_FULL, f"{free:.1%} of the disk of {home} is free")
        return {"free": round(free, 3)}
