"""Safety limits, and a fast gain of weight, on arrival: never delayed, never adapting.

Readings up to a metric's watermark advance the kept state and are final. What is newer is judged at once on a copy
of that state: provisional. Readings behind the watermark are judged elsewhere (``late.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.protocol import LIMIT_METRICS, Finding, Priority, Readings, rows_of
from detectors.rules import WEIGHT_GAIN
from ingest.catalogue import catalogue
from ingest.frame import GOOD, IMPLAUSIBLE
from services.processor import weighing
from services.processor.core import LOOK_BACK_MS, Core
from services.processor.episodes import Engine
from services.processor.readings import Table

REST_WINDOW_MS: Final = 10 * 60_000
REST_STEPS: Final = 50  # fewer steps than this in the window: at rest
STEPS: Final = catalogue()["steps"].id

_INDEX: Final = np.full(max(m.id for m in catalogue().values()) + 1, -1, np.int16)
for _place, _key in enumerate(LIMIT_METRICS):
    _INDEX[catalogue()[_key].id] = _place


def judge(core: Core, engine: Engine, work: Table, judged_before: dict[tuple[int, int], int], slots: list[int]) -> None:
    """Advance the safety limits of the touched ``slots``.

    Args:
        core: the state; limits and weights of the slots are advanced in place.
        engine: takes the findings.
        work: unsettled and new readings of the slots, those late for the limits left out.
        judged_before: (slot, metric) → where that metric's watermark stood before this batch; absent: it is new.
        slots: the touched slots, ascending.
    """
    work = work.sorted(work.slot, work.t_ms, work.metric, work.device)
    rest = at_rest(work)
    index = _INDEX[work.metric]
    before, after = _marks(core, work, judged_before)
    limited = index >= 0
    final = limited & (work.t_ms >= before) & (work.t_ms < after)
    open_ones = limited & (work.t_ms >= after)
    rules = {rule.id: rule.priority for rule in (*core.limits.rules, WEIGHT_GAIN)}
    weighed = weighing.judge(core, work, final, open_ones)
    beyond = core.limits.advance(
        core.limit_state, _readings(work, index, rest, final), core.standing({slot: slot for slot in slots})
    )
    for finding in (*beyond, *weighed.settled):
        finding = with_devices(finding, work)
        revealed = engine.revealed(finding.row, finding.at_ms, catalogue()[finding.evidence["metric"]].id)
        engine.settled(core.hot[finding.row], int(core.patient_of[finding.row]), finding, revealed)
    provisional = _provisional(core, _readings(work, index, rest, open_ones))
    found = [with_devices(one, work) for one in (*provisional, *weighed.newer)]
    tell_unsettled(core, engine, slots, found, rules)


def _marks(
    core: Core, work: Table, judged_before: dict[tuple[int, int], int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each reading where its metric's watermark stood and stands."""
    pairs, inverse = np.unique(work.slot * 1000 + work.metric, return_inverse=True)
    keys = [(int(pair) // 1000, int(pair) % 1000) for pair in pairs]
    before = np.array([judged_before.get(key, 0) for key in keys], np.int64)
    after = np.array([core.hot[slot].judged.get(metric, 0) for slot, metric in keys], np.int64)
    return (before[inverse], after[inverse]) if len(keys) else (np.empty(0, np.int64), np.empty(0, np.int64))


def is_limited(work: Table) -> NDArray[np.bool_]:
    """Tell for each reading whether a safety limit may look at its metric."""
    return np.asarray((_INDEX[work.metric] >= 0) & (work.metric != weighing.WEIGHT))


def readings_of(work: Table) -> Readings:
    """Return readings, sorted by (slot, instant), as the safety limits look at them; other metrics are left out."""
    index = _INDEX[work.metric]
    return _readings(work, index, at_rest(work), index >= 0)


def _readings(work: Table, index: NDArray[np.int16], rest: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> Readings:
    quality = work.quality[chosen]
    return Readings(
        row=work.slot[chosen],
        metric=index[chosen],
        t_ms=work.t_ms[chosen],
        value=work.value[chosen],
        good=(quality == GOOD) | (quality == IMPLAUSIBLE),
        at_rest=rest[chosen],
    )


def _provisional(core: Core, readings: Readings) -> list[Finding]:
    """Judge unsettled readings on a copy of the state."""
    slots, row = np.unique(readings.row, return_inverse=True)
    if not len(slots):
        return []
    copy = rows_of(core.limit_state, slots)
    renumbered = replace(readings, row=row.astype(np.intp))
    findings = core.limits.advance(copy, renumbered, core.standing(dict(enumerate(slots.tolist()))))
    return [replace(finding, row=int(slots[finding.row])) for finding in findings]


def tell_unsettled(
    core: Core, engine: Engine, slots: list[int], findings: list[Finding], rules: Mapping[str, tuple[Priority, ...]]
) -> None:
    """Tell what unsettled data of the touched ``slots`` show, and take back what they no longer bear out.

    ``findings``: of the slots, made on a copy of the state. ``rules``: every rule that was judged → its priorities.
    """
    found: dict[int, dict[tuple[str, int], Priority]] = {}
    for finding in findings:
        slot = finding.row
        patient_id = int(core.patient_of[slot])
        finding = engine.since_told(patient_id, finding)
        engine.provisional(core.hot[slot], patient_id, finding)
        if finding.change != "cleared":
            found.setdefault(slot, {})[finding.rule, finding.start_ms] = rules[finding.rule][finding.level]
    for slot in slots:
        engine.take_back(core.hot[slot], int(core.patient_of[slot]), rules, found.get(slot, {}))


def with_devices(finding: Finding, work: Table) -> Finding:
    """Return a limit's finding with the devices whose readings its run ends with, of ``LOOK_BACK_MS`` at the most.

    So much before a reading is in memory however the stream was cut. ``work`` is sorted by slot, then instant.
    """
    low, high = np.searchsorted(work.slot, [finding.row, finding.row + 1]).tolist()
    mine = work[low:high]
    began = finding.evidence["clear_from_ms" if finding.change == "cleared" else "from_ms"]
    inside = (mine.t_ms >= max(began, finding.at_ms - LOOK_BACK_MS)) & (mine.t_ms <= finding.at_ms)
    inside &= mine.metric == catalogue()[finding.evidence["metric"]].id
    inside &= (mine.quality == GOOD) | (mine.quality == IMPLAUSIBLE)
    return replace(finding, evidence={**finding.evidence, "devices": np.unique(mine.device[inside]).tolist()})


def at_rest(work: Table) -> NDArray[np.bool_]:
    """Tell for each reading whether few steps were counted in the ten minutes before it (none known: True).

    ``work`` is sorted by (slot, instant). A step count at instant t belongs to the minute that begins there.
    """
    counted = (work.metric == STEPS) & ((work.quality == GOOD) | (work.quality == IMPLAUSIBLE))
    steps = np.where(counted, work.value, 0.0).astype(np.float64)
    total = np.concatenate([[0.0], np.cumsum(steps)])
    place = work.slot.astype(np.int64) << 43 | work.t_ms
    first = np.searchsorted(place, place - REST_WINDOW_MS, side="left")
    last = np.searchsorted(place, place, side="right")
    return np.asarray(total[last] - total[first] < REST_STEPS)
