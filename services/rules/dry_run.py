"""A layer tried on what is stored: each patient replayed with the present layers and with the new one, nothing written.

Both replays are the rebuild's, from the same checkpoint, and part at the instant from which the layer would have held.
Up to there every rule is as it was then; from there on the other layers are what they are now, and profiles, monitoring
states and new normals what they were. Only settled data are looked at, and only what people would have been told:
clinical alerts that neither a monitoring state nor the profile kept quiet. What the clock alone tells is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import psycopg

from detectors.daily import Budget
from detectors.limits import Limits
from detectors.pipeline import Pipeline
from services.layer import Own
from services.processor import hot as hot_state
from services.processor.beginning import beginning
from services.processor.change import PatientChange
from services.processor.core import DAY_MS, HOUR_MS, Core
from services.processor.hot import Hot
from services.processor.readings import Table
from services.processor.reconcile import rebuilt_rows
from services.processor.replay import Replay
from services.rules.compare import Alert, Comparison, Tried
from services.rules.effect import as_now, with_layer
from services.rules.layers import changes_of
from services.store.reader import Reader
from services.store.steps import run_async

SLICE_MS: Final = DAY_MS  # of event time, read at once
_LIMITS = Limits()


class Plan(NamedTuple):
    """What is tried: a layer, on the data of [from, to), both full hours; instants in Unix ms."""

    subject: str
    rules: Own
    from_ms: int
    to_ms: int
    now_ms: int
    silence_ms: int
    budget: Budget


async def dry_run(
    conninfo: str, plan: Plan, patients: Mapping[int, str], comparison: Comparison, done: Callable[[str], None]
) -> None:
    """Try a layer on each of the patients, one at a time, in a transaction that can only read.

    Args:
        conninfo: of a role that may read what the processor keeps.
        plan: what is tried.
        patients: id → key.
        comparison: takes what comes of each.
        done: called with each key when it is done.
    """
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        await connection.set_read_only(True)
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        for patient_id, key in patients.items():
            async with connection.transaction():
                said = await run_async(connection, changes_of([patient_id]))
                comparison.add(key, await tried(Reader(connection), plan, patient_id, said[patient_id]))
            done(key)


async def tried(reader: Reader, plan: Plan, patient_id: int, said: Sequence[PatientChange]) -> Tried:
    """Return what both sets of rules find in one patient's stored readings; ``said``: all that people changed."""
    kept = await reader.hot(patient_id)
    if kept is None:
        return Tried(0)
    now, before = hot_state.decode(kept), as_now(said, plan.from_ms, plan.now_ms)
    cores = [
        _core(patient_id, said, plan.budget)
        for said in (before, with_layer(before, plan.subject, plan.rules, plan.from_ms))
    ]
    start = await beginning(reader, cores[0], patient_id, now, plan.from_ms)
    replays = [Replay(core, patient_id, now, start.checkpoint, start.first_ms, plan.silence_ms) for core in cores]
    days = await _go_through(reader, plan, now, replays)
    return Tried(days, *(_found(plan, replay) for replay in replays))


def _core(patient_id: int, said: Sequence[PatientChange], budget: Budget) -> Core:
    core = Core(Pipeline(budget=budget), _LIMITS, 1, capacity=1)
    core.changes.add(patient_id, said)
    return core


async def _go_through(reader: Reader, plan: Plan, now: Hot, replays: Sequence[Replay]) -> int:
    """Take the same readings through all replays, a day at a time; return how many days of the plan have any."""
    end_ms = min(plan.to_ms, now.settled_ms // HOUR_MS * HOUR_MS)
    at_ms, days = replays[0].read_to_ms, 0
    while at_ms < end_ms:
        to_ms = min((at_ms // SLICE_MS + 1) * SLICE_MS, end_ms)
        readings = await reader.stored(replays[0].patient_id, at_ms, to_ms)
        devices = await reader.device_keys(sorted({*readings.device.tolist(), *now.devices}))
        for replay in replays:
            replay.core.device_keys.update(devices)
            replay.take(Table.concatenate([readings]))  # a copy: each has its own
            if to_ms > replay.at_ms:
                replay.step(to_ms, now)  # however the data are cut, the same is found
        days += len(np.unique(readings.t_ms[readings.t_ms >= plan.from_ms] // DAY_MS))
        at_ms = to_ms
    return days


def _found(plan: Plan, replay: Replay) -> list[Alert]:
    """Return the alerts of a replay that were found within the plan and told."""
    rows = rebuilt_rows(replay.effects.alerts, replay.effects.changes, {}).values()
    return [
        Alert(row.rule, row.priority, row.started_ms, row.resolved_ms)
        for row in rows
        if row.kind == "clinical" and not row.late and plan.from_ms <= row.found_ms < plan.to_ms
    ]
