"""Safety limits on what came after the reordering bound: judged on its own stretch of data, listed, never paged.

That is a first word, before the rebuild's: a run of readings further apart than the stretch reaches is found by that.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.protocol import Finding
from services.processor import safety
from services.processor.core import LOOK_BACK_MS, Core
from services.processor.episodes import Engine
from services.processor.readings import Table
from services.store.reader import Reader, Span

LATE_CONTEXT_MS: Final = 2 * 3_600_000  # stored data looked at on either side of a late reading


async def judge_late(core: Core, engine: Engine, reader: Reader, late: Table, stored: Table) -> None:
    """Judge readings that came after the reordering bound on the data around them: what is stored, and this batch's.

    A finding is listed as late, never paged, and opens no episode; one that an alert already covers is dropped.
    """
    late = late[safety.is_limited(late)]
    for slot in np.unique(late.slot).tolist():
        mine = late[late.slot == slot]
        for metric in np.unique(mine.metric).tolist():
            times = mine.t_ms[mine.metric == metric]
            around = await _around(
                core, reader, slot, stored[stored.slot == slot], metric, int(times.min()), int(times.max())
            )
            findings = _judge_alone(core, slot, around)
            await _list_late(core, engine, reader, slot, findings, times)


async def _around(core: Core, reader: Reader, slot: int, new: Table, metric: int, first: int, last: int) -> Table:
    patient_id = int(core.patient_of[slot])
    low, high = first - LATE_CONTEXT_MS, last + LATE_CONTEXT_MS
    wanted = {metric: low, safety.STEPS: low - LOOK_BACK_MS}
    stored = await reader.readings([Span(patient_id, m, None, since, high) for m, since in wanted.items()])
    fresh = [new[(new.metric == m) & (new.t_ms >= since) & (new.t_ms <= high)] for m, since in wanted.items()]
    table = Table.concatenate([*stored, *fresh])
    table.slot[:] = 0
    return table.sorted(table.t_ms, table.metric, table.device)


def _judge_alone(core: Core, slot: int, around: Table) -> list[Finding]:
    found = core.limits.advance(core.limits.new_state(1), safety.readings_of(around), core.standing({0: slot}))
    return [safety.with_devices(finding, around) for finding in found]


async def _list_late(
    core: Core, engine: Engine, reader: Reader, slot: int, findings: list[Finding], times: NDArray[np.int64]
) -> None:
    hot, patient_id = core.hot[slot], int(core.patient_of[slot])
    listed: dict[str, int] = {}
    for finding in findings:
        if finding.change == "raised":
            touches = bool(np.any((times >= finding.start_ms) & (times <= finding.at_ms)))
            known = await reader.overlapping_alert(patient_id, finding.rule, finding.start_ms, finding.at_ms)
            if touches and not known and not engine.covers(patient_id, finding):
                if engine.list_late(hot, patient_id, finding):
                    listed[finding.rule] = finding.start_ms
        elif finding.change == "cleared" and listed.get(finding.rule) == finding.start_ms:
            engine.resolve_late(hot, patient_id, finding)
