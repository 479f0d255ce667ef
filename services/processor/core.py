"""The processor's memory: columnar state, a slot a patient, and each patient's readings that are not settled yet.

Everything here is a pure function of what is stored: it can be dropped at any time and loaded again.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.choices import NOBODYS, Choices
from detectors.limit_sets import Standing
from detectors.limits import Limits
from detectors.pipeline import Pipeline
from detectors.protocol import State
from detectors.windows import Windows
from ingest.partition import partition_of
from services.processor import hot as hot_state
from services.processor.changes import Changes
from services.processor.hot import MONTHLY_DAYS, Hot, HotRow, StateRow
from services.processor.readings import Table
from services.processor.waiting import NOTHING, Packed, pack, unpack

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
QUIET_MS: Final = 30 * 60_000  # a metric this far behind its patient's watermark no longer holds anything up
LATE: Final = -2  # in a pending reading's ``frame``: came after its minute was settled, awaits a rebuild
LOOK_BACK_MS: Final = 15 * 60_000  # the steps that tell whether a heart rate was at rest
_FIRST_CAPACITY: Final = 256


def layout_of(dtype: np.dtype[np.void]) -> int:
    """Return a checksum of a state's layout, so that bytes of another layout are never misread."""
    return zlib.crc32(repr(np.lib.format.dtype_to_descr(dtype)).encode()) & 0x7FFFFFFF


class Core:
    """State of all patients of the owned partitions."""

    def __init__(self, pipeline: Pipeline, limits: Limits, partitions: int, *, capacity: int = _FIRST_CAPACITY) -> None:
        self._capacity = capacity
        self.pipeline = pipeline
        self.limits = limits
        self.partitions = partitions
        self.layout = layout_of(pipeline.dtype)
        self.limits_layout = layout_of(limits.dtype)
        self.former_layouts = frozenset(map(layout_of, limits.former_dtypes))
        self.device_keys: dict[int, str] = {}
        self.changes = Changes(self.device_keys)
        self.erased: set[int] = set()  # patients met since the start of whom nothing may be stored
        self.clear()

    def clear(self) -> None:
        """Forget everybody; ``load`` must be called before the next batch."""
        self.loaded = False
        self.changes.clear()
        self.erased.clear()
        self.named: set[int] = set()  # slots of whom all devices that ever measured are in ``device_keys``
        self.slot_of: dict[int, int] = {}
        self.hot: list[Hot] = []
        self.pending: list[Packed] = []
        self.fed: list[int] = []  # up to where the detectors in memory have been fed; on disk: closed_ms
        self.patient_of: NDArray[np.int32] = np.zeros(self._capacity, np.int32)
        self.state: State = self.pipeline.new_state(self._capacity)
        self.limit_state: State = self.limits.new_state(self._capacity)

    def scratch(self) -> Core:
        """Return an empty core with the same detectors, devices and changes, for a replay beside the live one."""
        beside = Core(self.pipeline, self.limits, self.partitions, capacity=1)
        beside.device_keys, beside.changes = self.device_keys, self.changes
        return beside

    def place(self, patient_id: int, hot: Hot) -> int:
        """Give a patient a slot, starting afresh, and return it."""
        slot = len(self.hot)
        if slot == len(self.patient_of):
            self._grow()
        self.slot_of[patient_id] = slot
        self.patient_of[slot] = patient_id
        self.hot.append(hot)
        self.pending.append(NOTHING)
        self.fed.append(hot.closed_ms)
        self.state[slot] = np.zeros((), self.pipeline.dtype)
        self.limit_state[slot] = np.zeros((), self.limits.dtype)
        return slot

    def load(self, rows: list[StateRow]) -> dict[int, int]:
        """Take kept states in; return patient → the instant from which its stored readings are needed again."""
        self.clear()
        self.loaded = True
        since = {}
        for row in rows:
            hot = hot_state.decode(row.hot)
            slot = self.place(row.patient_id, hot)
            if row.state is not None and row.layout == self.layout:
                self.state[slot] = np.frombuffer(row.state, self.pipeline.dtype)[0]
            elif row.state is not None:  # another version's: what is usual is learned anew from the stored readings
                hot_state.mark_dirty(hot, hot.settled_ms - MONTHLY_DAYS * DAY_MS)
                hot.anew_ms = hot.closed_ms if hot.anew_ms is None else hot.anew_ms
            self.take_limits(slot, hot)
            since[row.patient_id] = self.needed_from(hot)
            self.changes.add(row.patient_id, row.changes)
        return since

    def take_limits(self, slot: int, hot: Hot) -> None:
        """Take the safety limits' state from a hot row, also from one that a former version kept."""
        if hot.limits and hot.layout == self.limits_layout:
            self.limit_state[slot] = np.frombuffer(hot.limits, self.limits.dtype)[0]
        elif hot.limits and hot.layout in self.former_layouts:
            self.limit_state[slot] = self.limits.restore_former(hot.limits)

    def standing(self, rows: Mapping[int, int]) -> Standing | None:
        """Return which limits hold for whom and when; ``rows``: row of the readings → slot. None: everybody's."""
        own = self.changes.limits
        if not own:
            return None
        patients = {row: int(self.patient_of[slot]) for row, slot in rows.items()}
        timelines = {row: own[patient] for row, patient in patients.items() if patient in own}
        return Standing(self.limits.everybody, timelines) if timelines else None

    def windows(self, rows: Mapping[int, int]) -> Windows | None:
        """Return how far whose heart rate is expected to change, and when; ``rows`` as above. None: nobody's."""
        patients = {row: int(self.patient_of[slot]) for row, slot in rows.items()} if self.changes.windows else {}
        timelines = {
            row: own for row, patient in patients.items() if (own := self.changes.windows.get(patient)) is not None
        }
        return Windows(timelines) if timelines else None

    def choices(self, slots: Iterable[int]) -> Choices:
        """Return by which bounds and budget rules against the own normal judge these patients, and when."""
        own = self.changes.choices
        patients = {slot: int(self.patient_of[slot]) for slot in slots} if own else {}
        timelines = {slot: own[patient] for slot, patient in patients.items() if patient in own}
        return Choices(timelines) if timelines else NOBODYS

    def forget(self, patient_id: int) -> None:
        """Let go of an erased patient; the place stays empty until the next load."""
        self.erased.add(patient_id)
        self.changes.forget(patient_id)
        slot = self.slot_of.pop(patient_id, None)
        if slot is not None:
            self.hot[slot], self.pending[slot], self.fed[slot], self.patient_of[slot] = Hot(0), NOTHING, 0, 0
            self.state[slot] = np.zeros((), self.pipeline.dtype)
            self.limit_state[slot] = np.zeros((), self.limits.dtype)

    def take_pending(self, readings: Table) -> None:
        """Hand back the readings asked for by ``load`` (``slot`` holds patient ids)."""
        readings.slot[:] = [self.slot_of[patient_id] for patient_id in readings.slot.tolist()]
        slots = np.unique(readings.slot).tolist()
        for slot in slots:
            for metric, instants in self.hot[slot].late.items():
                late = (readings.slot == slot) & (readings.metric == metric) & np.isin(readings.t_ms, instants)
                readings.frame[late] = LATE
        self.let_wait(slots, readings)

    def waiting(self, slots: Sequence[int]) -> Table:
        """Return the readings of these patients that are not settled yet."""
        return unpack([self.pending[slot] for slot in slots], slots)

    def let_wait(self, slots: Sequence[int], readings: Table) -> None:
        """Keep these readings in memory, and no other of these patients."""
        for slot, packed in zip(slots, pack(readings, slots), strict=True):
            self.pending[slot] = packed

    def trim(self, slots: Sequence[int], work: Table) -> None:
        """Keep in memory what of these patients' readings is not settled yet."""
        bound = np.zeros(len(self.hot), np.int64)
        for slot in slots:
            bound[slot] = self.needed_from(self.hot[slot])
        self.let_wait(slots, work[work.t_ms >= bound[work.slot]])

    def keep(self, slot: int, closed: tuple[int, bytes] | None) -> HotRow:
        """Return what is to be stored of a patient; ``closed``: end of its last hour and the baseline row at it."""
        hot = self.hot[slot]
        day = 0 if closed is None else closed[0] // DAY_MS
        checkpoint = day > hot.checkpoint_day
        hot.checkpoint_day = max(day, hot.checkpoint_day)
        limits = self.limit_state[slot]
        hot.limits = limits.tobytes() if limits != np.zeros((), self.limits.dtype) else b""
        hot.layout = self.limits_layout
        patient_id = int(self.patient_of[slot])
        return HotRow(
            patient_id=patient_id,
            partition=partition_of(patient_id, self.partitions),
            hot=hot_state.encode(hot),
            settled_ms=hot.settled_ms,
            dirty_ms=hot.dirty_ms,
            baseline=None if closed is None else closed[1],
            layout=self.layout,
            checkpoint_day=day if checkpoint else None,
        )

    @staticmethod
    def needed_from(hot: Hot) -> int:
        """Return the instant before which nothing of a patient is needed in memory any more."""
        open_hour = min(hot.settled_ms, hot.closed_ms or hot.settled_ms) // HOUR_MS * HOUR_MS
        return min(open_hour, hot.settled_ms - QUIET_MS - LOOK_BACK_MS)

    def _grow(self) -> None:
        extra = len(self.patient_of)
        self.patient_of = np.concatenate([self.patient_of, np.zeros(extra, np.int32)])
        self.state = np.concatenate([self.state, self.pipeline.new_state(extra)])
        self.limit_state = np.concatenate([self.limit_state, self.limits.new_state(extra)])
