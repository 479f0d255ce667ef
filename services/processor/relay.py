"""The outbox relay: what a transaction left to tell the world, sent in the order it was written.

One relay a partition: the owner of the partition. At least once: a crash between sending and marking sends again,
so receivers go by the event's identity.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Final

import psycopg
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ingest.clock import Clock, to_datetime
from services import metrics, topics
from services.control import CHANNEL
from services.processor.consumer import TRANSIENT
from services.processor.worker import Worker
from services.settings import Settings

log = structlog.get_logger()

BATCH: Final = 500
IDLE_S: Final = 2.0  # how long a row waits at the most that nobody announced
BACKOFF_S: Final = 1.0
MAX_RECORD_BYTES: Final = 2 * 1024 * 1024 - 4096  # a dead record of 1 MiB in base64; the broker allows 2 MiB
KEEP_SENT_MS: Final = 24 * 3_600_000  # sent rows are kept for a day, to look at
PURGE_EVERY_S: Final = 600.0


class OutboxRelay:
    """Sends unsent outbox rows of the owned partitions until told to stop."""

    def __init__(self, settings: Settings, clock: Clock, worker: Worker) -> None:
        self._settings, self._clock, self._worker = settings, clock, worker
        self._purged_at = 0.0

    async def run(self, stopping: asyncio.Event) -> None:
        """Relay until ``stopping``; a dead broker or database is waited for, with nothing lost."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.kafka.bootstrap,
            acks="all",
            enable_idempotence=True,
            request_timeout_ms=10_000,
            max_request_size=MAX_RECORD_BYTES,
        )
        await producer.start()
        try:
            while not stopping.is_set():
                try:
                    await self._drain(producer, stopping)
                except (*TRANSIENT, KafkaError) as error:
                    log.warning("outbox_trouble", error=str(error).strip())
                    await asyncio.sleep(BACKOFF_S)
        finally:
            await producer.stop()

    async def _drain(self, producer: AIOKafkaProducer, stopping: asyncio.Event) -> None:
        conninfo = self._settings.postgres.conninfo("writer")
        listener = asyncio.create_task(self._listen(conninfo))
        try:
            async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
                while not stopping.is_set():
                    self._worker.wrote.clear()
                    await self._purge(connection)
                    if not await self._send_some(connection, producer):
                        try:
                            await asyncio.wait_for(self._worker.wrote.wait(), IDLE_S)
                        except TimeoutError:
                            continue
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def _listen(self, conninfo: str) -> None:
        """Wake the relay when somebody else, such as the API, leaves a change; without it the poll finds it."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
                    await connection.execute(f"LISTEN {CHANNEL}".encode())
                    self._worker.wrote.set()
                    async for _ in connection.notifies():
                        self._worker.wrote.set()
            except TRANSIENT as error:
                log.info("outbox_listener_lost", error=type(error).__name__)
                await asyncio.sleep(BACKOFF_S)

    async def _purge(self, connection: psycopg.AsyncConnection) -> None:
        if time.monotonic() - self._purged_at > PURGE_EVERY_S:
            self._purged_at = time.monotonic()
            await connection.execute(
                "DELETE FROM outbox WHERE sent_at < %s", [to_datetime(max(0, self._clock.now_ms() - KEEP_SENT_MS))]
            )

    async def _send_some(self, connection: psycopg.AsyncConnection, producer: AIOKafkaProducer) -> int:
        cursor = await connection.execute(
            """SELECT id, topic, record_key, record FROM outbox
               WHERE sent_at IS NULL AND partition = ANY(%s) ORDER BY id LIMIT %s""",
            [self._worker.partitions, BATCH],
        )
        found = await cursor.fetchall()
        held = await self._hold(connection, [number for number, topic, _, _ in found if topic == topics.ALERTS])
        rows = [row for row in found if row[0] not in held]
        sends = [
            await producer.send(topics.named(topic, self._settings.kafka), value=value, key=key or None)
            for _, topic, key, value in rows
        ]
        await asyncio.gather(*sends)
        for topic, n in Counter(row[1] for row in rows).items():
            metrics.OUTBOX_SENT.labels(topic).inc(n)
        if rows:
            await connection.execute(
                "UPDATE outbox SET sent_at = %s WHERE id = ANY(%s)",
                [to_datetime(self._clock.now_ms()), [row[0] for row in rows]],
            )
        return len(found)

    async def _hold(self, connection: psycopg.AsyncConnection, alerts: list[int]) -> set[int]:
        """Take out of the outbox what is about patients who have died, and return which rows those were.

        Asked just before sending: what is said of a death holds for every alert that has not left yet.
        """
        if not alerts:
            return set()
        cursor = await connection.execute(
            """DELETE FROM outbox WHERE id = ANY(%s)
               AND is_deceased(convert_from(record_key, 'UTF8')::int, greatest(created_at, %s)) RETURNING id""",
            [alerts, to_datetime(self._clock.now_ms())],
        )
        held = {number for (number,) in await cursor.fetchall()}
        if held:
            metrics.OUTBOX_HELD.inc(len(held))
            log.info("alerts_held", rows=len(held), why="deceased")
        return held
