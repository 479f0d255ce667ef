"""Days that take another course, put into people's hours: nights turned, no dip at night, a fast heart for some hours.

Nothing is drawn: an event is put onto every day of a person that has enough days before it, one at a time. Of the same
hours come the published ways to say how novel a day is. Hours are of the local clock, from 10:00 on; a day has the date
on which it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np

from detectors.apart import HOURS, LEAST_HOURS
from detectors.context import DAY_FROM
from detectors.novelty import DAYS
from detectors.protocol import Doubles, Longs
from detectors.shape import LEAST_DAYS, LEAST_READINGS
from simulators.series import HOUR_MS, MINUTE_MS, Series

FIRST: Final = 21  # days of a person before an event
LASTS: Final = 3  # days of an event, and of those in which it is to be found
CLOCK: Final = (np.arange(HOURS) + DAY_FROM // 60) % HOURS
ASLEEP: Final = (CLOCK >= 23) | (CLOCK < 7)
SPREAD, SPREAD_DAYS = 5.0, 5  # /min, of an hour over days, before any day is known, and for how many it counts


class Event(NamedTuple):
    """What an event makes of somebody's days."""

    days: int
    of: Callable[[Doubles, int], Doubles]  # of all days (D, 24) and the first one's place: those of the event
    wanted: bool = True  # else nothing is to be found


def hourly(heart: Series, offset_min: int) -> tuple[int, Doubles]:
    """Return the first local day and (D, 24) the mean of each hour's readings, NaN with fewer than four."""
    hour = (heart.t_ms + offset_min * MINUTE_MS) // HOUR_MS - DAY_FROM // 60
    first = int(hour[0] // HOURS)
    place = hour - first * HOURS
    days = int(place[-1] // HOURS) + 1
    n = np.bincount(place, minlength=days * HOURS)
    mean = np.bincount(place, heart.value, minlength=days * HOURS) / np.maximum(n, 1)
    return first + 1, np.where(n >= LEAST_READINGS, mean, np.nan).reshape(days, HOURS)


def _turned(later: int) -> Callable[[Doubles, int], Doubles]:
    def of(days: Doubles, at: int) -> Doubles:
        line = np.concatenate([days.ravel(), np.full(HOURS, np.nan)])
        begin = at * HOURS - later
        return line[begin : begin + LASTS * HOURS].reshape(LASTS, HOURS)

    return of


def _lost(share: float) -> Callable[[Doubles, int], Doubles]:
    def of(days: Doubles, at: int) -> Doubles:
        now = days[at : at + LASTS]
        with np.errstate(invalid="ignore"):
            dip = np.array([_mean(day[~ASLEEP]) - _mean(day[ASLEEP]) for day in now])
        return np.where(ASLEEP, now + share * np.maximum(np.nan_to_num(dip), 0)[:, None], now)

    return of


def _faster(by: float, first: int, last: int) -> Callable[[Doubles, int], Doubles]:
    return lambda days, at: np.where((CLOCK >= first) & (CLOCK < last), days[at : at + 1] + by, days[at : at + 1])


EVENTS: Final[Mapping[str, Event]] = {
    "turned 7 h later": Event(LASTS, _turned(7)),
    "turned 6 h earlier": Event(LASTS, _turned(-6)),
    "no dip at night": Event(LASTS, _lost(1.0)),
    "half the dip": Event(LASTS, _lost(0.5)),
    "+25 /min, 1:00 to 4:00": Event(1, _faster(25, 1, 4)),
    "+15 /min, 1:00 to 5:00": Event(1, _faster(15, 1, 5)),
    "+8 /min all day": Event(LASTS, lambda days, at: days[at : at + LASTS] + 8, wanted=False),
    "clock 1 h later": Event(LASTS, _turned(1), wanted=False),
    "exercise, +50 /min at 18:00": Event(1, _faster(50, 18, 19), wanted=False),
}


def _mean(values: Doubles) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def _centred(days: Doubles) -> Doubles:
    return np.asarray(days - np.nanmean(days, axis=-1, keepdims=True))


def template(day: Doubles, past: Doubles) -> float:
    """Return the Euclidean distance an hour of a day to the mean of the days before it, levels taken off."""
    return _root(_centred(day) - np.nanmean(_centred(past), axis=0))


def hour_by_hour(day: Doubles, past: Doubles) -> float:
    """Return the same in each hour's own spread, drawn to 5 /min as by 5 days."""
    courses = _centred(past)
    variance = (len(past) * np.nanvar(courses, axis=0) + SPREAD_DAYS * SPREAD**2) / (len(past) + SPREAD_DAYS)
    return _root((_centred(day) - np.nanmean(courses, axis=0)) / np.sqrt(variance))


def discord(day: Doubles, past: Doubles) -> float:
    """Return the Euclidean distance of the z-normalised day to the nearest of the days before it, as published."""
    both = np.where(np.isfinite(past), day, np.nan), np.where(np.isfinite(day), past, np.nan)
    enough = np.isfinite(both[0]).sum(axis=1) >= LEAST_HOURS
    if not enough.any():
        return np.nan
    scaled = [_centred(one[enough]) / np.nanstd(one[enough], axis=1, keepdims=True) for one in both]
    return float(np.sqrt(np.nanmean((scaled[0] - scaled[1]) ** 2, axis=1)).min())


RIVALS: Final[Mapping[str, Callable[[Doubles, Doubles], float]]] = {
    "z of the distance to the mean day": template,
    "z of the distance, in each hour's spread": hour_by_hour,
    "z of the discord, z-normalised": discord,
}


def far(how: Callable[[Doubles, Doubles], float], days: Doubles, at: int) -> float:
    """Return how far a day lies from those of the four weeks before it; NaN where that is not known."""
    past = days[max(at - DAYS, 0) : at]
    past = past[np.isfinite(past).sum(axis=1) >= LEAST_HOURS]
    unknown = len(past) < LEAST_DAYS or np.isfinite(days[at]).sum() < LEAST_HOURS
    return np.nan if unknown else how(days[at], past)


def z_of(distance: float, before: Doubles | Longs) -> float:
    """Return by how many of their own SDs a distance lies above those of the days before; NaN with fewer than 7."""
    known = before[np.isfinite(before)]
    return float((distance - known.mean()) / max(known.std(), 1e-3)) if len(known) >= LEAST_DAYS else np.nan


def _root(values: Doubles) -> float:
    return float(np.sqrt(np.nanmean(values**2)))
