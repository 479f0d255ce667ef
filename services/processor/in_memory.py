"""The processor's own code driven in memory over whole recordings: no broker, no database, nothing of it replaced.

Readings are settled day by day through ``safety`` and ``settle``, as in a replay after all data came in time. A day at
a time gives what minute by minute gives: results never depend on how the input is cut. The technical rules are left
out: they are about a device, and a recording has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from detectors.daily import Budget
from detectors.device_classes import UNKNOWN
from detectors.limits import Limits
from detectors.pipeline import Pipeline
from detectors.protocol import LIMIT_METRICS, VITALS, HourSlice, Readings
from detectors.scores.observations import PARAMETERS
from ingest.catalogue import catalogue
from ingest.frame import NOT_WORN
from services.processor import safety, scoring, settle
from services.processor.change import PatientChange
from services.processor.changes import CLASS
from services.processor.core import DAY_MS, HOUR_MS, Core
from services.processor.episodes import Engine
from services.processor.hot import Hot
from services.processor.readings import Table
from services.processor.records import AlertRow, Effects
from services.processor.technical import ALL_RULES

LOOKED_AT: Final = frozenset({*VITALS, *LIMIT_METRICS, *PARAMETERS, "wear"})
"""The metrics that a rule looks at."""

DEVICE: Final = "the device"
_LIMITED: Final = [catalogue()[metric].id for metric in LIMIT_METRICS]

Offsets = Sequence[tuple[int, int]]  # (from which instant on, the wearer's local time minus UTC in minutes), in order


@dataclass(frozen=True, slots=True)
class Day:
    """One day of everybody, from each one's own first hour on."""

    number: int  # from 1 on
    of: int
    effects: Effects  # what the processor would write of it; patients are numbered by their place
    slices: list[HourSlice]  # its settled hours
    work: Table  # its readings, and those before it that they are judged with
    from_ms: NDArray[np.int64]  # (N,) where each one's day begins

    def readings(self) -> Readings:
        """Return its readings as the safety limits look at them."""
        work = self.work[self.work.quality != NOT_WORN]
        every = safety.readings_of(work.sorted(work.slot, work.t_ms, work.metric, work.device))
        new = every.t_ms >= self.from_ms[every.row]
        return Readings(*(getattr(every, field.name)[new] for field in fields(every)))


def days(
    people: Sequence[Table], offsets: Sequence[Offsets], budget: Budget = "0.1", device_class: str = UNKNOWN
) -> Iterator[Day]:
    """Yield what the processor makes of N people's readings, all in time, side by side.

    ``people``: each one's readings sorted by instant, ``slot`` being the person's place. ``budget``: that
    of the processor's settings. ``device_class`` that of everybody's devices; a recording does not tell it.
    """
    core = Core(Pipeline(budget=budget), Limits(), 1, capacity=max(len(people), 1))
    starts = [int(table.t_ms[0]) // HOUR_MS * HOUR_MS if len(table) else 0 for table in people]
    for slot, start in enumerate(starts):
        hot = Hot(organisation_id=0, settled_ms=start, closed_ms=start, offsets=[*offsets[slot]])
        core.place(slot, hot)
        core.changes.add(slot, [PatientChange(0, slot, "assignment", DEVICE, {CLASS: device_class}, None)])
    core.device_keys.update({int(one): DEVICE for table in people for one in np.unique(table.device)})
    # Everybody begins together: day k is each one's own k-th.
    of = max((_days(table, start) for table, start in zip(people, starts, strict=True)), default=0)
    for number in range(1, of + 1):
        marks = [start + number * DAY_MS for start in starts]
        new = []
        for mark, table in zip(marks, people, strict=True):
            low, high = np.searchsorted(table.t_ms, [mark - DAY_MS, mark])
            new.append(table[slice(int(low), int(high))])
        yield _settle(core, Table.concatenate(new), marks, number, of)


def _days(table: Table, start_ms: int) -> int:
    return int(table.t_ms[-1] - start_ms) // DAY_MS + 2 if len(table) else 0  # one more: the last day must close


def _settle(core: Core, new: Table, marks: list[int], number: int, of: int) -> Day:
    """Settle everybody up to their marks, by what waits and what is new."""
    effects = Effects(recorded_ms=0)
    engine = Engine(ALL_RULES, effects, 0, core.changes)
    slots = list(range(len(marks)))
    before = {(slot, metric): mark for slot in slots for metric, mark in core.hot[slot].judged.items()}
    for slot, mark in enumerate(marks):
        core.hot[slot].settled_ms = mark
        core.hot[slot].judged = dict.fromkeys(_LIMITED, mark)
    work = Table.concatenate([core.waiting(slots), new])
    safety.judge(core, engine, work[work.quality != NOT_WORN], before, slots)
    scoring.judge(core, engine, work, slots)
    slices, _ = settle.settle(core, engine, effects, work, slots)
    core.trim(slots, work)
    return Day(number, of, effects, slices, work, np.array(marks, np.int64) - DAY_MS)


class Told:
    """The alerts of everybody as they stand after the days taken in so far."""

    def __init__(self, people: int) -> None:
        self._open: dict[UUID, AlertRow] = {}
        self._all: list[list[AlertRow]] = [[] for _ in range(people)]
        self._worse: dict[UUID, list[int]] = {}

    def take(self, effects: Effects) -> None:
        """Take in a day's alerts and what became of them; an identity may come back after it was resolved."""
        for row in effects.alerts:
            self._open[row.id] = row
            self._all[row.patient_id].append(row)
        for change in effects.changes:
            row = self._open[change.id]
            if change.change == "withdrawn":
                self._all[row.patient_id].remove(row)
            elif change.change == "resolved":
                row.state, row.resolved_ms = "resolved", change.at_ms
            else:
                if change.change == "worsened":
                    self._worse.setdefault(change.id, []).append(change.at_ms)
                row.last_evidence_ms = change.at_ms
                row.priority = change.priority or row.priority
                row.evidence = change.evidence or row.evidence
                row.sentence = change.sentence or row.sentence
                row.patient_sentence = change.patient_sentence or row.patient_sentence

    def of(self, slot: int) -> list[AlertRow]:
        """Return one person's alerts in the order in which they were told."""
        return sorted(self._all[slot], key=lambda row: row.found_ms)

    def worse(self, row: AlertRow) -> tuple[int, ...]:
        """Return the instants (Unix ms) at which an alert was told to have become worse."""
        return tuple(self._worse.get(row.id, ()))


def tell(people: Sequence[Table], offsets: Sequence[Offsets]) -> list[list[AlertRow]]:
    """Return each person's alerts; who wants more than that goes through ``days``."""
    told = Told(len(people))
    for day in days(people, offsets):
        told.take(day.effects)
    return [told.of(slot) for slot in range(len(people))]
