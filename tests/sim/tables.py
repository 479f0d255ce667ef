"""The tables the processor's transactions read and write, and what a transaction's writes do to them.

A transcription of `services.store.writer` and the modules it calls, for rows in memory. What the model does not
know it refuses, so that a new kind of effect is not silently left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from ingest.clock import to_datetime
from ingest.partition import record_key
from services import topics
from services.processor.hot import HotRow
from services.processor.readings import Table
from services.processor.records import AlertChange, AlertRow, ControlRecord, Corrections, Effects, Remade, Suppressed
from services.store import alerts
from services.store.kept import day_of
from services.store.writer import merged_fates

Place = tuple[str, int]
Key = tuple[int, int, int, int]  # patient, metric, device, instant

KNOWN: Final = frozenset(
    "recorded_ms positions stored corrections conflicts quarantined waveforms fates dead control suppressed rollups "
    "bands days states last_values alerts changes revisions events silences touched closed remade".split()
)


@dataclass(slots=True)
class EventRow:
    """One row of ``alert_event``."""

    id: int
    xid: int
    patient_id: int
    alert_id: UUID
    change: str
    priority: str
    late: bool
    at_ms: int
    sentence: str


@dataclass(slots=True)
class OutboxRow:
    """One row of ``outbox``."""

    id: int
    partition: int
    topic: str
    key: bytes
    value: bytes
    sent: bool = False


@dataclass
class Tables:
    """What is committed."""

    patients: dict[int, int] = field(default_factory=dict)  # patient → organisation
    devices: dict[int, str] = field(default_factory=dict)
    positions: dict[Place, tuple[int, int]] = field(default_factory=dict)  # (next offset, epoch)
    owners: list[tuple[Place, int, str]] = field(default_factory=list)
    readings: dict[int, Table] = field(default_factory=dict)  # by patient, ``slot`` holds the patient
    stored: set[Key] = field(default_factory=set)
    conflicts: dict[tuple[int, int, int, int, float], str] = field(default_factory=dict)
    quarantined: dict[tuple[int, int, int, int, float], str] = field(default_factory=dict)
    revisions: dict[Key, int] = field(default_factory=dict)
    superseded: dict[tuple[int, int, int, int, int], float] = field(default_factory=dict)
    frames: dict[str, dict[str, int]] = field(default_factory=dict)
    dead: dict[tuple[str, int, int], tuple[str, bytes]] = field(default_factory=dict)
    control: dict[tuple[str, int, int], ControlRecord] = field(default_factory=dict)
    suppressed: dict[tuple[int, str, int], Suppressed] = field(default_factory=dict)
    rollups: dict[tuple[int, int, int, int], tuple[float, ...]] = field(default_factory=dict)
    bands: dict[tuple[Any, ...], tuple[Any, ...]] = field(default_factory=dict)
    days: dict[tuple[Any, ...], tuple[Any, ...]] = field(default_factory=dict)
    states: dict[tuple[int, int], tuple[Any, ...]] = field(default_factory=dict)
    alerts: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    events: list[EventRow] = field(default_factory=list)
    outbox: list[OutboxRow] = field(default_factory=list)
    changed: list[tuple[int, str, str]] = field(default_factory=list)  # patient, kind, subject, a row a version
    silences: set[tuple[int, int]] = field(default_factory=set)
    hot: dict[int, HotRow] = field(default_factory=dict)
    baselines: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    checkpoints: dict[tuple[int, int], HotRow] = field(default_factory=dict)
    twice: list[Key] = field(default_factory=list)  # readings that were stored although they were there


def check_known(effects: Effects) -> None:
    """Raise NotImplementedError where a batch has a kind of effect this model doesn't know."""
    unknown = {one.name for one in fields(effects) if one.name not in KNOWN and len(getattr(effects, one.name))}
    if unknown:
        msg = f"effects {sorted(unknown)} are not in the simulation's tables; add them to tests/sim/tables.py"
        raise NotImplementedError(msg)


def apply(
    tables: Tables, effects: Effects, hot: list[HotRow], patient_of: NDArray[np.int32], ids: Iterable[int], xid: int
) -> None:
    """Write a batch's effects; ``ids`` are the numbers its rows were given when they were inserted."""
    numbers = iter(ids)
    _measured(tables, effects, patient_of)
    for remade in effects.remade:
        _remake(tables, remade)
    _found(tables, effects)
    for row in effects.alerts:
        _raise(tables, row)
    for change in effects.changes:
        _change(tables, change)
    for row, revised_by, void in effects.revisions:
        old = tables.alerts[row.id]
        new = {name: getattr(row, name) for name in AlertRow.__slots__}
        acknowledged = old["acknowledged"] and not void
        tables.alerts[row.id] = {**new, "acknowledged": acknowledged, "revised_by": revised_by}
    partition_of = {row.patient_id: row.partition for row in hot}
    for event in effects.events:
        tables.events.append(
            EventRow(next(numbers), xid, event.patient_id, event.alert_id, event.change, event.priority, event.late,
                     event.at_ms, event.sentence)
        )  # fmt: skip
        tables.outbox.append(
            OutboxRow(next(numbers), partition_of[event.patient_id], topics.ALERTS, record_key(event.patient_id),
                      alerts.record(event))
        )  # fmt: skip
    for dead in effects.dead:
        value = alerts.dead_record(dead)
        tables.outbox.append(
            OutboxRow(next(numbers), dead.record.partition, topics.DEAD, dead.record.key or b"", value)
        )
    _keep(tables, hot)


def numbers_needed(effects: Effects) -> int:
    """Return how many sequence numbers a batch's rows take."""
    return 2 * len(effects.events) + len(effects.dead)


def _measured(tables: Tables, effects: Effects, patient_of: NDArray[np.int32]) -> None:
    _store(tables, effects.stored, patient_of)
    _correct(tables, effects.corrections, patient_of)
    names = [fate.frame_id for fate in effects.fates]
    for kept, rows in ((tables.conflicts, effects.conflicts), (tables.quarantined, effects.quarantined)):
        for s, m, d, t, v, f in zip(*(getattr(rows, c).tolist() for c in
                                      ("slot", "metric", "device", "t_ms", "value", "frame")), strict=True):  # fmt: skip
            kept.setdefault((int(patient_of[s]), m, d, t, v), names[f])
    for fate in merged_fates(effects.fates):
        counts = ("deliveries", "stored", "duplicate", "conflict", "corrected", "quarantined", "late")
        row = tables.frames.setdefault(fate.frame_id, dict.fromkeys(counts, 0) | {"patient": fate.patient_id})
        for name in counts:
            row[name] += getattr(fate, name)
    for dead in effects.dead:
        place = (dead.record.topic, dead.record.partition, dead.record.offset)
        tables.dead.setdefault(place, (dead.reason, dead.record.value))
    for one in effects.control:
        place = (one.record.topic, one.record.partition, one.record.offset)
        tables.control.setdefault(place, one)
    for held in effects.suppressed:
        tables.suppressed.setdefault((held.patient_id, held.rule, held.start_ms), held)


def _store(tables: Tables, stored: Table, patient_of: NDArray[np.int32]) -> None:
    if not len(stored):
        return
    patients = patient_of[stored.slot]
    columns = (patients.tolist(), stored.metric.tolist(), stored.device.tolist(), stored.t_ms.tolist())
    for key in zip(*columns, strict=True):
        if key in tables.stored:
            tables.twice.append(key)
        tables.stored.add(key)
    for patient in np.unique(patients).tolist():
        rows = stored[patients == patient]
        rows.slot[:] = patient
        rows.frame[:] = -1
        before = tables.readings.get(patient)
        tables.readings[patient] = rows if before is None else Table.concatenate([before, rows])


def _correct(tables: Tables, corrections: Corrections, patient_of: NDArray[np.int32]) -> None:
    rows = corrections.rewritten
    for i in range(len(rows)):
        table = tables.readings[int(patient_of[rows.slot[i]])]
        hit = (table.t_ms == rows.t_ms[i]) & (table.metric == rows.metric[i]) & (table.device == rows.device[i])
        if not hit.any():
            msg = f"a correction at {int(rows.t_ms[i])} ms finds no stored reading"
            raise LookupError(msg)
        table.value[hit], table.quality[hit] = rows.value[i], rows.quality[i]
    for old in corrections.superseded:
        key = (old.patient_id, old.metric_id, old.device_id, old.t_ms, old.revision)
        tables.superseded.setdefault(key, old.value)
    for *place, revision in corrections.revisions:
        tables.revisions[place[0], place[1], place[2], place[3]] = revision
    for key_and_value in corrections.settled:
        tables.conflicts.pop(key_and_value, None)


def _found(tables: Tables, effects: Effects) -> None:
    for rollup in effects.rollups:
        columns = (rollup.patient.tolist(), rollup.metric.tolist(), rollup.t0_ms.tolist(), rollup.n.tolist(),
                   rollup.low.tolist(), rollup.high.tolist(), rollup.mean.tolist(), rollup.q10.tolist(),
                   rollup.q90.tolist())  # fmt: skip
        for patient, metric, t0, *values in zip(*columns, strict=True):
            tables.rollups[patient, metric, rollup.bucket_s, t0] = tuple(values)
    for row in effects.bands:
        tables.bands.setdefault(row[:4], row[4:])
    for row in effects.days:
        tables.days.setdefault(row[:4], row[4:])
    for row in effects.states:
        last = tables.states.get((row[1], row[2]), (None,) * 5)[3:]
        tables.states[row[1], row[2]] = (*row[3:], *last)
    for patient, metric, value, t_ms in effects.last_values:
        state = tables.states.get((patient, metric))
        if state is not None and (state[4] is None or state[4] <= t_ms):
            tables.states[patient, metric] = (*state[:3], value, t_ms)
    tables.silences.update(effects.silences)


def _remake(tables: Tables, remade: Remade) -> None:
    """Delete what a rebuild makes anew, and put its checkpoints in place."""
    patient, since = remade.patient_id, to_datetime(remade.bands_from_ms)
    tables.bands = {key: row for key, row in tables.bands.items() if key[0] != patient or key[3] < since}
    tables.days = {key: row for key, row in tables.days.items() if key[0] != patient or key[3] < remade.days_from}
    tables.suppressed = {
        key: one for key, one in tables.suppressed.items() if key[0] != patient or one.at_ms < remade.suppressed_from_ms
    }
    tables.checkpoints = {
        key: one
        for key, one in tables.checkpoints.items()
        if key[0] != patient or day_of(key[1]) < remade.checkpoints_from
    }
    for _, day, hot, state, layout in remade.checkpoints:
        number = (day - day_of(0)).days
        row = HotRow(patient, 0, hot, 0, None, state, layout, number)
        tables.checkpoints[patient, number] = row


def _raise(tables: Tables, row: AlertRow) -> None:
    new = {name: getattr(row, name) for name in AlertRow.__slots__}
    old = tables.alerts.get(row.id)
    if old is None:
        tables.alerts[row.id] = {**new, "acknowledged": False, "revised_by": None}
        return
    replaced = ("priority", "state", "provisional", "late", "found_ms", "last_evidence_ms", "unknown_since_ms", "resolved_ms",
                "sentence", "patient_sentence", "evidence")  # fmt: skip
    tables.alerts[row.id] = {**old, **{name: new[name] for name in replaced}, "acknowledged": False}


def _change(tables: Tables, change: AlertChange) -> None:
    row = tables.alerts.get(change.id)
    if row is None:
        return
    row = dict(row)
    set_by: dict[str, dict[str, Any]] = {
        "raised": {"late": False},
        "settled": {"provisional": False, "found_ms": change.at_ms},
        "worsened": {"acknowledged": False},
        "withdrawn": {"state": "withdrawn", "provisional": False},
        "unknown": {"unknown_since_ms": change.at_ms},
        "known": {"unknown_since_ms": None},
        "resolved": {
            "state": "resolved", "provisional": False, "unknown_since_ms": None, "resolved_ms": change.at_ms,
        },
    }  # fmt: skip
    row.update(set_by[change.change])
    for name in ("priority", "sentence", "patient_sentence", "evidence"):
        value = getattr(change, name)
        if value is not None:
            row[name] = value
    row["last_evidence_ms"] = max(row["last_evidence_ms"], change.at_ms)
    tables.alerts[change.id] = row


def _keep(tables: Tables, hot: list[HotRow]) -> None:
    for row in hot:
        tables.hot[row.patient_id] = row
        if row.baseline is not None:
            tables.baselines[row.patient_id] = (row.baseline, row.layout)
        if row.checkpoint_day is not None:
            tables.checkpoints.setdefault((row.patient_id, row.checkpoint_day), row)


def move(tables: Tables, positions: dict[Place, int]) -> None:
    """Set the next offsets."""
    for place, offset in positions.items():
        tables.positions[place] = (offset, tables.positions[place][1])


def when(ms: int) -> str:
    """Return an instant as people read it."""
    return to_datetime(ms).strftime("%d %H:%M:%S")
