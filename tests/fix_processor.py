"""Fixtures: the processor's core run on the real database without Kafka, and the processor as a process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import ArrayLike

from detectors.limits import Limits
from detectors.pipeline import Pipeline
from ingest.catalogue import catalogue
from ingest.clock import to_datetime
from ingest.frame import STAMPED_VERSION, StampedBlock, StampedFrame, encode, frame_id
from services.processor import watermark
from services.processor.batch import Bounds, process_batch
from services.processor.core import Core
from services.processor.rebuild import Rebuilder
from services.processor.records import Effects, Record
from services.processor.silence import judge_silence
from services.settings import Settings
from services.store import fence, writer
from services.store.reader import Reader
from tests.databases import copy_database, drop_database
from tests.fix_stack import LiveStack

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
T0 = 1_760_054_400_000  # 2025-10-10T00:00:00Z
BOUNDS = Bounds(reordering_ms=120_000, skew_ms=300_000, silence_ms=7_200_000, history_ms=21_600_000)
TOPIC = "readings.v1"


def block(metric: str, t0_ms: int, values: ArrayLike, step_s: float = 60, quality: bytes | None = None) -> StampedBlock:
    """One stamped block of evenly spaced readings."""
    return StampedBlock(
        catalogue()[metric].id, t0_ms, int(step_s * 1e6), "f4", np.asarray(values, "<f4").tobytes(), quality=quality
    )


def stamped(
    patient: int,
    seq: int,
    blocks: list[StampedBlock],
    *,
    received_ms: int | None = None,
    session: str = "s",
    device: int | None = None,
) -> StampedFrame:
    """One stamped frame of the patient's own device; received when its last hour ended, unless said."""
    end = max(b.t0_ms for b in blocks) + HOUR if received_ms is None else received_ms
    number = patient if device is None else device
    return StampedFrame(
        STAMPED_VERSION, frame_id(f"d{number}", session, seq), 1, patient, number, session, seq, end, end, 60, blocks
    )


def records(frames: Sequence[StampedFrame], first_offset: int = 0) -> list[Record]:
    """The frames as records of one partition."""
    return [
        Record(TOPIC, 0, first_offset + i, b"%d" % frame.patient_id, encode(frame)) for i, frame in enumerate(frames)
    ]


@dataclass
class Bench:
    """A processor without Kafka: batches go straight into transactions on a database of their own."""

    settings: Settings
    connection: psycopg.AsyncConnection[Any]
    core: Core = field(default_factory=lambda: Core(Pipeline(), Limits(), 1))
    epochs: dict[tuple[str, int], int] = field(default_factory=dict)
    offset: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    now_ms: int = T0
    bounds: Bounds = BOUNDS

    async def take_over(self) -> None:
        """Become the owner, as a process does on assignment: a new epoch, memory from the database."""
        taken = await fence.take_over(self.connection, [(TOPIC, 0)], "bench", to_datetime(self.now_ms))
        self.epochs = {key: epoch for key, (_, epoch) in taken.items()}
        self.offset = taken[TOPIC, 0][0]
        reader = Reader(self.connection)
        since = self.core.load(await reader.states([0]))
        self.core.take_pending(await reader.recent(since))

    async def feed(self, batch: Sequence[Record]) -> Effects:
        """Process and commit one batch."""
        async with self.connection.transaction():
            await fence.check(self.connection, self.epochs)
            effects = await process_batch(list(batch), self.core, Reader(self.connection), self.bounds, self.now_ms)
            await self._write(effects)
        return effects

    async def frames(self, frames: Sequence[StampedFrame]) -> Effects:
        """Process frames as the next records of the partition, in one batch."""
        batch = records(frames, self.offset)
        self.offset += len(batch)
        return await self.feed(batch)

    async def silence(self, now_ms: int) -> Effects:
        """Judge silence at an instant of the clock, gaps that are overdue first, as a worker does."""
        hots = enumerate(self.core.hot)
        overdue = {slot: at for slot, hot in hots if (at := watermark.overdue(hot, now_ms)) is not None}
        if overdue:
            await self.apply(lambda reader: process_batch([], self.core, reader, self.bounds, now_ms, overdue))
        effects = judge_silence(self.core, self.bounds, now_ms)
        async with self.connection.transaction():
            await fence.check(self.connection, self.epochs)
            await self._write(effects)
        return effects

    async def apply(self, make: Callable[[Reader], Awaitable[Effects]]) -> Effects:
        """Write what ``make`` returns in a fenced transaction; memory is dropped when it fails."""
        try:
            async with self.connection.transaction():
                await fence.check(self.connection, self.epochs)
                effects = await make(Reader(self.connection))
                await self._write(effects)
                return effects
        except BaseException:
            self.core.clear()
            raise

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Reader]:
        """A transaction that only reads, on a connection of its own."""
        conninfo = self.settings.postgres.conninfo("writer")
        async with await psycopg.AsyncConnection.connect(conninfo) as aside:
            yield Reader(aside)

    async def rebuild(self) -> int:
        """Rebuild everybody who is dirty; return how many were."""
        rebuilder = Rebuilder(self.core, self, BOUNDS.silence_ms, BOUNDS.history_ms)
        dirty = [patient for patient, slot in self.core.slot_of.items() if self.core.hot[slot].dirty_ms is not None]
        return sum([await rebuilder.rebuild(patient, self.now_ms) for patient in dirty])

    async def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query, as the writer sees them."""
        return await (await self.connection.execute(query.encode(), list(values) or None)).fetchall()

    async def _write(self, effects: Effects) -> None:
        hot = [self.core.keep(slot, effects.closed.get(slot)) for slot in sorted(effects.touched)]
        await writer.write(self.connection, effects, hot, self.core.patient_of)


BenchFactory = Callable[[], Any]


@pytest.fixture
async def bench(stack: LiveStack) -> AsyncIterator[Bench]:
    """A bench on a fresh database with 20 patients and devices of one organisation."""
    async for one in _bench(stack, "kw_bench"):
        yield one


@pytest.fixture
async def second_bench(stack: LiveStack) -> AsyncIterator[Bench]:
    """Another bench, to compare with."""
    async for one in _bench(stack, "kw_bench_2"):
        yield one


async def _bench(stack: LiveStack, database: str) -> AsyncIterator[Bench]:
    postgres = stack.settings.postgres.model_copy(update={"database": database})
    settings = stack.settings.model_copy(update={"postgres": postgres})
    drop_database(postgres)
    copy_database(postgres)
    with psycopg.connect(postgres.conninfo("admin"), autocommit=True) as admin:
        admin.execute("INSERT INTO organisation (key, name) VALUES ('o', 'One')")
        admin.execute(
            """INSERT INTO patient (organisation_id, key, name, enrolled_at)
               SELECT 1, 'p' || i, 'Patient ' || i, '2025-01-01Z' FROM generate_series(1, 20) AS i"""
        )
        admin.execute(
            """INSERT INTO device (organisation_id, key, created_at)
               SELECT 1, 'd' || i, '2025-01-01Z' FROM generate_series(1, 40) AS i"""
        )
    connection = await psycopg.AsyncConnection.connect(postgres.conninfo("writer"), autocommit=True)
    one = Bench(settings, connection)
    await one.take_over()
    try:
        yield one
    finally:
        await connection.close()
        drop_database(postgres)
