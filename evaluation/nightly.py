"""What the processor's detection says of daily values: the close of a day, as it runs, called with one value a day.

The daily basal rate stands for the night's heart rate: it enters the open day as 180 minutes of that rate, the steps as
those of the day, and ``detectors.days.close_days`` scores it, sums it up and learns from it, constants and guard
included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.baseline import ACTIVE_HEART, LEAST_MINUTES, NIGHT_HEART
from detectors.daily import LIMITS
from detectors.days import close_days
from detectors.pipeline import Pipeline
from detectors.protocol import ASLEEP, DAY_MS, HOUR_MS, Bools, Doubles, Ints, blank_hour
from detectors.rise import LEAST_STEPS_MINUTES, LEAST_WORN_MINUTES
from detectors.rules import RESTING_HEART
from detectors.sums import THOUSAND
from evaluation.days import CHANNELS, Person

FIRST_DAY: Final = 20_000  # local days are counted from 1970 and must be above 0
CLOSES_MS: Final = 11 * HOUR_MS  # the first hour after a day's end
BASAL: Final = CHANNELS.index("basal")
STEPS: Final = CHANNELS.index("steps")


@dataclass(frozen=True, slots=True)
class Nights:
    """What was said of one person's D days; NaN where a day could not be judged."""

    day: Ints  # (D,)
    sum: Doubles  # (D,) the CUSUM after this day
    active: Bools  # (D,) whether the alert is active after this day
    z: Doubles  # (D,)
    center: Doubles  # (D,) the baseline before this day, and its spread
    spread: Doubles  # (D,)
    n_days: Ints  # (D,) clean days behind it
    worse: Bools  # (D,) whether a further rise on top of the alert was told on this day


def replay(people: list[Person], limit: float = LIMITS["0.1"]) -> list[Nights]:
    """Return what the day's close says of each person's days, all people side by side, in the order of their days."""
    pipeline = Pipeline()
    state = pipeline.new_state(len(people))
    found = [np.full((7, len(person.day)), np.nan) for person in people]
    for i in range(max((len(person.day) for person in people), default=0)):
        rows = np.array([row for row, person in enumerate(people) if len(person.day) > i], np.intp)
        day = np.array([people[row].day[i] for row in rows], np.int64) + FIRST_DAY
        minutes = int(LEAST_MINUTES[NIGHT_HEART])
        part = state[rows]
        part["open_day"] = day
        part["day"]["n"][:, NIGHT_HEART] = minutes
        value, steps = (np.array([people[row].value[i, channel] for row in rows]) for channel in (BASAL, STEPS))
        part["day"]["n"][:, ACTIVE_HEART] = (
            LEAST_WORN_MINUTES  # only says that it was worn: no rate at rest by day is known
        )
        part["day"]["sum"][:, ACTIVE_HEART] = np.rint(value * THOUSAND) * LEAST_WORN_MINUTES
        part["day"]["steps"] = np.where(np.isfinite(steps), np.rint(np.nan_to_num(steps)), 0)
        part["day"]["steps_minutes"] = np.where(np.isfinite(steps), LEAST_STEPS_MINUTES, 0)
        part["day"]["sum"][:, NIGHT_HEART] = np.rint(value * THOUSAND) * minutes
        hour = blank_hour(rows.tolist(), (day * DAY_MS + CLOSES_MS).tolist(), [0] * len(rows))
        findings, days = close_days(part, hour, rows, limit)
        told = {one.row for one in findings if one.rule == RESTING_HEART.id and one.change == "worsened"}
        days = days.take(days.context == ASLEEP)  # one a person; the minutes by day only say that it was worn
        state[rows] = part
        columns = (days.cusum, part["rise"]["active"], days.z, days.center, days.spread, days.n_days)
        worse = np.isin(rows, list(told))
        for place, row in enumerate(rows.tolist()):
            found[row][:, i] = [column[place] for column in (*columns, worse)]
    return [
        Nights(person.day, f[0], f[1] == 1, f[2], f[3], f[4], f[5].astype(np.int32), f[6] == 1)
        for person, f in zip(people, found, strict=True)
    ]
