"""NEWS2 of the touched patients: on arrival, and final once settled. With the safety limits, never delayed by a budget.

A score is of several metrics, so it goes by the patient's watermark, not by that of one of them: what came after that
is in no score until the rebuild, which lists what it shows as late. What is newer than the watermark is judged at once
on a copy of the state: provisional.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.early_occasions import Timelines
from detectors.early_warning import EARLY_DTYPE, EarlyWarning
from detectors.protocol import Finding, Readings, State
from detectors.rules import NEWS2_HIGH
from detectors.scores.observations import PARAMETERS
from ingest.catalogue import catalogue
from ingest.frame import GOOD, IMPLAUSIBLE, NOT_WORN
from services.processor.core import LATE, Core, layout_of
from services.processor.episodes import Engine
from services.processor.hot import Hot
from services.processor.readings import Table
from services.processor.safety import at_rest, tell_unsettled

_EARLY: Final = EarlyWarning()
_LAYOUT: Final = layout_of(EARLY_DTYPE).to_bytes(4, "little")  # kept before the row: another layout's is never misread
_EMPTY: Final = bytes(EARLY_DTYPE.itemsize)
_INDEX: Final = np.full(max(m.id for m in catalogue().values()) + 1, -1, np.int16)
for _place, _key in enumerate(PARAMETERS):
    _INDEX[catalogue()[_key].id] = _place


def judge(core: Core, engine: Engine, work: Table, slots: list[int]) -> None:
    """Advance NEWS2 of the touched ``slots`` up to their watermarks, and tell what newer readings show.

    Args:
        core: the state; that of the slots' hot rows is advanced in place.
        engine: takes the findings.
        work: unsettled and new readings of the slots; those marked LATE count for nothing.
        slots: the touched slots, ascending.
    """
    hots = [core.hot[slot] for slot in slots]
    work = work[(work.frame != LATE) & (work.quality != NOT_WORN)]
    work = work.sorted(work.slot, work.t_ms, work.metric, -work.device)  # of one instant the lower number comes last
    row = np.searchsorted(slots, work.slot)
    before = np.array([hot.early_ms for hot in hots], np.int64)
    after = np.array([hot.settled_ms for hot in hots], np.int64)
    scored, rest = _INDEX[work.metric] >= 0, at_rest(work)
    final = scored & (work.t_ms >= before[row]) & (work.t_ms < after[row])
    state, holds = _state(hots), _holds(core, slots)
    for finding in _advance(state, _readings(work, row, rest, final), holds, slots):
        slot = finding.row
        engine.settled(core.hot[slot], int(core.patient_of[slot]), finding, engine.revealed(slot, finding.at_ms))
    _keep(hots, state)  # what follows is not
    newer = scored & (work.t_ms >= after[row])
    found = _advance(state, _readings(work, row, rest, newer), holds, slots)
    tell_unsettled(core, engine, slots, found, {NEWS2_HIGH.id: NEWS2_HIGH.priority})


def _advance(state: State, readings: Readings, holds: Timelines, slots: Sequence[int]) -> list[Finding]:
    """Return what changed, by slot."""
    return [replace(finding, row=slots[finding.row]) for finding in _EARLY.advance(state, readings, holds)]


def _readings(work: Table, row: NDArray[np.intp], rest: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> Readings:
    quality = work.quality[chosen]
    return Readings(
        row=row[chosen],
        metric=_INDEX[work.metric[chosen]],
        t_ms=work.t_ms[chosen],
        value=work.value[chosen],
        good=(quality == GOOD) | (quality == IMPLAUSIBLE),
        at_rest=rest[chosen],
    )


def _holds(core: Core, slots: Sequence[int]) -> Timelines:
    """Return what profiles make of the score, by the place of a slot."""
    own = core.changes.scoring
    patients = enumerate(core.patient_of[slots].tolist()) if own else ()
    return {place: own[patient] for place, patient in patients if patient in own}


def _state(hots: Sequence[Hot]) -> State:
    """Return (R,) rows as they are kept; of what another version kept, one that knows nothing."""
    kept = [hot.early[4:] if hot.early[:4] == _LAYOUT else _EMPTY for hot in hots]
    return np.frombuffer(bytearray(b"".join(kept)), EARLY_DTYPE)


def _keep(hots: Sequence[Hot], state: State) -> None:
    data, size = state.tobytes(), EARLY_DTYPE.itemsize
    for place, hot in enumerate(hots):
        row = data[place * size : (place + 1) * size]
        hot.early, hot.early_ms = b"" if row == _EMPTY else _LAYOUT + row, hot.settled_ms
