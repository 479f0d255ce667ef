"""By how much a heart is still up after the last step, by how long ago that was and how many there were before.

Minutes by day, each less the mean of its day's minutes at rest with few steps in the hour and a half before.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from detectors.context import SLEEP_FROM, SLEEP_TO, STILL_MINUTES
from detectors.protocol import MINUTE_MS, Bools, Doubles, Longs
from evaluation.wearers import Wearer

SINCE: Final = (1, 3, 6, 11, 15, 20, 30, 40, 61)  # minutes
BEFORE: Final = (0, 100, 500, 1000, 2000, 3000)  # steps in BEFORE_MINUTES, and more
BEFORE_MINUTES, FEW, LEAST, LEAST_CELL, LONGEST = 90, 500, 30, 10, 60


class Walked(NamedTuple):
    """Every minute of a recording, (M,) each."""

    minute: Longs  # since 1970, local
    rate: Doubles  # NaN: unknown
    steps: Doubles
    since: Longs  # minutes since the last step

    @property
    def by_day(self) -> Bools:
        """Return which minutes of the day hold a heart rate."""
        clock = self.minute % 1440
        return np.asarray((clock >= SLEEP_TO) & (clock < SLEEP_FROM) & np.isfinite(self.rate))

    @property
    def rest(self) -> Bools:
        """Return which of them are at rest."""
        return np.asarray(self.by_day & (self.since > STILL_MINUTES))


def walked(person: Wearer) -> Walked:
    """Return a person's minutes, from the first reading to the last."""
    heart, steps = person.streams["heart_rate"], person.streams["steps"]
    known, place = np.unique(heart.t_ms // MINUTE_MS, return_inverse=True)
    stepped = steps.t_ms // MINUTE_MS
    minute = np.arange(min(known[0], stepped[0]), max(known[-1], stepped[-1]) + 1)
    rate, count = np.full(len(minute), np.nan), np.zeros(len(minute))
    rate[known - minute[0]] = np.bincount(place, heart.value) / np.bincount(place)
    count[stepped - minute[0]] = np.nan_to_num(steps.value)
    at = np.arange(len(minute))
    last = np.maximum.accumulate(np.where(count > 0, at, -LONGEST - 1))
    return Walked(minute, rate, count, at - last)


def before(of: Walked) -> Doubles:
    """Return (M,) the steps of the hour and a half up to each minute."""
    total = np.concatenate([[0.0], np.cumsum(of.steps)])
    at = np.arange(len(of.steps)) + 1
    return np.asarray(total[at] - total[np.maximum(at - BEFORE_MINUTES, 0)])


def excess(people: list[Walked]) -> list[list[tuple[float, float, int, int]]]:
    """Return by steps before and minutes since: the mean of people's means, their SD, people, minutes."""
    cells: list[list[list[tuple[float, int]]]] = [[[] for _ in SINCE[1:]] for _ in BEFORE]
    for of in people:
        load, above = before(of), _above(of)
        for i, least in enumerate(BEFORE):
            most = BEFORE[i + 1] if i + 1 < len(BEFORE) else np.inf
            for j, (low, high) in enumerate(zip(SINCE, SINCE[1:], strict=False)):
                which = (load >= least) & (load < most) & (of.since >= low) & (of.since < high) & np.isfinite(above)
                if which.sum() >= LEAST_CELL:
                    cells[i][j].append((float(above[which].mean()), int(which.sum())))
    return [[_cell(found) for found in row] for row in cells]


def _above(of: Walked) -> Doubles:
    """Return (M,) minutes by day less the mean of their day's at rest with few steps before, NaN elsewhere."""
    day, place = np.unique(of.minute // 1440, return_inverse=True)
    calm = of.rest & (before(of) < FEW)
    n = np.bincount(place[calm], minlength=len(day))
    mean = np.bincount(place[calm], of.rate[calm], len(day)) / np.maximum(n, 1)
    return np.where(of.by_day & (n >= LEAST)[place], of.rate - mean[place], np.nan)


def _cell(found: list[tuple[float, int]]) -> tuple[float, float, int, int]:
    means = np.array([mean for mean, _ in found])
    spread = float(means.std(ddof=1)) if len(means) > 1 else np.nan
    return float(means.mean()) if len(means) else np.nan, spread, len(means), sum(n for _, n in found)
