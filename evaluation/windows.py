"""Where a person's days are judged: before the onset, in control windows, and in healthy spans.

The window before the onset is [-7, 0], eight days. Control windows are as long, do not overlap, lie where the person
is taken as healthy (day < -21 or > 35, after 14 valid days) and hold at least five valid days. Without them a share of
people "found" says nothing: a rule that is always on finds everybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.protocol import Bools, Doubles, Ints

ONSET: Final = (-7, 0)
LENGTH: Final = ONSET[1] - ONSET[0] + 1
ILL: Final = (-21, 35)  # both days and all between them are not healthy
WARM_UP: Final = 14  # valid days before anything is judged
LEAST_DAYS: Final = 5  # valid days in a control window
BEFORE: Final = -14  # who is eligible has so many valid days before it, and so many from it to the onset
LEAST_BEFORE: Final = 14
LEAST_NEAR: Final = 5


def eligible(day: Ints) -> bool:
    """Tell whether a person has at least 14 valid days before day -14, and 5 in [-14, 0].

    >>> eligible(np.arange(-28, 1)), eligible(np.arange(-27, 1))
    (True, False)
    """
    before, near = int((day < BEFORE).sum()), int(((day >= BEFORE) & (day <= 0)).sum())
    return before >= LEAST_BEFORE and near >= LEAST_NEAR


def healthy(day: Ints) -> Bools:
    """Return (D,) which valid days count as healthy and monitored."""
    return np.asarray(((day < ILL[0]) | (day > ILL[1])) & (np.arange(len(day)) >= WARM_UP))


def control_windows(day: Ints) -> list[tuple[int, int]]:
    """Return the first and last day of each control window, ascending.

    They stand side by side from the first healthy day on, and anew from day 36 on.

    >>> control_windows(np.arange(-60, 60))
    [(-46, -39), (-38, -31), (-30, -23), (36, 43), (44, 51), (52, 59)]
    """
    windows = []
    if len(day) <= WARM_UP:
        return []
    start, last = int(day[WARM_UP]), int(day[-1])
    for begin, end in ((start, min(ILL[0] - 1, last)), (max(start, ILL[1] + 1), last)):
        for first in range(begin, end - LENGTH + 2, LENGTH):
            if int(((day >= first) & (day < first + LENGTH)).sum()) >= LEAST_DAYS:
                windows.append((first, first + LENGTH - 1))
    return windows


@dataclass(frozen=True, slots=True)
class Counts:
    """What a rule did to N people at T thresholds, strictest last."""

    hit: Doubles  # (T, N) 1 where an alert was active in the window before the onset
    flagged: Doubles  # (T, N) control windows in which one was active
    started: Doubles  # (T, N) 1 where an alert began in the window before the onset
    started_flagged: Doubles  # (T, N) control windows in which one began
    episodes: Doubles  # (T, N) alerts that began on a healthy day
    windows: Doubles  # (N,) control windows
    weeks: Doubles  # (N,) healthy valid days / 7


def count_person(day: Ints, active: Bools) -> tuple[Doubles, float, float]:
    """Return ((5, T) counts in the order of Counts, control windows, weeks) of one person.

    ``day`` (D,) valid days, ``active`` (T, D) whether an alert is active once that day is known.
    """
    began = active & ~np.concatenate([np.zeros((len(active), 1), bool), active[:, :-1]], axis=1)
    near = (day >= ONSET[0]) & (day <= ONSET[1])
    inside = [(day >= first) & (day <= last) for first, last in control_windows(day)]
    well = healthy(day)

    def flagged(what: Bools) -> Doubles:
        return np.asarray(sum((what[:, window].any(axis=1) for window in inside), np.zeros(len(active))))

    counts = np.array(
        [active[:, near].any(1), flagged(active), began[:, near].any(1), flagged(began), began[:, well].sum(1)],
        np.float64,
    )
    return counts, float(len(inside)), float(well.sum()) / 7


def count(people: list[tuple[Ints, Bools]]) -> Counts:
    """Return the counts of N people, each (day (D,), active (T, D))."""
    parts = [count_person(day, active) for day, active in people]
    hit, flagged, started, started_flagged, episodes = np.stack([part[0] for part in parts], axis=2)
    windows, weeks = (np.array([part[i] for part in parts]) for i in (1, 2))
    return Counts(hit, flagged, started, started_flagged, episodes, windows, weeks)
