"""Good data flow again: what was unknown for want of them is so no longer."""

from __future__ import annotations

from typing import Final

import numpy as np

from ingest.frame import GOOD, IMPLAUSIBLE, MOTION
from services.processor import settle
from services.processor.core import Core
from services.processor.episodes import Engine
from services.processor.readings import Table
from services.processor.records import Effects

GOOD_QUALITIES: Final = (GOOD, MOTION, IMPLAUSIBLE)  # what counts as hearing of a metric


def hear_again(core: Core, engine: Engine, effects: Effects, stored: Table) -> None:
    """Good data flow again: open alerts are known again, quiet metrics are no longer "no data".

    What they are is known when their hour closes; until then they are learning, never the state of long ago.
    """
    good = stored[np.isin(stored.quality, GOOD_QUALITIES)]
    for slot in np.unique(stored.slot).tolist():
        hot, patient_id = core.hot[slot], int(core.patient_of[slot])
        mine = good[good.slot == slot]
        for metric in np.unique(mine.metric).tolist():
            hot.good[metric] = max(hot.good.get(metric, 0), int(mine.t_ms[mine.metric == metric].max()))
        heard = set(np.unique(mine.metric).tolist())
        for episode in hot.episodes:
            if episode.unknown_since_ms is not None and episode.metric_id in heard:
                engine.known(hot, patient_id, episode, hot.good[episode.metric_id])
        for metric in heard & set(hot.silent):
            hot.silent.remove(metric)
            hot.states[metric] = 0
            effects.states.append(settle.state_row(hot.organisation_id, patient_id, metric, 0, hot.good[metric]))
        for metric in heard:
            if hot.states.get(metric, settle.NO_DATA_CODE) != settle.NO_DATA_CODE:
                continue
            hot.states[metric] = 0
            effects.states.append(settle.state_row(hot.organisation_id, patient_id, metric, 0, hot.good[metric]))
