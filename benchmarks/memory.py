"""What a patient takes in the processor's memory: a week of frames through ``process_batch`` into a real ``Core``.

Nothing is written and nothing is stored yet: the reader is that of an empty database. The week ends in the last minute
of an hour, when most readings wait to be settled.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import Final, NamedTuple

import numpy as np

from benchmarks.watch import START_MS, WORN, minute_means
from detectors.early_warning import EARLY_DTYPE
from detectors.limits import Limits
from detectors.pipeline import Pipeline
from detectors.protocol import HOUR_MS, MINUTE_MS, VITALS
from detectors.weight_gain import WEIGHT_DTYPE
from ingest.catalogue import catalogue
from ingest.frame import STAMPED_VERSION, StampedBlock, StampedFrame, encode
from services import topics
from services.processor.batch import Bounds, process_batch
from services.processor.change import PatientChange
from services.processor.core import Core
from services.processor.records import Record
from services.processor.waiting import count
from services.settings_sections import ProcessorSettings
from services.store.reader import Reader

HOURS: Final = 7 * 24
PEOPLE: Final = 100


class Memory(NamedTuple):
    """Bytes a patient."""

    total: int  # as counted by Python's own allocator, numpy's included
    row: int  # of the own normal, the limits and NEWS2
    pending: int  # readings not settled yet
    readings: float  # how many of them

    @property
    def rest(self) -> int:
        """Return the bytes of the hot state and what leads to it."""
        return self.total - self.row - self.pending


class _NothingStored(Reader):
    """The reader of a database in which everybody is enrolled and nothing is stored."""

    def __init__(self) -> None:
        pass

    async def organisations(self, patient_ids: list[int]) -> dict[int, int]:
        return dict.fromkeys(patient_ids, 1)

    async def changes(self, patient_ids: list[int]) -> dict[int, list[PatientChange]]:
        return {}

    async def device_keys(self, device_ids: list[int]) -> dict[int, str]:
        return {device: f"watch-{device}" for device in device_ids}


def measure(heart_rates: int, people: int = PEOPLE, hours: int = HOURS) -> Memory:
    """Return what each of so many wearers takes after a week of ``heart_rates`` a minute, steps and SpO2."""
    tracemalloc.start()
    try:
        _fed(heart_rates, 1, 12)  # what is made once for everybody is there before the count begins
        before = _traced()
        core = _fed(heart_rates, people, hours)
        total = _traced() - before
    finally:
        tracemalloc.stop()
    return Memory(
        total=round(total / people),
        row=sum(one.itemsize for one in (core.state.dtype, core.limit_state.dtype, EARLY_DTYPE, WEIGHT_DTYPE)),
        pending=round(sum(len(one.runs) + len(one.readings) for one in core.pending) / people),
        readings=sum(map(count, core.pending)) / people,
    )


def _traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _fed(heart_rates: int, people: int, hours: int) -> Core:
    core = Core(Pipeline(), Limits(), 1, capacity=people)
    asyncio.run(_feed(core, heart_rates, people, hours))
    return core


async def _feed(core: Core, heart_rates: int, people: int, hours: int) -> None:
    reader, bounds = _NothingStored(), Bounds.of(ProcessorSettings())
    for seq in range(hours):
        start = START_MS + seq * HOUR_MS - MINUTE_MS
        means = minute_means(start // HOUR_MS * HOUR_MS, people)
        frames = [_frame(patient, seq, start, means[patient], heart_rates) for patient in range(people)]
        records = [
            Record(topics.READINGS, 0, seq * people + frame.patient_id, b"%d" % frame.patient_id, encode(frame))
            for frame in frames
        ]
        effects = await process_batch(records, core, reader, bounds, start + HOUR_MS)
        if effects.dead or effects.quarantined:
            msg = f"frames of hour {seq} were not taken in: {effects.dead[:1]} {effects.quarantined}"
            raise RuntimeError(msg)


def _frame(patient: int, seq: int, start_ms: int, means: np.ndarray, heart_rates: int) -> StampedFrame:
    blocks = []
    for metric in WORN:
        a_minute = heart_rates if metric == "heart_rate" else 1
        values = np.repeat(means[:, VITALS.index(metric)], a_minute).astype("<f4")
        step_us = MINUTE_MS * 1000 // a_minute
        blocks.append(StampedBlock(catalogue()[metric].id, start_ms, step_us, "f4", values.tobytes()))
    received = start_ms + HOUR_MS
    return StampedFrame(
        STAMPED_VERSION, f"watch-{patient}~week~{seq}", 1, patient, patient, "week", seq, received, received, 0, blocks
    )
