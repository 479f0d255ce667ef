"""Late data are rebuilt: when a burst is over, what was made of a patient is made anew from the checkpoint before it.

The long part, replaying stored readings on a state of its own, runs in slices between the live batches and holds
nothing up. Only the last stretch, the matching with what was told and the writing happen under the batch lock, in one
fenced transaction that also puts the rebuilt state in the live one's place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import psycopg
import structlog

from services import metrics
from services.processor import hot as hot_state
from services.processor.beginning import beginning
from services.processor.core import DAY_MS, HOUR_MS, Core
from services.processor.hot import Hot
from services.processor.records import Effects
from services.processor.remake import remade
from services.processor.replay import Replay
from services.processor.watermark import marks_of
from services.store.reader import Reader

# What one patient's data can cause; anything else stops the process.
POISON: Final = (psycopg.DataError, psycopg.IntegrityError, ValueError, LookupError, ArithmeticError, TypeError)
log = structlog.get_logger()

REST_S: Final = 2.0  # without late data for this long, and with everything sent processed: the burst is over
MAX_WAIT_S: Final = 60.0  # however they keep coming, what is shown is not older than this
AGAIN_S, MAX_AGAIN_S = 2.0, 300.0  # after late data came into a rebuild: wait, doubling
LAST_STRETCH_MS: Final = 3 * HOUR_MS  # of event time, replayed under the lock: some ten milliseconds
MAX_ROUNDS: Final = 50  # of catching up with the live marks before giving way to the next turn
SLICE_MS: Final = DAY_MS  # of event time, read at once

Make = Callable[[Reader], Awaitable[Effects]]


class Office(Protocol):
    """What a rebuild needs of the process that owns the patients."""

    lock: asyncio.Lock  # held by whoever changes the live state

    def reading(self) -> AbstractAsyncContextManager[Reader]:
        """Open a transaction that only reads, on a connection that no batch waits for."""
        ...

    async def apply(self, make: Make) -> Effects:
        """Write what ``make`` returns in a fenced transaction; on failure memory is dropped. The lock is held."""
        ...


@dataclass(slots=True)
class _Waiting:
    since_s: float
    changed_s: float
    dirty_n: int
    tries: int = 0
    not_before_s: float = 0.0
    failed: bool = False  # by what is stored of the patient


class Rebuilder:
    """Finds the patients whose burst is over and rebuilds them, one at a time."""

    def __init__(self, core: Core, office: Office, silence_ms: int, history_ms: int) -> None:
        self._core, self._office = core, office
        self._silence_ms, self._history_ms = silence_ms, history_ms
        self._waiting: dict[int, _Waiting] = {}

    async def turn(self, now_ms: int, *, caught_up: bool) -> bool:
        """Rebuild the one whose turn it is; return whether that was done.

        One at a time: to learn everybody anew takes hours, in which late data come, and some have waited long enough.

        Args:
            now_ms: the clock's present, for what is written.
            caught_up: everything sent has been processed.
        """
        due = self._due(caught_up)
        if not due:
            return False
        # What came late last is put right first: whoever is only learned anew has no fresh mistake.
        patient_id = max(due, key=due.__getitem__)
        try:
            return await self.rebuild(patient_id, now_ms)
        except POISON as error:  # its alerts and baselines stay as they are; the others are not held up
            metrics.REBUILDS.labels("failed").inc()
            log.error("rebuild_failed", patient_id=patient_id, exc_info=error)
            self._later(patient_id, failed=True)
            return False
        except Exception:  # the database may be away, or too slow for this one alone: somebody else is next
            self._later(patient_id)
            raise

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()  # monotonic

    def _due(self, caught_up: bool) -> dict[int, int]:
        """Return the patients whose burst is over, or has lasted too long → from when on they are rebuilt.

        Who has waited too long to be learned anew is judged as somebody new from here on.
        """
        if not self._core.loaded:
            return {}  # memory was dropped: nobody is known, and what is known of the waiting stays
        now = self._now_s()
        dirty = {patient: self._core.hot[slot] for patient, slot in self._core.slot_of.items()}
        dirty = {patient: hot for patient, hot in dirty.items() if hot.dirty_ms is not None}
        for patient in self._waiting.keys() - dirty.keys():
            del self._waiting[patient]
        due = {}
        for patient, hot in dirty.items():
            waiting = self._waiting.setdefault(patient, _Waiting(now, now, hot.dirty_n))
            if hot.anew_ms is not None and (waiting.failed or now - waiting.since_s > self._history_ms / 1000):
                hot.anew_ms = None  # judged as somebody new: to wait longer would be silence, and history then
                log.warning("judged_as_new", patient_id=patient)
            if waiting.dirty_n != hot.dirty_n:
                waiting.dirty_n, waiting.changed_s = hot.dirty_n, now
            over = caught_up and now - waiting.changed_s >= REST_S
            if now >= waiting.not_before_s and (over or now - waiting.since_s >= MAX_WAIT_S):
                due[patient] = hot.dirty_ms or 0
        return due

    async def rebuild(self, patient_id: int, now_ms: int) -> bool:
        """Rebuild one patient; return whether it is done, False where late data came meanwhile."""
        began_s = self._now_s()
        async with self._office.lock:  # between two batches: what is in memory is what is stored
            began = self._live(patient_id)
            if began is None or began.dirty_ms is None:
                return False
            now = _copy(began)
        async with self._office.reading() as reader:
            before_ms = now.settled_ms if now.dirty_ms is None else now.dirty_ms
            start = await beginning(reader, self._core, patient_id, now, before_ms)
            await self._know_devices(reader, hot_state.devices_of(now))  # of nobody a batch came since the start
        if not start.reaches:
            metrics.REBUILDS.labels("out_of_reach").inc()
            log.warning(
                "rebuild_out_of_reach", patient_id=patient_id, dirty_since_ms=now.dirty_ms, from_ms=start.first_ms
            )
        replay = Replay(self._core, patient_id, now, start.checkpoint, start.first_ms, self._silence_ms)
        for _ in range(MAX_ROUNDS):
            await self._catch_up(replay, now)
            async with self._office.lock:
                live = self._live(patient_id)
                if live is not began or live.dirty_n != now.dirty_n:
                    break  # memory was dropped, or late data came
                if _close(replay, live):
                    await self._finish(replay, now_ms)
                    metrics.REBUILDS.labels("done").inc()
                    metrics.REBUILD_SECONDS.observe(self._now_s() - began_s)
                    took_s = round(self._now_s() - began_s, 3)
                    log.info("rebuilt", patient_id=patient_id, from_ms=now.dirty_ms, took_s=took_s)
                    return True
                now = _copy(live)
        metrics.REBUILDS.labels("postponed").inc()
        self._later(patient_id)
        return False

    def _live(self, patient_id: int) -> Hot | None:
        slot = self._core.slot_of.get(patient_id)
        return None if slot is None else self._core.hot[slot]

    def _later(self, patient_id: int, *, failed: bool = False) -> None:
        waiting = self._waiting.get(patient_id)
        if waiting is not None:
            waiting.failed |= failed
            waiting.not_before_s = self._now_s() + min(AGAIN_S * 2**waiting.tries, MAX_AGAIN_S)
            waiting.tries += 1

    async def _catch_up(self, replay: Replay, now: Hot) -> None:
        """Replay up to the last full hour of the live marks, a day read at a time, an hour settled at a time."""
        end_ms = now.settled_ms // HOUR_MS * HOUR_MS
        while replay.read_to_ms < end_ms:
            to_ms = min((replay.read_to_ms // SLICE_MS + 1) * SLICE_MS, end_ms)
            async with self._office.reading() as reader:
                readings = await reader.stored(replay.patient_id, replay.read_to_ms, to_ms)
            replay.read_to_ms = to_ms
            replay.take(readings)
            for hour_ms in [*(np.unique(readings.t_ms // HOUR_MS) * HOUR_MS + HOUR_MS).tolist(), to_ms]:
                if hour_ms > replay.at_ms:
                    replay.step(min(hour_ms, to_ms), now)
                    await asyncio.sleep(0)  # live batches and heartbeats come first

    async def _know_devices(self, reader: Reader, devices: set[int]) -> None:
        unknown = sorted(devices - self._core.device_keys.keys())
        if unknown:
            self._core.device_keys.update(await reader.device_keys(unknown))

    async def _finish(self, replay: Replay, now_ms: int) -> None:
        """Replay the last stretch, match, write, and put the state in place; the lock is held."""
        held_s = self._now_s()

        async def make(reader: Reader) -> Effects:
            live = self._live(replay.patient_id)
            assert live is not None  # noqa: S101 - nobody else changes the core while the lock is held
            replay.take(await reader.stored(replay.patient_id, replay.read_to_ms, None))
            replay.finish(live)
            return await remade(reader, self._core, replay, now_ms, self._history_ms)

        await self._office.apply(make)
        metrics.REBUILD_LOCK.observe(self._now_s() - held_s)


def _close(replay: Replay, live: Hot) -> bool:
    """Tell whether so little is left to replay that it may be done under the lock."""
    return marks_of(live)[1] - replay.at_ms <= LAST_STRETCH_MS or live.settled_ms // HOUR_MS * HOUR_MS <= replay.at_ms


def _copy(hot: Hot) -> Hot:
    return hot_state.decode(hot_state.encode(hot))
