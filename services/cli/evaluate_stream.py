"""The processor's own code driven in memory, for the evaluation: no broker, no database, nothing of it replaced.

Readings are settled day by day through ``services.processor.safety`` and ``settle``, as in a replay after all data came
in time. A day at a time gives what minute by minute gives: results never depend on how the input is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, Final
from uuid import UUID

import numpy as np

from detectors.daily import Budget
from detectors.limits import Limits
from detectors.pipeline import Pipeline
from detectors.protocol import LIMIT_METRICS, VITALS
from evaluation.heard import Alert, Heard, Nights, Streams
from ingest.catalogue import catalogue
from ingest.frame import NOT_WORN
from services.processor import safety, settle
from services.processor.core import DAY_MS, HOUR_MS, Core
from services.processor.episodes import Engine
from services.processor.hot import Hot
from services.processor.readings import Table
from services.processor.records import Effects
from services.processor.technical import ALL_RULES

EPOCH: Final = date(1970, 1, 1).toordinal()
HEART: Final = catalogue()["heart_rate"].id
LIMITED: Final = [catalogue()[metric].id for metric in LIMIT_METRICS]


def process(
    people: Sequence[Streams],
    offsets_min: Sequence[int],
    told: Callable[[int, int], None] = lambda *_: None,
    budget: Budget = "0.1",
) -> list[Heard]:
    """Return what the processor says of N people's readings, all in time, side by side.

    ``told`` hears how many days are done, of how many; ``budget`` is that of the processor's settings. Metrics that no
    detector looks at are left out.
    """
    tables = [_table(slot, streams) for slot, streams in enumerate(people)]
    core = Core(Pipeline(budget=budget), Limits(), 1, capacity=max(len(people), 1))
    first = [int(table.t_ms.min()) // HOUR_MS * HOUR_MS if len(table) else 0 for table in tables]
    for slot, offset in enumerate(offsets_min):
        start = first[slot]
        core.place(slot, Hot(organisation_id=0, settled_ms=start, closed_ms=start, utc_offset_min=offset))
    effects = Effects(recorded_ms=0)
    engine = Engine(ALL_RULES, effects, 0, core.changes)
    alerts: list[dict[UUID, Alert]] = [{} for _ in people]  # by slot; the newest of an identity
    over: list[list[Alert]] = [[] for _ in people]
    # Everybody begins together: step k is each one's own day k.
    steps = max((_days(table, start) for table, start in zip(tables, first, strict=True)), default=0)
    hours: list[list[Any]] = [[] for _ in people]
    for step in range(steps):
        for slot, table in enumerate(tables):
            low, high = np.searchsorted(table.t_ms, first[slot] + np.array([step, step + 1]) * DAY_MS)
            core.pending[slot].append(table[slice(int(low), int(high))])
        for hour in _settle(core, engine, effects, [start + (step + 1) * DAY_MS for start in first]):
            for row, hour_ms in zip(hour.rows.tolist(), hour.hour_ms.tolist(), strict=True):
                hours[row].append(hour_ms)
        _collect(effects, alerts, over)
        told(step + 1, steps)
    return [
        Heard(
            alerts=sorted([*over[slot], *alerts[slot].values()], key=lambda alert: alert.found_ms),
            nights=_nights(effects, slot),
            hours=np.array(hours[slot], np.int64),
        )
        for slot in range(len(people))
    ]


def _collect(effects: Effects, alerts: list[dict[UUID, Alert]], over: list[list[Alert]]) -> None:
    """Take a step's alerts and what became of them; an identity may come back after it was resolved."""
    for row in effects.alerts:
        mine = alerts[row.patient_id]
        if row.id in mine:
            over[row.patient_id].append(mine[row.id])
        mine[row.id] = Alert(row.rule, row.kind, row.started_ms, row.found_ms, None)
    for change in effects.changes:
        mine = next((one for one in alerts if change.id in one), {})
        if change.change == "withdrawn":
            mine.pop(change.id, None)
        elif change.change == "resolved" and change.id in mine:
            mine[change.id] = mine[change.id]._replace(end_ms=change.at_ms)
    effects.alerts.clear()
    effects.changes.clear()


def _settle(core: Core, engine: Engine, effects: Effects, marks: list[int]) -> list[Any]:
    """Settle everybody up to their marks; return the slices."""
    slots = list(range(len(marks)))
    before = {(slot, metric): mark for slot in slots for metric, mark in core.hot[slot].judged.items()}
    for slot, mark in enumerate(marks):
        core.hot[slot].settled_ms = mark
        core.hot[slot].judged = dict.fromkeys(LIMITED, mark)
    work = Table.concatenate([Table.concatenate(core.pending[slot]) for slot in slots])
    safety.judge(core, engine, work[work.quality != NOT_WORN], before, slots)
    slices, _ = settle.settle(core, engine, effects, work, slots)
    for slot in slots:
        kept = work[(work.slot == slot) & (work.t_ms >= Core.needed_from(core.hot[slot]))]
        core.pending[slot] = [kept]
    effects.rollups.clear()
    effects.bands.clear()
    effects.events.clear()
    effects.closed.clear()
    return slices


def _table(slot: int, streams: Streams) -> Table:
    """Return one person's readings as one device's, sorted by instant."""
    parts = []
    for metric, stream in streams.items():
        if metric not in VITALS and metric not in LIMIT_METRICS and metric != "wear":
            continue
        n = len(stream.t_ms)
        parts.append(
            Table(
                np.full(n, slot, np.intp), np.ones(n, np.int32), np.full(n, catalogue()[metric].id, np.int16),
                stream.t_ms, stream.value, stream.quality, np.full(n, -1, np.int32),
            )
        )  # fmt: skip
    table = Table.concatenate(parts)
    return table.sorted(table.t_ms, table.metric)


def _days(table: Table, start_ms: int) -> int:
    return int(table.t_ms[-1] - start_ms) // DAY_MS + 2 if len(table) else 0  # one more: the last day must close


def _nights(effects: Effects, slot: int) -> Nights:
    nights = [row for row in effects.days if row[0] == slot and row[1] == HEART and row[2] == "asleep"]
    column = list(zip(*nights, strict=True)) or [()] * 12
    return Nights(
        day=np.array([day.toordinal() - EPOCH for day in column[3]], np.int32),
        value=np.array(column[4], np.float64),
        center=np.array(column[6], np.float64),
        spread=np.array(column[7], np.float64),
        n_days=np.array(column[8], np.int32),
        z=np.array(column[9], np.float64),
        learned=np.array(column[11], bool),
    )
