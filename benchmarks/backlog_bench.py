"""What `backlog` measures on: one database, one set of topics, live frames, history, and the processors on them."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import psycopg
from aiokafka import AIOKafkaProducer
from psycopg import sql

from ingest.catalogue import catalogue
from ingest.frame import STAMPED_VERSION, StampedBlock, StampedFrame, encode, frame_id
from ingest.partition import partition_of, record_key
from services import topics
from services.settings import Settings
from services.store.migrate import migrate

LIVE, HISTORIC = 500, 500  # patients who are live, and patients whose past is sent
MINUTE_MS, T0 = 60_000, 1_760_054_400_000
POLL_S = 0.002
JOIN_AFTER_S = 6.0
SETTLE_S = 5.0  # after a join: left out of the figures "between rebalances"
READY_S, SLICE_S, DRAIN_S = 60.0, 300.0, 300.0
HEART_RATE = catalogue()["heart_rate"].id
PEOPLE = (
    b"""INSERT INTO patient (organisation_id, key, name, enrolled_at)
        SELECT 1, 'p' || i, '', '2025-01-01Z' FROM generate_series(1, %s) i""",
    b"""INSERT INTO device (organisation_id, key, created_at)
        SELECT 1, 'd' || i, '2025-01-01Z' FROM generate_series(1, %s) i""",
)


@dataclass
class Part:
    """One part of a round: latencies in ms with the second they were sent at, and how much of the backlog went in."""

    name: str
    latency: list[tuple[float, float]] = field(default_factory=list)
    joined_at: list[float] = field(default_factory=list)
    seconds: float = 0.0
    history: int = 0

    def figures(self) -> dict[str, Any]:
        """Return n, and percentiles through the rebalance (``whole``) and between rebalances (``steady``)."""
        at, ms = np.array(self.latency).T
        moved = np.zeros(len(at), bool)
        for moment in self.joined_at:
            moved |= (at >= moment - 0.5) & (at <= moment + SETTLE_S)
        steady = ms[~moved]
        return {
            "n": len(ms), "seconds": round(self.seconds, 1), "history_frames": self.history,
            "whole_p50": _percentile(ms, 50), "whole_p99": _percentile(ms, 99), "whole_max": _percentile(ms, 100),
            "steady_p50": _percentile(steady, 50), "steady_p99": _percentile(steady, 99),
            "joined_at_s": [round(at_s, 1) for at_s in self.joined_at],
            "slowest_second": round(float(at[ms.argmax()]), 1),
        }  # fmt: skip


def _percentile(values: Any, q: float) -> float:
    return round(float(np.percentile(values, q)), 1)


class Bench:
    """One database, one set of topics, and what is running on them."""

    def __init__(self, settings: Settings, folder: Path, rate: int) -> None:
        self.settings, self._folder, self._rate = settings, folder, rate
        self._sent = [0] * (LIVE + HISTORIC + 1)  # frames of each patient
        self._waiting: dict[int, deque[tuple[int, float]]] = {p: deque() for p in range(settings.kafka.partitions)}
        self._children: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []

    def frame(self, patient: int) -> bytes:
        """Return the patient's next minute, 60 readings at 1 Hz."""
        seq = self._sent[patient]
        self._sent[patient] += 1
        t0 = T0 + (seq + patient % 60) * MINUTE_MS
        values = (62 + (np.arange(60) + 7 * patient + seq) % 9).astype("<f4").tobytes()
        end = t0 + MINUTE_MS
        block = StampedBlock(HEART_RATE, t0, 1_000_000, "f4", values)
        name = frame_id(f"d{patient}", "bench", seq)
        return encode(StampedFrame(STAMPED_VERSION, name, 1, patient, patient, "bench", seq, end, end, 60, [block]))

    async def append_history(self, frames: int) -> None:
        """Append the backlog, each patient's in order."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.settings.kafka.bootstrap, linger_ms=20, max_batch_size=1 << 18
        )
        await producer.start()
        try:
            topic = topics.named(topics.BACKFILL, self.settings.kafka)
            for number in range(frames):
                patient = LIVE + 1 + number % HISTORIC
                await producer.send(topic, self.frame(patient), key=record_key(patient), partition=self._place(patient))
            await producer.flush()
        finally:
            await producer.stop()

    async def measure(self, part: Part, at_least_s: float, *, until_drained: bool) -> None:
        """Send live frames for a slice and note when each is committed; a second processor joins on the way."""
        before = self._position(topics.BACKFILL)
        began = time.monotonic()
        stop = asyncio.Event()
        producer = AIOKafkaProducer(bootstrap_servers=self.settings.kafka.bootstrap, linger_ms=0, acks=1)
        await producer.start()
        watch = self._watch(part, began - part.seconds, stop)
        tasks = [asyncio.create_task(self._live(producer, stop)), asyncio.create_task(watch)]
        second = None
        try:
            while (passed := time.monotonic() - began) < SLICE_S:
                if second is None and passed > JOIN_AFTER_S:
                    part.joined_at.append(part.seconds + passed)
                    second = self.start()
                if passed > at_least_s and not (until_drained and self._behind()):
                    break
                await asyncio.sleep(0.1)
                for task in tasks:
                    if task.done():
                        await task
        finally:
            stop.set()
            await asyncio.gather(*tasks)
            await producer.stop()
        part.seconds += time.monotonic() - began
        part.history += self._position(topics.BACKFILL) - before
        if second is not None:
            self.stop(second)
        await self._rest()

    async def _rest(self) -> None:
        """Wait until nothing of the backlog is left and the partitions are back with the first processor."""
        until = time.monotonic() + DRAIN_S
        while self._behind() or self._owners() != 1:
            if time.monotonic() > until:
                msg = f"the backlog was not taken in within {SLICE_S + DRAIN_S:g} s"
                raise RuntimeError(msg)
            await asyncio.sleep(0.2)

    async def _live(self, producer: AIOKafkaProducer, stop: asyncio.Event) -> None:
        topic = topics.named(topics.READINGS, self.settings.kafka)
        began, number = time.monotonic(), 0
        while not stop.is_set():
            await asyncio.sleep(max(0.0, began + number / self._rate - time.monotonic()))
            patient = 1 + number % LIVE
            at = time.monotonic()
            future = await producer.send(
                topic, self.frame(patient), key=record_key(patient), partition=self._place(patient)
            )
            future.add_done_callback(lambda done, at=at: self._appended(done, at))
            number += 1

    def _appended(self, done: Any, at: float) -> None:
        told = done.result()
        self._waiting[told.partition].append((told.offset, at))

    async def _watch(self, part: Part, began: float, stop: asyncio.Event) -> None:
        conninfo = self.settings.postgres.conninfo("admin")
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
            while not stop.is_set() or any(self._waiting.values()):
                rows = await connection.execute(
                    "SELECT partition, next_offset FROM partition_position WHERE topic = 'readings.v1'", prepare=True
                )
                found = await rows.fetchall()
                now = time.monotonic()
                for partition, position in found:
                    waiting = self._waiting[partition]
                    while waiting and waiting[0][0] < position:
                        at = waiting.popleft()[1]
                        part.latency.append((at - began, (now - at) * 1000))
                if stop.is_set() and now - began > part.seconds + SLICE_S + READY_S:
                    break
                await asyncio.sleep(POLL_S)

    def _place(self, patient: int) -> int:
        return partition_of(patient, self.settings.kafka.partitions)

    def _position(self, topic: str) -> int:
        with psycopg.connect(self.settings.postgres.conninfo("admin")) as connection:
            row = connection.execute(
                "SELECT coalesce(sum(next_offset), 0) FROM partition_position WHERE topic = %s", [topic]
            ).fetchone()
        return int(row[0]) if row else 0

    def _owners(self) -> int:
        with psycopg.connect(self.settings.postgres.conninfo("admin")) as connection:
            row = connection.execute(
                """SELECT count(DISTINCT owner) FROM (SELECT DISTINCT ON (topic, partition) owner
                   FROM partition_owner_log ORDER BY topic, partition, epoch DESC) AS latest"""
            ).fetchone()
        return int(row[0]) if row else 0

    def _behind(self) -> bool:
        return self._position(topics.BACKFILL) < sum(self._sent[LIVE + 1 :])

    def start(self) -> subprocess.Popen[bytes]:
        """Start a processor."""
        log = (self._folder / f"processor-{len(self._children)}.log").open("ab")
        environ = {k: v for k, v in os.environ.items() if not k.startswith("KEEPWELL_")} | {
            "KEEPWELL_CONFIG": os.devnull,
            "KEEPWELL_STACK__HOME": str(self.settings.stack.home),
            "KEEPWELL_KAFKA__PREFIX": self.settings.kafka.prefix,
            "KEEPWELL_POSTGRES__DATABASE": self.settings.postgres.database,
            "KEEPWELL_PROCESSOR__SILENCE_S": "315360000",
        }
        child = subprocess.Popen(
            [sys.executable, "-m", "services.cli.main", "processor"], env=environ, stdout=log, stderr=log
        )
        self._children.append((child, log))
        return child

    async def owned(self) -> None:
        """Wait until every partition has an owner who has begun."""
        log = Path(self._children[-1][1].name)
        until = time.monotonic() + READY_S
        while '"assigned"' not in log.read_text():
            if time.monotonic() > until:
                msg = f"no processor within {READY_S:g} s: {log.read_text()[-500:]}"
                raise RuntimeError(msg)
            await asyncio.sleep(0.05)

    def stop(self, child: subprocess.Popen[bytes]) -> None:
        """Stop a processor."""
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(5)

    def stop_all(self) -> None:
        """Stop every processor."""
        for child, log in self._children:
            if child.poll() is None:
                self.stop(child)
            log.close()


@contextmanager
def bench_on(settings: Settings, folder: Path, rate: int) -> Iterator[Bench]:
    """Make a database and topics for one round, and drop the database at its end."""
    name = secrets.token_hex(3)
    own = settings.model_copy(
        update={
            "kafka": settings.kafka.model_copy(update={"prefix": f"bench{name}."}),
            "postgres": settings.postgres.model_copy(update={"database": f"kw_bench_{name}"}),
        }
    )
    asyncio.run(migrate(own))
    with psycopg.connect(own.postgres.conninfo("admin")) as admin:
        admin.execute("INSERT INTO organisation (key, name) VALUES ('bench', 'Benchmark')")
        for statement in PEOPLE:
            admin.execute(statement, [LIVE + HISTORIC])
    bench = Bench(own, folder, rate)
    try:
        yield bench
    finally:
        bench.stop_all()
        with psycopg.connect(own.postgres.conninfo("admin", "postgres"), autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(own.postgres.database)))
