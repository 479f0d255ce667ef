"""Exactly once to the reading: which readings are new, which are known, which contradict.

Identity is (patient, metric, device, instant). Same value: duplicate. Another value: conflict, kept beside; the
one accepted first wins, and acceptance order is the partition's order, so a replay decides the same. Frames with a
revision are `correcting`'s matter.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.processor.readings import Table, group_bounds

_TIME_BITS: Final = 43  # Unix ms until the year 2248


STORED, DUPLICATE, CONFLICT, CORRECTED = 0, 1, 2, 3  # what becomes of a reading


class Verdict(NamedTuple):
    """Readings of a batch, sorted out. ``stored`` is ordered by (patient, metric, device, instant)."""

    stored: Table
    duplicate: Table
    conflict: Table
    corrected: Table  # replace a value of a lower revision


class Series(NamedTuple):
    """One patient's readings of one metric from one device in a batch: rows [start, stop) of the sorted table."""

    slot: int
    metric: int
    device: int
    start: int
    stop: int


def series_of(table: Table) -> list[Series]:
    """Return the series of a table sorted by (slot, metric, device)."""
    return [
        Series(int(table.slot[a]), int(table.metric[a]), int(table.device[a]), a, b)
        for a, b in group_bounds(table.slot, table.metric, table.device)
    ]


def by_series(table: Table) -> Table:
    """Return the table sorted by (slot, metric, device, instant), equal instants in the order they came."""
    return table.sorted(table.slot, table.metric, table.device, table.t_ms)


def sort_out(table: Table, series: list[Series], known: dict[int, Table]) -> Verdict:
    """Compare a batch with itself and with what is stored; arguments as of `codes`."""
    code = codes(table, series, known)
    return Verdict(table[code == STORED], table[code == DUPLICATE], table[code == CONFLICT], table[:0])


def codes(table: Table, series: list[Series], known: dict[int, Table]) -> NDArray[np.uint8]:
    """Return what becomes of each reading where none has a revision, shape (N,).

    Args:
        table: sorted by ``by_series``.
        series: its series.
        known: for the index of each series that may overlap stored readings, those stored readings (sorted by
            instant).
    """
    number = np.zeros(len(table), np.int64)
    for index, one in enumerate(series):
        number[one.start : one.stop] = index
    key = (number << _TIME_BITS) | table.t_ms
    verdict = np.zeros(len(table), np.uint8)
    first = np.ones(len(table), bool)
    first[1:] = key[1:] != key[:-1]
    winner = np.maximum.accumulate(np.where(first, np.arange(len(table)), 0))
    again = ~first
    verdict[again] = np.where(_same(table.value, table.value[winner])[again], DUPLICATE, CONFLICT)
    if known:
        _compare_with_stored(table, key, verdict, known)
    return verdict


def _compare_with_stored(
    table: Table, key: NDArray[np.int64], verdict: NDArray[np.uint8], known: dict[int, Table]
) -> None:
    order = sorted(known)
    stored_key = np.concatenate([(np.int64(i) << _TIME_BITS) | known[i].t_ms for i in order])
    stored_value = np.concatenate([known[i].value for i in order])
    if not len(stored_key):
        return
    place = np.minimum(np.searchsorted(stored_key, key), len(stored_key) - 1)
    hit = stored_key[place] == key
    verdict[hit] = np.where(_same(table.value, stored_value[place])[hit], DUPLICATE, CONFLICT)


def _same(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(a.view(np.uint32) == b.view(np.uint32))


def same(a: float, b: float) -> bool:
    """Tell whether two values are the same float32, bit for bit."""
    return bool(_same(np.array([a], np.float32), np.array([b], np.float32))[0])
