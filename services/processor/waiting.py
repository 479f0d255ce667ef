"""Readings that wait in memory for their minutes to be settled, packed: 8 bytes each instead of the 31 of a `Table`.

A run is what a patient has of one device, metric and quality within 2³² ms (seven weeks, counted from 1970): said once,
in 19 bytes. Of each of its readings only the lower half of the instant and the value are kept. Nothing is rounded and
nothing is left out, so there is no reading that does not fit: one that is far off in time begins a run of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from services.processor.readings import Table, group_starts

HALF: Final = 32  # bits of an instant that each reading holds, of 64
RUN: Final = np.dtype(
    [("device", "i4"), ("metric", "i2"), ("quality", "u1"), ("frame", "i4"), ("high", "i4"), ("n", "u4")]
)
READING: Final = np.dtype([("low", "u4"), ("value", "f4")])


class Packed(NamedTuple):
    """One patient's readings: the bytes of its RUNs, and of their READINGs one run after the other."""

    runs: bytes
    readings: bytes


NOTHING: Final = Packed(b"", b"")


def count(packed: Packed) -> int:
    """Return how many readings these are."""
    return len(packed.readings) // READING.itemsize


def pack(table: Table, slots: Sequence[int]) -> list[Packed]:
    """Return each patient's readings packed, in the order of the ``slots``; the table may be in any order.

    Readings of a run stay in their order; the runs do not.

    Raises:
        ValueError: a reading is of none of these patients; it would be lost.
    """
    high = (table.t_ms >> HALF).astype(np.int32)
    keys = (table.slot, table.device, table.metric, table.quality, table.frame, high)
    # Stretches of equal keys are sorted, not readings: most of a table is as it was unpacked.
    starts = group_starts(*keys)
    lengths = np.diff(starts, append=len(table))
    order = np.lexsort([key[starts] for key in reversed(keys)])
    starts, lengths = starts[order], lengths[order]
    slot, *heads = (key[starts] for key in keys)
    first = group_starts(slot, *heads)
    begins = np.append(0, np.cumsum(lengths))
    place = np.arange(len(table)) + np.repeat(starts - begins[:-1], lengths)
    readings = np.empty(len(table), READING)
    readings["low"] = table.t_ms[place].astype(np.uint32)
    readings["value"] = table.value[place]
    runs = np.empty(len(first), RUN)
    bounds = np.append(begins[:-1][first], len(table))
    for name, column in zip(RUN.names or (), (*(head[first] for head in heads), np.diff(bounds)), strict=True):
        runs[name] = column
    return _cut(slot[first], runs, readings, bounds, slots)


def _cut(
    slot: np.ndarray, runs: np.ndarray, readings: np.ndarray, bounds: np.ndarray, slots: Sequence[int]
) -> list[Packed]:
    """Return each patient's part; ``slot`` is the runs', ascending, ``bounds`` where their readings begin and end."""
    first, stop = (np.searchsorted(slot, slots, side) for side in ("left", "right"))
    low, high = bounds[first], bounds[stop]
    if (high - low).sum() != len(readings):
        msg = f"readings of {len(np.setdiff1d(slot, slots))} patients who are none of those that are packed"
        raise ValueError(msg)
    of_runs, of_readings = runs.tobytes(), readings.tobytes()
    return [
        Packed(of_runs[a:b], of_readings[c:d]) if b > a else NOTHING
        for a, b, c, d in zip(
            (first * RUN.itemsize).tolist(), (stop * RUN.itemsize).tolist(),
            (low * READING.itemsize).tolist(), (high * READING.itemsize).tolist(), strict=True,
        )
    ]  # fmt: skip


def unpack(packed: Sequence[Packed], slots: Sequence[int]) -> Table:
    """Return what patients' readings were packed from, patient after patient; its columns may be written to."""
    runs = np.frombuffer(b"".join([one.runs for one in packed]), RUN)
    readings = np.frombuffer(b"".join([one.readings for one in packed]), READING)
    n = runs["n"]
    return Table(
        slot=np.repeat(np.array(slots, np.intp), [count(one) for one in packed]),
        device=np.repeat(runs["device"], n),
        metric=np.repeat(runs["metric"], n),
        t_ms=np.repeat(runs["high"].astype(np.int64) << HALF, n) | readings["low"],
        value=readings["value"].copy(),
        quality=np.repeat(runs["quality"], n),
        frame=np.repeat(runs["frame"], n),
    )
