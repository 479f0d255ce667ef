"""Which device counts, where two of one patient measure the same metric at the same time.

Everything is stored, and the safety limits look at every good reading of every device. The adaptive path and the
buckets use one source a metric and minute: the device with the most good readings in that minute, of equal ones the
lower number. The minute is what settles at once, so the choice never depends on how a stream was cut into batches (an
hour's would: it is handed over in parts). The most good readings, because a device that lies on its charger or has
lost contact sends none, and of two that are worn the denser one has the better mean; a mix of both would jump between
two biases within a minute, and add steps up twice. The lower number is arbitrary but fixed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ingest.catalogue import catalogue
from ingest.frame import GOOD, MOTION, NOT_WORN
from services.processor.readings import Table, group_starts

MINUTE_MS = 60_000
WEAR = catalogue()["wear"].id
_METRICS = 1 << 8


def preferred(table: Table) -> NDArray[np.bool_]:
    """Tell for each reading, in any order, whether it is its metric's and minute's source; shape (N,)."""
    kept = np.ones(len(table), bool)
    several = np.flatnonzero(_of_several(table))
    if not len(several):
        return kept
    some = table[several]
    good = (some.quality == GOOD) | (some.quality == MOTION)
    minute = some.t_ms // MINUTE_MS
    order = np.lexsort((some.device, minute, some.metric, some.slot))
    slot, metric, at, device = some.slot[order], some.metric[order], minute[order], some.device[order]
    starts = group_starts(slot, metric, at, device)
    count = np.add.reduceat(good[order].astype(np.int64), starts)
    slot, metric, at, device = slot[starts], metric[starts], at[starts], device[starts]
    best = np.lexsort((device, -count, at, metric, slot))
    first = best[group_starts(slot[best], metric[best], at[best])]
    wins = np.zeros(len(starts), bool)
    wins[first] = True
    group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(order))))
    chosen = np.empty(len(order), bool)
    chosen[order] = wins[group]
    kept[several] = chosen & ~_elsewhere_worn(some, good, minute)
    return kept


def _of_several(table: Table) -> NDArray[np.bool_]:
    """Tell which readings are of a patient with more than one device in the table."""
    if not len(table):
        return np.zeros(0, bool)
    one = np.zeros(int(table.slot.max()) + 1, np.int64)
    one[table.slot] = table.device
    mixed = np.zeros(len(one), bool)
    mixed[table.slot[table.device != one[table.slot]]] = True
    return mixed[table.slot]


def _elsewhere_worn(table: Table, good: NDArray[np.bool_], minute: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which readings only say "not worn" of a device while another one of the patient measures well."""
    off = (table.quality == NOT_WORN) | ((table.metric == WEAR) & (table.value == 0))
    measured = good & (table.metric != WEAR)
    place = table.slot.astype(np.int64) << 43 | minute
    lowest, highest = _device_bounds(place[measured], table.device[measured])
    at = np.minimum(np.searchsorted(lowest[0], place), max(len(lowest[0]) - 1, 0))
    if not len(lowest[0]):
        return np.zeros(len(table), bool)
    hit = lowest[0][at] == place
    other = (lowest[1][at] != table.device) | (highest[at] != table.device)
    return np.asarray(off & hit & other)


def _device_bounds(
    place: NDArray[np.int64], device: NDArray[np.int32]
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int32]], NDArray[np.int32]]:
    """Return each minute with good readings, ascending, and the lowest and highest device that has them."""
    order = np.lexsort((device, place))
    place, device = place[order], device[order]
    starts = group_starts(place)
    stops = np.append(starts[1:], len(place)) - 1
    return (place[starts], device[starts]), device[stops] if len(starts) else device[:0]


def of_buckets(every: Table, chosen: NDArray[np.bool_], bucket_ms: int) -> NDArray[np.int32]:
    """Return the devices with readings in each bucket that has chosen ones, shape (B, K), filled up with 0.

    Buckets in the order of (slot, metric, start); in each the device with the most chosen readings first, then the
    others by number.
    """
    bucket = every.t_ms // bucket_ms * bucket_ms
    order = np.lexsort((every.device, bucket, every.metric, every.slot))
    slot, metric, t0, device = every.slot[order], every.metric[order], bucket[order], every.device[order]
    starts = group_starts(slot, metric, t0, device)
    if not len(starts):
        return np.empty((0, 1), np.int32)
    count = np.add.reduceat(chosen[order].astype(np.int64), starts)
    slot, metric, t0, device = slot[starts], metric[starts], t0[starts], device[starts]
    firsts = group_starts(slot, metric, t0)
    made = np.repeat(np.add.reduceat(count, firsts) > 0, np.diff(np.append(firsts, len(slot))))
    slot, metric, t0, device, count = slot[made], metric[made], t0[made], device[made], count[made]
    by_count = np.lexsort((device, -count, t0, metric, slot))
    firsts = group_starts(slot, metric, t0)
    number = np.repeat(np.arange(len(firsts)), np.diff(np.append(firsts, len(slot))))
    rank = np.arange(len(slot)) - firsts[number]
    devices = np.zeros((len(firsts), int(rank.max(initial=0)) + 1), np.int32)
    devices[number, rank] = device[by_count]
    return devices
