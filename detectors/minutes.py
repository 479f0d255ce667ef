"""The newly settled minutes of a slice, cut to the span that any patient needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from detectors.protocol import MINUTE_MS, Bools, Bytes, Counts, Floats, HourSlice, Ints

Kind = TypeVar("Kind", bound=np.generic)


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
    device: Bytes  # (R, W, M) 0 where it is not known


def live_minutes(hour: HourSlice) -> Minutes:
    """Return the minutes from the earliest ``first`` to the latest ``last`` of the slice.

    In memory a minute's values of a metric lie side by side, patient by patient: what is worked out of them goes
    through long rows, and takes half as long.
    """
    begin, end = (int(hour.first.min()), int(hour.last.max())) if len(hour.rows) else (0, 0)
    place = np.arange(begin, max(begin, end), dtype=np.int32)[:, None]
    minute = (hour.hour_ms // MINUTE_MS).astype(np.int32) + place
    span = slice(begin, begin + len(place))

    def side_by_side(values: NDArray[Kind]) -> NDArray[Kind]:
        return np.ascontiguousarray(values[:, span].transpose(1, 2, 0)).transpose(2, 0, 1)

    return Minutes(
        minute=minute.T,
        local=((minute + hour.utc_offset_min) % 1440).astype(np.int32).T,
        live=((place >= hour.first) & (place < hour.last)).T,
        mean=side_by_side(hour.mean),
        low=side_by_side(hour.low),
        high=side_by_side(hour.high),
        good=side_by_side(hour.good),
        poor=side_by_side(hour.poor),
        not_worn=np.asfortranarray(hour.not_worn[:, span]),
        device=side_by_side(hour.device),
    )
