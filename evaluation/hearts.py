"""Which heart rate of a day tells most: asleep, at rest by day, both, or a model's base with the time of day taken off?

Rises are put into real recordings, one every fourth day of each person, and judged by ``detectors.daily`` on the heart
rate alone, steps left out; what comes in the same days without the rise is taken off. Each measure is judged at the
least strict limit that keeps to the asked alert rate on the recordings as they are: the same people, so that levels are
flattered, and all measures alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from detectors.context import SLEEP_FROM, SLEEP_TO, STILL_MINUTES
from detectors.daily import Daily
from detectors.protocol import MINUTE_MS, Bools, Doubles, Longs
from evaluation.budgets import BUDGETS, interval, resampled, rounded
from evaluation.calibration import limit_within
from evaluation.circadian import daily_base
from evaluation.days import NotEvaluable
from evaluation.wearers import Wearer, read_wearers

RISE, CLIMB, LASTS, EVERY = 5.0, 3, 7, 4  # /min, days to the full height, days in all, days between two starts
FIRST, LAST = 15, 8  # days with data before the first start, and after the last
ENOUGH: Final = 300  # minutes that make a day with data
NIGHT_MINUTES, REST_MINUTES, HOUR_MINUTES = 180, 60, 20
LIMITS: Final = np.concatenate([np.arange(0.75, 9, 0.25), np.arange(9, 20, 0.5)])
MEMORY: Final = 1 / 8  # of a minute's steps in the activity of the next
NIGHT: Final = "asleep"


class Minutes(NamedTuple):
    """One person's minutes, M of them with a heart rate."""

    minute: Longs  # (M,) since 1970, local
    rate: Doubles  # (M,) /min
    still: Bools  # (M,) no steps now nor in the ten minutes before
    activity: Doubles  # (M,) recent steps a minute

    @property
    def day(self) -> Longs:
        """(M,) the day each belongs to: 10:00 to 10:00, by its end."""
        return np.asarray((self.minute + 14 * 60) // 1440)

    @property
    def night(self) -> Bools:
        """(M,) whether it is between 22:00 and 8:00."""
        clock = self.minute % 1440
        return np.asarray((clock >= SLEEP_FROM) | (clock < SLEEP_TO))

    def risen(self, start: int) -> Minutes:
        """Return them with a rise from the beginning of a day on."""
        since = self.minute / 1440 - start
        return self._replace(rate=self.rate + RISE * np.clip(since / CLIMB, 0, 1) * (since < LASTS))


Days = tuple[Longs, Doubles]  # days since 1970 (D,), the heart rates asleep and at rest of each (D, 2), NaN: unknown


def _means(of: Minutes, which: Bools, least: int) -> dict[int, float]:
    day, place = np.unique(of.day[which], return_inverse=True)
    n = np.bincount(place)
    mean = np.bincount(place, of.rate[which]) / n
    return {d: value for d, value, k in zip(day.tolist(), mean.tolist(), n.tolist(), strict=True) if k >= least}


def _asleep(of: Minutes) -> dict[int, float]:
    return _means(of, of.still & of.night, NIGHT_MINUTES)


def _rest(of: Minutes) -> dict[int, float]:
    return _means(of, of.still & ~of.night, REST_MINUTES)


def _model(of: Minutes, which: Bools) -> dict[int, float]:
    hour, place = np.unique(of.minute[which] // 60, return_inverse=True)
    n = np.bincount(place)
    rate, activity = (np.bincount(place, values[which]) / n for values in (of.rate, of.activity))
    full = n >= HOUR_MINUTES
    days, base = daily_base(hour[full], rate[full], activity[full])
    return dict(zip(days.tolist(), base.tolist(), strict=True))


def _table(asleep: Mapping[int, float], rest: Mapping[int, float]) -> Days:
    days = sorted(asleep.keys() | rest.keys())
    values = [[asleep.get(day, np.nan), rest.get(day, np.nan)] for day in days]
    return np.array(days, np.int64), np.array(values, np.float64).reshape(-1, 2)


def _where_no_night(of: Minutes) -> Days:
    asleep = _asleep(of)
    return _table(asleep, {day: rate for day, rate in _rest(of).items() if day not in asleep})


MEASURES: Final[Mapping[str, Callable[[Minutes], Days]]] = {
    NIGHT: lambda of: _table(_asleep(of), {}),
    "at rest by day": lambda of: _table({}, _rest(of)),
    "asleep, at rest by day where there is no night": _where_no_night,
    "both (what runs now)": lambda of: _table(_asleep(of), _rest(of)),
    "model, all hours": lambda of: _table(_model(of, np.ones(len(of.rate), bool)), {}),
    "model, hours by day": lambda of: _table({}, _model(of, ~of.night)),
}


def evaluate(folder: Path, told: Any = lambda *_: None) -> dict[str, Any]:
    """Return the task's document; ``folder`` of raw recordings.

    Raises:
        NotEvaluable: a file can't be read.
    """
    readable = [one for one in read_wearers(folder) if {"heart_rate", "steps"} <= one.streams.keys()]
    return compare(folder.name, [minutes_of(one) for one in readable], told)


def compare(name_of_data: str, people: list[Minutes], told: Any = lambda *_: None) -> dict[str, Any]:
    """Return the task's document of these people.

    Raises:
        NotEvaluable: nobody's days are enough for one rise.
    """
    if not any(True for one in people for _ in _starts(one)):
        msg = f"{name_of_data}: nobody has {FIRST + LAST + 1} days with {ENOUGH} minutes of heart rate, and steps"
        raise NotEvaluable(msg)
    weeks = np.array([len(np.unique(one.day)) / 7 for one in people])
    counts = {}
    for done, (name, measure) in enumerate(MEASURES.items()):
        told(name, done, len(MEASURES))
        counts[name] = np.array([_count(one, measure) for one in people])
    weights = resampled(len(people))
    night = {budget: _gains(counts[NIGHT], weeks, weights, budget) for budget in BUDGETS}
    rows = {
        name: {str(budget): _point(found, weeks, weights, budget, night[budget]) for budget in BUDGETS}
        for name, found in counts.items()
    }
    starts = int(sum(len(list(_starts(one))) for one in people))
    return {
        "task": "hearts", "data": name_of_data, "n": len(people), "weeks": round(float(weeks.sum()), 1),
        "starts": starts, "rise": RISE, "climb": CLIMB, "measures": rows,
    }  # fmt: skip


def minutes_of(person: Wearer) -> Minutes:
    """Return a person's minutes with a heart rate; recordings are in local time."""
    heart, steps = person.streams["heart_rate"], person.streams["steps"]
    minute, place = np.unique(heart.t_ms // MINUTE_MS, return_inverse=True)
    rate = np.bincount(place, heart.value) / np.bincount(place)
    stepped = steps.t_ms // MINUTE_MS
    first = int(min(minute[0], stepped[0]))
    walked = np.zeros(int(max(minute[-1], stepped[-1])) - first + 1)
    walked[stepped - first] = np.nan_to_num(steps.value)
    activity, recent = np.empty(len(walked)), 0.0
    for i, now in enumerate(walked.tolist()):
        recent += MEMORY * (now - recent)
        activity[i] = recent
    latest = np.maximum.accumulate(np.where(walked > 0, np.arange(len(walked)), -STILL_MINUTES - 1))
    still = np.arange(len(walked)) - latest > STILL_MINUTES
    return Minutes(minute, rate, still[minute - first], activity[minute - first])


def _starts(person: Minutes) -> Iterator[int]:
    day, n = np.unique(person.day, return_counts=True)
    yield from day[n >= ENOUGH][FIRST:-LAST:EVERY].tolist()


def begins(days: Days) -> Bools:
    """Return (T, D) where an alert begins at each of LIMITS."""
    detector, t = Daily(), len(LIMITS)
    state, rows = detector.new_state(t), np.arange(t)
    found = np.zeros((t, len(days[0])), bool)
    for place, (day, rates) in enumerate(zip(*days, strict=True)):
        values = np.tile([*rates, np.nan], (t, 1))
        number = np.full(t, day - days[0][0] + 1, np.int32)
        found[:, place] = detector.advance(state, rows, number, values, LIMITS).raised
    return found


def _count(person: Minutes, measure: Callable[[Minutes], Days]) -> Doubles:
    """Return (4, T): alerts that begin, rises found, those found without the rise too, rises."""
    days = measure(person)
    plain = begins(days)
    found, anyway, n = np.zeros(len(LIMITS)), np.zeros(len(LIMITS)), 0
    for start in _starts(person):
        changed = measure(person.risen(start))
        found += _within(begins(changed), changed, start)
        anyway += _within(plain, days, start)
        n += 1
    return np.array([plain.sum(1), found, anyway, np.full(len(LIMITS), n)])


def _within(began: Bools, days: Days, start: int) -> Bools:
    inside = (days[0] > start) & (days[0] <= start + LASTS + 1)
    return np.asarray(began[:, inside].any(axis=1))


def _limit(counts: Doubles, weeks: Doubles, budget: float) -> int:
    return limit_within(counts[:, 0].sum(0), float(weeks.sum()), budget)


def _gains(counts: Doubles, weeks: Doubles, weights: Doubles, budget: float) -> Doubles:
    """Return (B,) points of rises found that are not found anyway."""
    _, found, anyway, n = (weights @ counts[:, row, _limit(counts, weeks, budget)] for row in range(4))
    return np.asarray(100 * (found - anyway) / np.where(n > 0, n, np.nan))


def _point(counts: Doubles, weeks: Doubles, weights: Doubles, budget: float, night: Doubles) -> dict[str, Any]:
    gain = _gains(counts, weeks, weights, budget)
    begun, found, anyway, _ = counts[:, :, _limit(counts, weeks, budget)].sum(0)
    return {
        "rate": rounded(float(begun / weeks.sum())), "found": int(found), "anyway": int(anyway),
        "gain": rounded(float(gain[0])), "gain_ci": interval(gain),
        "more_than_night": rounded(float((gain - night)[0])), "more_than_night_ci": interval(gain - night),
    }  # fmt: skip
