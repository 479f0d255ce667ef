"""A value that can't be true, would be plausible in another unit, and would be dangerous if it were true: ask at once.

It is quarantined, never converted and never a reading. A low-priority clinical alert asks somebody to look; it ends at
the next good reading of the metric, once that one is settled. Bounds are event times taken from everything stored, so
frames that overtake each other within the reordering bound give the same episodes; a value that was quarantined
before raises nothing again.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.limits import dangerous
from detectors.protocol import Evidence, Finding
from detectors.rules import CHECK_VALUE
from ingest.catalogue import Metric, by_id, catalogue
from ingest.frame import GOOD, UNIT_SUSPECTED
from ingest.units import suspicion
from services.processor import watermark
from services.processor.core import DAY_MS, Core
from services.processor.episodes import Engine
from services.processor.hot import Episode
from services.processor.lateness import Revealed
from services.processor.readings import Table
from services.store.reader import Reader, Span

METRICS: Final = [catalogue()[metric].id for metric in CHECK_VALUE]
RULES: Final = frozenset(rule.id for rule in CHECK_VALUE.values())
LOOK_AHEAD_MS: Final = 2 * DAY_MS  # a good reading after a value is looked for this far
MAX_EPISODES: Final = 100  # of one metric that settle in one batch


class Value(NamedTuple):
    """One value: where it stands, what it was, which device sent it."""

    t_ms: int
    value: float
    device: int


async def ask(
    core: Core,
    engine: Engine,
    reader: Reader,
    quarantined: Table,
    stored: Table,
    offsets: list[int],
    received: list[int],
) -> None:
    """Raise for new suspicious values. Before the watermarks advance.

    Args:
        core: the state; episodes of the slots are changed.
        engine: takes the findings.
        reader: reads what is stored, without this batch.
        quarantined: this batch's quarantined values.
        stored: this batch's new readings.
        offsets: each frame's UTC offset of the wearer, minutes.
        received: each frame's time of receipt: an old value is listed, never paged.
    """
    suspects = _suspects(quarantined)
    if not len(suspects):
        return
    new = suspects[await _unknown(core, reader, suspects)]
    new = new.sorted(new.slot, new.metric, new.t_ms, new.device)
    for i in range(len(new)):
        slot, metric = int(new.slot[i]), by_id()[int(new.metric[i])]
        one = Value(int(new.t_ms[i]), float(new.value[i]), int(new.device[i]))
        offset_min = offsets[int(new.frame[i])]
        if not dangerous(core.limits.limits, metric.key, one.value):
            continue
        if one.t_ms < watermark.judged_to(core.hot[slot], metric.id):
            await _list_late(core, engine, reader, stored, slot, metric, one, offset_min)
        else:
            _raise(core, engine, slot, metric, one, offset_min, Revealed(0, received[int(new.frame[i])]))


async def settle(
    core: Core, engine: Engine, reader: Reader, quarantined: Table, stored: Table, slots: list[int]
) -> None:
    """End what good settled readings end. After the watermarks advanced; arguments as of `ask`."""
    for slot in slots:
        hot = core.hot[slot]
        for episode in [e for e in hot.episodes if e.rule in RULES]:
            metric, offset_min = by_id()[episode.metric_id], hot.utc_offset_min
            until = watermark.judged_to(hot, metric.id)
            bad = _mine(_suspects(quarantined), slot, metric)
            open_one: Episode | None = episode
            for _ in range(MAX_EPISODES):
                if open_one is None:
                    break
                after = await _next_good(core, reader, stored, slot, metric, open_one.start_ms, until)
                if after is None:
                    break
                revealed = engine.revealed(slot, after.t_ms, metric.id)
                if revealed is not None:
                    engine.tell_if_live(hot, int(core.patient_of[slot]), slot, open_one, before=revealed.place)
                engine.resolve(hot, int(core.patient_of[slot]), open_one, after.t_ms, _back(core, metric, after))
                again = await _next_bad(core, reader, bad, slot, metric, after.t_ms)
                open_one = None if again is None else _raise(core, engine, slot, metric, again, offset_min, revealed)


def _suspects(quarantined: Table) -> Table:
    return quarantined[(quarantined.quality == UNIT_SUSPECTED) & np.isin(quarantined.metric, METRICS)]


def _mine(table: Table, slot: int, metric: Metric) -> Table:
    return table[(table.slot == slot) & (table.metric == metric.id)]


async def _unknown(core: Core, reader: Reader, suspects: Table) -> NDArray[np.bool_]:
    patients = sorted({int(core.patient_of[slot]) for slot in suspects.slot.tolist()})
    kept = await reader.quarantined(patients, int(suspects.t_ms.min()), int(suspects.t_ms.max()))
    columns = (core.patient_of[suspects.slot], suspects.metric, suspects.device, suspects.t_ms, suspects.value)
    new = np.zeros(len(suspects), bool)
    for i, key in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        new[i] = key not in kept
        kept.add(key)  # the same value may come twice in one batch
    return new


def _raise(
    core: Core, engine: Engine, slot: int, metric: Metric, one: Value, offset_min: int, revealed: Revealed | None
) -> Episode | None:
    """Open an episode at a value, or let it join the open one; return the one that is open now."""
    hot, patient_id, rule = core.hot[slot], int(core.patient_of[slot]), CHECK_VALUE[metric.key].id
    episode = next((e for e in hot.episodes if e.rule == rule), None)
    if episode is not None and episode.start_ms <= one.t_ms:
        return episode
    evidence = _asked(core, metric, one, offset_min)
    if evidence is None:
        return episode
    if episode is not None:
        engine.withdraw(hot, patient_id, episode, episode.found_ms)  # it began earlier than was known
    finding = Finding(slot, rule, "raised", one.t_ms, one.t_ms, 0, evidence)
    engine.raise_alert(hot, patient_id, finding, provisional=False, revealed=revealed)
    return next((e for e in hot.episodes if e.rule == rule), None)  # none where the monitoring state keeps it quiet


async def _list_late(
    core: Core, engine: Engine, reader: Reader, stored: Table, slot: int, metric: Metric, one: Value, offset_min: int
) -> None:
    hot, patient_id, rule = core.hot[slot], int(core.patient_of[slot]), CHECK_VALUE[metric.key].id
    evidence = _asked(core, metric, one, offset_min)
    if evidence is None or await reader.overlapping_alert(patient_id, rule, one.t_ms, one.t_ms):
        return
    finding = Finding(slot, rule, "raised", one.t_ms, one.t_ms, 0, evidence)
    if engine.covers(patient_id, finding):
        return
    if not engine.list_late(hot, patient_id, finding):
        return
    after = await _next_good(core, reader, stored, slot, metric, one.t_ms, one.t_ms + LOOK_AHEAD_MS)
    if after is not None:
        engine.resolve_late(hot, patient_id, Finding(slot, rule, "cleared", one.t_ms, after.t_ms, 0, evidence))


async def _next_good(
    core: Core, reader: Reader, stored: Table, slot: int, metric: Metric, after_ms: int, until_ms: int
) -> Value | None:
    """Return the first good reading after an instant and before another: stored, or in this batch."""
    until_ms = min(until_ms, after_ms + LOOK_AHEAD_MS)
    span = Span(int(core.patient_of[slot]), metric.id, None, after_ms + 1, until_ms - 1)
    kept = (await reader.readings([span]))[0]
    table = Table.concatenate([kept, _mine(stored, slot, metric)])
    table = table[(table.quality == GOOD) & (table.t_ms >= span.from_ms) & (table.t_ms <= span.to_ms)]
    return _first(table)


async def _next_bad(core: Core, reader: Reader, bad: Table, slot: int, metric: Metric, after_ms: int) -> Value | None:
    """Return the first suspicious and dangerous value after an instant: quarantined before, or in this batch."""
    patient_id = int(core.patient_of[slot])
    kept = [
        Value(t_ms, value, device)
        for _, number, device, t_ms, value in await reader.quarantined(
            [patient_id], after_ms + 1, after_ms + LOOK_AHEAD_MS
        )
        if number == metric.id
    ]
    here = zip(bad.t_ms.tolist(), bad.value.tolist(), bad.device.tolist(), strict=True)
    found = [one for one in [*kept, *(Value(*row) for row in here)] if one.t_ms > after_ms]
    dangerous_ones = [one for one in found if dangerous(core.limits.limits, metric.key, one.value)]
    return min((one for one in dangerous_ones if suspicion(metric, one.value)), default=None)


def _first(table: Table) -> Value | None:
    if not len(table):
        return None
    i = int(np.lexsort((table.device, table.t_ms))[0])
    return Value(int(table.t_ms[i]), float(table.value[i]), int(table.device[i]))


def _asked(core: Core, metric: Metric, one: Value, offset_min: int) -> Evidence | None:
    found = suspicion(metric, one.value)
    if found is None:
        return None
    return {
        "change": "raised", "metric": metric.key, "value": round(found.sent, 4), "unit": found.unit,
        "other_unit": found.other, "otherwise": found.otherwise, "at_ms": one.t_ms, "utc_offset_min": offset_min,
        "device": core.device_keys.get(one.device, "the device"), "devices": [one.device],
    }  # fmt: skip


def _back(core: Core, metric: Metric, good: Value) -> Evidence:
    return {
        "change": "cleared", "metric": metric.key, "value": round(good.value, 4), "at_ms": good.t_ms,
        "device": core.device_keys.get(good.device, "the device"), "devices": [good.device],
    }  # fmt: skip
