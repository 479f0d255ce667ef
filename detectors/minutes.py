"""The newly settled minutes of a slice, cut to the span that any patient needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.protocol import MINUTE_MS, Bools, Counts, Floats, HourSlice, Ints


@dataclass(frozen=True, slots=True)
class Minutes:
    """W minutes of R patients over the M vitals; what is not ``live`` for a patient must be ignored."""

    minute: Ints  # (R, W) minutes since 1970
    local: Ints  # (R, W) local minute of the day, 0..1439
    live: Bools  # (R, W)
    mean: Floats  # (R, W, M)
    low: Floats  # (R, W, M)
    high: Floats  # (R, W, M)
    good: Counts  # (R, W, M)
    poor: Counts  # (R, W, M)
    not_worn: Bools  # (R, W)


def live_minutes(hour: HourSlice) -> Minutes:
    """Return the minutes from the earliest ``first`` to the latest ``last`` of the slice, as views."""
    begin, end = (int(hour.first.min()), int(hour.last.max())) if len(hour.rows) else (0, 0)
    place = np.arange(begin, max(begin, end), dtype=np.int32)
    minute = (hour.hour_ms // MINUTE_MS).astype(np.int32)[:, None] + place
    span = slice(begin, begin + len(place))
    return Minutes(
        minute=minute,
        local=np.asarray((minute + hour.utc_offset_min[:, None]) % 1440, np.int32),
        live=(place >= hour.first[:, None]) & (place < hour.last[:, None]),
        mean=hour.mean[:, span],
        low=hour.low[:, span],
        high=hour.high[:, span],
        good=hour.good[:, span],
        poor=hour.poor[:, span],
        not_worn=hour.not_worn[:, span],
    )
