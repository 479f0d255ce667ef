"""A fast gain of weight of the touched patients: on arrival, and final once settled, beside the safety limits.

It goes by the weight's own watermark, as the limits do: a scale sends once a day, and not in step with a watch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.protocol import Finding, Readings, State
from detectors.weight_gain import WEIGHT as PLACE
from detectors.weight_gain import WEIGHT_DTYPE, WeightGain
from ingest.catalogue import catalogue
from ingest.frame import GOOD, IMPLAUSIBLE
from services.processor.core import Core, layout_of
from services.processor.hot import Hot
from services.processor.readings import Table
from services.processor.watermark import offset_at

WEIGHT: Final = catalogue()["weight"].id
_GAINS: Final = WeightGain()
_LAYOUT: Final = layout_of(WEIGHT_DTYPE).to_bytes(4, "little")  # kept before the row: another layout's is never misread
_EMPTY: Final = bytes(WEIGHT_DTYPE.itemsize)


@dataclass(frozen=True, slots=True)
class Weighed:
    """What weights show: on settled data, and on what may still be reordered."""

    settled: list[Finding]
    newer: list[Finding]


def judge(core: Core, work: Table, final: NDArray[np.bool_], newer: NDArray[np.bool_]) -> Weighed:
    """Advance the weights' states of the slots that have any; return what changed, by slot.

    Args:
        core: the state; that of the slots' hot rows is advanced in place.
        work: readings, sorted by slot and instant.
        final: which of them are settled now.
        newer: which of them are not settled yet.
    """
    weights = (work.metric == WEIGHT) & (final | newer)
    if not weights.any():
        return Weighed([], [])
    slots = np.unique(work.slot[weights]).tolist()
    state = _state(core.hot[slot] for slot in slots)
    settled = _advance(core, state, slots, work[weights & final])
    for slot, row in zip(slots, state, strict=True):
        kept = row.tobytes()
        core.hot[slot].weight = b"" if kept == _EMPTY else _LAYOUT + kept
    return Weighed(settled, _advance(core, state, slots, work[weights & newer]))  # which is not kept


def _advance(core: Core, state: State, slots: list[int], weighed: Table) -> list[Finding]:
    instants = zip(weighed.slot.tolist(), weighed.t_ms.tolist(), strict=True)
    ahead = [offset_at(core.hot[slot], at_ms) for slot, at_ms in instants]
    readings = Readings(
        row=np.searchsorted(slots, weighed.slot),
        metric=np.full(len(weighed), PLACE, np.int16),
        t_ms=weighed.t_ms,
        value=weighed.value,
        good=(weighed.quality == GOOD) | (weighed.quality == IMPLAUSIBLE),
        at_rest=np.ones(len(weighed), bool),
    )
    found = _GAINS.advance(state, readings, np.array(ahead, np.int16))
    return [replace(finding, row=slots[finding.row]) for finding in found]


def _state(hots: Iterable[Hot]) -> State:
    """Return (R,) rows as they are kept; of what another version kept, one that knows nothing."""
    kept = [hot.weight[4:] if hot.weight[:4] == _LAYOUT else _EMPTY for hot in hots]
    return np.frombuffer(bytearray(b"".join(kept)), WEIGHT_DTYPE)
