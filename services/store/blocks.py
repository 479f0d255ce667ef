"""Readings to blocks: the unit of storage. A block never crosses an hour and stays under a page's quarter."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.processor.readings import Table
from services.store import copy

MAX_BLOCK: Final = 180  # 180 * (value 4 + offset 4 + quality 2) + header < 1.9 kB: out of TOAST
_HOUR_MS: Final = 3_600_000

COLUMNS: Final = "patient_id, metric_id, device_id, t0, t_last, step_us, offsets_ms, value, quality"


def copy_rows(readings: Table, patient_of: NDArray[np.int32]) -> list[bytes]:
    """Return COPY rows of ``reading_block`` for new readings sorted by (slot, metric, device, instant).

    ``patient_of`` maps slots to patient ids. Readings with even steps carry no offsets, all-good ones no quality.
    """
    if not len(readings):
        return []
    starts = _block_starts(readings)
    lengths = np.diff(np.append(starts, len(readings)))
    even, step_ms = _even_steps(readings, starts, lengths)
    good = np.maximum.reduceat(readings.quality, starts) == 0
    parts = []
    shape = np.stack([lengths, even, good], axis=1)
    for n, is_even, is_good in np.unique(shape, axis=0):
        chosen = (lengths == n) & (even == is_even) & (good == is_good)
        parts.append(_rows(readings, patient_of, starts[chosen], int(n), step_ms[chosen], bool(is_even), bool(is_good)))
    return parts


def _block_starts(r: Table) -> NDArray[np.intp]:
    hour = r.t_ms // _HOUR_MS
    new = np.ones(len(r), bool)
    new[1:] = (
        (r.slot[1:] != r.slot[:-1])
        | (r.metric[1:] != r.metric[:-1])
        | (r.device[1:] != r.device[:-1])
        | (hour[1:] != hour[:-1])
    )
    starts = np.flatnonzero(new)
    place = np.arange(len(r)) - np.repeat(starts, np.diff(np.append(starts, len(r))))
    return np.flatnonzero(place % MAX_BLOCK == 0)


def _even_steps(
    r: Table, starts: NDArray[np.intp], lengths: NDArray[np.intp]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    step = np.diff(r.t_ms, append=r.t_ms[-1])
    stops = starts + lengths - 1
    first = step[starts]
    first[lengths == 1] = 0
    expected = np.repeat(first, lengths)
    matches = step == expected
    matches[stops] = True  # the step after a block's last reading belongs to nobody
    even = np.logical_and.reduceat(matches, starts) & (first <= 2_000_000)  # step_us is an int4
    return even, np.where(even, first, 0)


def _rows(
    r: Table, patient_of: NDArray[np.int32], starts: NDArray[np.intp], n: int, step_ms: NDArray[np.int64],
    is_even: bool, is_good: bool,
) -> bytes:  # fmt: skip
    place = starts[:, None] + np.arange(n)
    t0 = r.t_ms[starts]
    return copy.rows(
        [
            ("i4", patient_of[r.slot[starts]]),
            ("i2", r.metric[starts]),
            ("i4", r.device[starts]),
            ("ts", t0),
            ("ts", r.t_ms[starts + n - 1]),
            ("i4", step_ms * 1000),
            ("null", None) if is_even else ("i4[]", r.t_ms[place] - t0[:, None]),
            ("f4[]", r.value[place]),
            ("null", None) if is_good else ("i2[]", r.quality[place]),
        ]
    )
