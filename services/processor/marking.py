"""Who waits for a rebuild, and from which instant on: what came late, was corrected, or was overtaken by the clock."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.processor.core import Core
from services.processor.hot import MAX_LATE, mark_dirty
from services.processor.readings import Table


def note_dirty(core: Core, stored: Table, behind: NDArray[np.bool_], late_minutes: NDArray[np.bool_]) -> None:
    """Mark whose readings came late; those ``late_minutes`` stay out of their minute until the rebuild."""
    dirty, late = stored[behind], stored[late_minutes]
    for slot in np.unique(dirty.slot).tolist():
        hot = core.hot[slot]
        mine = dirty.t_ms[dirty.slot == slot]
        mark_dirty(hot, int(mine.min()), len(mine))
    for slot in np.unique(late.slot).tolist():
        hot = core.hot[slot]
        needed = core.needed_from(hot)
        mine = late[(late.slot == slot) & (late.t_ms >= needed)]
        for metric in hot.late.keys() | set(mine.metric.tolist()):
            instants = {t for t in hot.late.get(metric, []) if t >= needed}
            instants |= set(mine.t_ms[mine.metric == metric].tolist())
            hot.late[metric] = sorted(instants)[-MAX_LATE:]


def note_corrected(core: Core, behind: Table) -> None:
    """A corrected value that the detectors have seen otherwise is late data."""
    for slot, t_ms in zip(behind.slot.tolist(), behind.t_ms.tolist(), strict=True):
        mark_dirty(core.hot[slot], t_ms)


def note_overtaken(core: Core, stored: Table) -> None:
    """Data from before an end of the monitoring that the clock has carried out already: what they show came first."""
    for slot in np.unique(stored.slot).tolist():
        hot = core.hot[slot]
        if hot.ended_ms:
            mine = stored.t_ms[(stored.slot == slot) & (stored.t_ms < hot.ended_ms)]
            if len(mine):
                mark_dirty(hot, int(mine.min()), len(mine))
