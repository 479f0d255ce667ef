"""A worker owns partitions and makes each batch of their records true in one fenced transaction.

It knows no Kafka: records are handed in, in the order of each partition. It keeps the epochs that fence it, the
positions its effects reach, and the patients' state in memory, which is dropped and loaded again after any failure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import psycopg
import structlog

from ingest.clock import Clock
from services import metrics
from services.processor import watermark
from services.processor.batch import Bounds, process_batch
from services.processor.core import Core
from services.processor.counted import count_batch
from services.processor.poison import RUN, PoisonGuard
from services.processor.records import DeadRecord, Effects, Record
from services.processor.silence import judge_silence
from services.reasons import DeadReason
from services.store.reader import Reader
from services.store.session import Transaction

log = structlog.get_logger()

Place = tuple[str, int]  # topic without prefix, partition

MAX_PART_BYTES: Final = 512 * 1024  # of one transaction: some 100,000 readings, a second or two on a busy machine
# A batch takes well under a second; a server that is frozen rather than gone is given up after this long.
BATCH_S: Final = 60.0

# What a record's content can cause; anything else stops the process.
POISON: Final = (psycopg.DataError, psycopg.IntegrityError, ValueError, LookupError, ArithmeticError, TypeError)


class Store(Protocol):
    """What a worker needs of the database; `services.store.session.Session` is the real one.

    Each method may raise what the database raises when it is away; the worker's memory is dropped then.
    """

    async def connect(self) -> bool:
        """Connect where needed; return whether the connection is a new one."""
        ...

    async def take_over(self, partitions: Iterable[Place], owner: str, at_ms: int) -> dict[Place, tuple[int, int]]:
        """Raise the epoch of each place; return (next offset, epoch) of each."""
        ...

    async def positions(self) -> dict[Place, int]:
        """Return every stored next offset."""
        ...

    def transaction(self, epochs: dict[Place, int]) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction under the fence; raises `FencedError` where a place has a newer owner."""
        ...

    def reading(self) -> AbstractAsyncContextManager[Reader]:
        """Open a transaction that only reads and that no batch waits for."""
        ...

    async def close(self) -> None:
        """Drop the connection; what was not committed has not happened."""
        ...


class Worker:
    """One process's share of the patients."""

    def __init__(self, store: Store, clock: Clock, core: Core, bounds: Bounds, owner: str) -> None:
        self._store, self._clock, self._bounds, self._owner = store, clock, bounds, owner
        self._guard = PoisonGuard()
        self._recalled = False
        self.epochs: dict[Place, int] = {}
        self.positions: dict[Place, int] = {}
        self.core = core
        self.lock = asyncio.Lock()  # held by whoever changes the state: batches, rebalances, the end of a rebuild
        self.wrote = asyncio.Event()  # set after each commit that left something in the outbox

    @property
    def partitions(self) -> list[int]:
        """Return the numbers of the partitions owned now."""
        return sorted({partition for _, partition in self.epochs})

    @property
    def poison_ratio(self) -> float:
        """Return the part of the last records that were dead."""
        return self._guard.ratio

    async def take_over(self, places: Iterable[Place]) -> None:
        """Become the owner: nobody who owned a place before can write any more."""
        await self._store.connect()
        taken = await self._store.take_over(places, self._owner, self._clock.now_ms())
        self.epochs = {place: epoch for place, (_, epoch) in taken.items()}
        self.positions = {place: offset for place, (offset, _) in taken.items()}
        self.core.clear()
        self._recalled = False

    def release(self) -> None:
        """Own nothing, and forget everybody."""
        self.epochs.clear()
        self.positions.clear()
        self.core.clear()

    async def prepare(self) -> None:
        """Connect where the connection was lost, and load what was dropped. Before anything is asked of it.

        A new connection reads the positions again: a commit whose answer was lost has moved them.
        """
        if await self._store.connect() and self.epochs:
            stored = await self._store.positions()
            self.positions = {place: stored[place] for place in self.epochs}
        if not self.core.loaded and self.epochs:
            async with self._store.transaction(self.epochs) as opened:
                since = self.core.load(await opened.states(self.partitions))
                self.core.take_pending(await opened.recent(since))
                if anew := sum(hot.anew_ms is not None for hot in self.core.hot):
                    log.warning("learning_anew", patients=anew)  # after an upgrade; safety limits go on meanwhile
                if not self._recalled:
                    self._guard.recall(self.positions, await opened.open_letters(self.positions, RUN))
                    self._recalled = True

    async def drop(self) -> None:
        """Give the connection up and forget everybody; the next `prepare` begins again from what is stored."""
        self.core.clear()
        await self._store.close()

    async def process(self, records: list[Record]) -> None:
        """Make the records true, some of them at a time; `prepare` was called before.

        Raises:
            FencedError, PoisonError: this process must not go on.
            psycopg.Error, TimeoutError: the database is in trouble; what was committed stays.
        """
        for part in _parts(records):
            async with asyncio.timeout(BATCH_S):
                await self._settle(part)

    async def judge_silence(self, now_ms: int) -> None:
        """Judge silence by the clock; the caller has made sure that everything sent before has been processed.

        First what a device left open when it stopped: a gap in its frames is waited for no longer than the bound.
        """
        hots = enumerate(self.core.hot)
        overdue = {slot: at for slot, hot in hots if (at := watermark.overdue(hot, now_ms)) is not None}
        if overdue:
            await self.apply(lambda opened: process_batch([], self.core, opened, self._bounds, now_ms, overdue))
        effects = judge_silence(self.core, self._bounds, now_ms)
        if effects.touched:
            try:
                async with self._store.transaction(self.epochs) as opened:
                    await self._write(opened, effects)
            except BaseException:
                self.core.clear()
                raise
            self.wrote.set()
            metrics.SILENCES.inc(len(effects.silences))

    def reading(self) -> AbstractAsyncContextManager[Reader]:
        """Open a transaction that only reads, beside the batches."""
        return self._store.reading()

    async def apply(self, make: Callable[[Reader], Awaitable[Effects]]) -> Effects:
        """Write what ``make`` returns in a transaction of its own, and return it; on any failure memory is dropped."""
        try:
            async with self._store.transaction(self.epochs) as opened:
                effects = await make(opened)
                await self._write(opened, effects)
        except BaseException:
            self.core.clear()
            raise
        self._committed(effects)
        return effects

    async def _settle(self, records: list[Record]) -> None:
        """Commit the records; one that can't be processed is found by halving and filed as dead, then on."""
        try:
            await self._transact(records)
        except POISON as error:
            log.error("poison", kind=type(error).__name__, records=len(records))  # the text may quote readings
            await self.prepare()
            if len(records) == 1:
                await self._bury(records[0], error)
                return
            middle = len(records) // 2
            await self._settle(records[:middle])
            await self._settle(records[middle:])

    async def _transact(self, records: list[Record]) -> None:
        """Run one batch as one transaction; on any failure memory is dropped."""
        began = time.monotonic()

        async def make(opened: Reader) -> Effects:
            effects = await process_batch(records, self.core, opened, self._bounds, self._clock.now_ms())
            self._guard.check(records, effects.dead)
            return effects

        count_batch(records, await self.apply(make), time.monotonic() - began)

    async def _bury(self, record: Record, error: Exception) -> None:
        began = time.monotonic()
        effects = Effects(recorded_ms=self._clock.now_ms())
        effects.dead = [DeadRecord(record, DeadReason.UNPROCESSABLE, f"{type(error).__name__}: {error}"[:300])]
        effects.positions = {(record.topic, record.partition): record.offset + 1}
        self._guard.check([record], effects.dead)
        async with self._store.transaction(self.epochs) as opened:
            await self._write(opened, effects)
        self._committed(effects)
        count_batch([record], effects, time.monotonic() - began)

    async def _write(self, opened: Transaction, effects: Effects) -> None:
        hot = [self.core.keep(slot, effects.closed.get(slot)) for slot in sorted(effects.touched)]
        await opened.write(effects, hot, self.core.patient_of)

    def _committed(self, effects: Effects) -> None:
        self.positions.update(effects.positions)
        self._guard.accept()
        if effects.events or effects.dead:
            self.wrote.set()


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
