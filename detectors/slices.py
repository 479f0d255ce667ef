"""Single readings to hour slices, which is what the adaptive path takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from detectors.protocol import (
    HOUR_MS,
    MINUTE_MS,
    STEPS,
    VITALS,
    Bools,
    Doubles,
    Floats,
    HourSlice,
    Longs,
    Rows,
    blank_hour,
)


def hours_of(
    streams: Mapping[str, tuple[Longs, Doubles | Floats]], utc_offset_min: int = 0, row: int = 0
) -> Iterator[HourSlice]:
    """Yield one person's whole hours that hold a reading, in order.

    ``streams``: metric → (instants in Unix ms UTC, values in the catalogue's unit), (N,) each, in any order; NaN is no
    reading. ``row`` is the person's place in the detector's state. A day of the adaptive path is closed by the first
    hour after 10:00 local time, so the last night counts once the morning is there.

    >>> t = np.arange(0, 7_200_000, 60_000)
    >>> first, second = hours_of({"heart_rate": (t, np.full(120, 61.0))})
    >>> int(second.hour_ms[0]), float(second.mean[0, 59, 0]), int(second.good[0].sum())
    (3600000, 61.0, 60)

    Raises:
        ValueError: a metric that is none of VITALS, or columns of different lengths.
    """
    parts = []
    for name, (t_ms, value) in streams.items():
        if name not in VITALS or len(t_ms) != len(value):
            allowed = f"{', '.join(VITALS)}, with a value for each instant"
            msg = f"stream {name!r} of {len(t_ms)} instants and {len(value)} values: allowed are {allowed}"
            raise ValueError(msg)
        metric = np.full(len(t_ms), VITALS.index(name), np.intp)
        parts.append((np.asarray(t_ms, np.int64), metric, np.asarray(value, np.float32)))
    if not parts:
        return
    t, metric, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(t, kind="stable")
    order = order[np.isfinite(values[order])]
    t, metric, values = t[order], metric[order], values[order]
    hours, starts = np.unique(t // HOUR_MS * HOUR_MS, return_index=True)
    for hour_ms, low, high in zip(hours.tolist(), starts, [*starts[1:], len(t)], strict=True):
        hour = blank_hour([row], [hour_ms], [utc_offset_min])
        here, good = slice(low, high), np.ones(high - low, bool)
        minute = ((t[here] - hour_ms) // MINUTE_MS).astype(np.intp)
        fill(hour, np.zeros(high - low, np.intp), minute, metric[here], values[here], good, ~good)
        yield hour


def fill(hour: HourSlice, place: Rows, minute: Rows, metric: Rows, value: Floats, good: Bools, poor: Bools) -> None:
    """Sum N readings up by minute into an hour that is blank, in place.

    ``place`` (N,) indexes the hour's patients, ``minute`` (N,) is 0 to 59, ``metric`` (N,) indexes VITALS. A reading
    that is neither ``good`` nor ``poor`` counts for nothing. Steps are added up, all else is averaged.
    """
    shape = hour.mean.shape
    size = hour.mean.size
    cell = (place * 60 + minute) * len(VITALS) + metric
    count = np.bincount(cell[good], minlength=size)
    total = np.bincount(cell[good], value[good].astype(np.float64), minlength=size)
    low, high = np.full(size, np.inf, np.float32), np.full(size, -np.inf, np.float32)
    np.minimum.at(low, cell[good], value[good])
    np.maximum.at(high, cell[good], value[good])
    none = count == 0
    mean = np.where(none, np.nan, total / np.maximum(count, 1)).reshape(shape)
    mean[:, :, STEPS] = np.where(none, np.nan, total).reshape(shape)[:, :, STEPS]
    low[none] = high[none] = np.nan
    hour.mean[:], hour.low[:], hour.high[:] = mean, low.reshape(shape), high.reshape(shape)
    hour.good[:] = count.reshape(shape)
    hour.poor[:] = np.bincount(cell[poor], minlength=size).reshape(shape)
