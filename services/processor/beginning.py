"""Where a replay of a patient begins: at a checkpoint that is kept, or with the first reading."""

from __future__ import annotations

from typing import NamedTuple

from services.processor import hot as hot_state
from services.processor.core import DAY_MS, Core
from services.processor.hot import MONTHLY_DAYS, Hot
from services.processor.replay import OF_THE_PRESENT
from services.processor.watermark import marks_of
from services.store.kept import DAILY_DAYS
from services.store.reader import Checkpoint, Reader


class Start(NamedTuple):
    """Where a replay begins."""

    checkpoint: Checkpoint | None
    first_ms: int
    reaches: bool  # all that is to be replayed lies behind it


async def beginning(reader: Reader, core: Core, patient_id: int, now: Hot, before_ms: int) -> Start:
    """Choose where to begin: the newest checkpoint before an instant with no alert open, else the beginning.

    An alert that was open at a checkpoint would lose what it was raised with, so one without is looked for as
    long as there is a checkpoint a day. What lies too far back is only stored: the oldest kept checkpoint within
    reach is taken then.

    Args:
        reader: reads in a transaction of the caller's.
        core: whose layouts a checkpoint must have.
        patient_id: whose.
        now: the live state.
        before_ms: the instant everything from which on is to be replayed.
    """
    horizon_ms = now.settled_ms - MONTHLY_DAYS * DAY_MS
    first_ms = await reader.first_stored(patient_id)
    if before_ms <= horizon_ms:  # everything is to be learned anew: no checkpoint knows better
        return Start(None, max(first_ms, horizon_ms), reaches=first_ms >= horizon_ms)
    usable = [
        (one, hot_state.decode(one.hot)) for one in await reader.checkpoints(patient_id) if one.layout == core.layout
    ]
    usable = [
        (one, hot)
        for one, hot in usable
        if hot.layout in {0, core.limits_layout, *core.former_layouts} and hot.settled_ms >= horizon_ms
    ]
    before = [(one, hot) for one, hot in usable if marks_of(hot)[1] <= before_ms]
    for one, hot in before:
        if hot.settled_ms < before[0][1].settled_ms - DAILY_DAYS * DAY_MS:
            break
        if all(episode.rule in OF_THE_PRESENT for episode in hot.episodes):
            return Start(one, hot.settled_ms, reaches=True)
    if first_ms >= horizon_ms and not (before and first_ms < before[0][1].settled_ms - DAILY_DAYS * DAY_MS):
        return Start(None, first_ms, reaches=True)
    if before:
        return Start(before[0][0], before[0][1].settled_ms, reaches=True)
    if usable:
        return Start(usable[-1][0], usable[-1][1].settled_ms, reaches=False)
    return Start(None, horizon_ms, reaches=False)
