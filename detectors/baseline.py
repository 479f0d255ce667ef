"""What is usual for this person: one baseline for each metric and context that matters.

Source: robust medians over a fortnight of daily values as in Mishra 2020 (28 days) and Alavi 2022, with the
normal-normal shrinkage of empirical Bayes for the first days. Deviations: see ``usual`` and ``learn``; the spread is
what days missed the median before them by, not how they lie about a median they helped to make, which is too narrow.
The priors are rounded population figures for adults from a wrist, and are meant to be replaced by a programme's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.protocol import (
    ACTIVE,
    ASLEEP,
    CONTEXTS,
    HEART_RATE,
    RECOVERING,
    REST,
    VITALS,
    Counts,
    Doubles,
    Evidence,
    Floats,
    Ints,
    State,
)

DAYS = 14
"""How many clean days a baseline holds."""

LEARNED = 5
"""As many clean days a baseline needs to be more than ``learning``."""

STALE_DAYS = 28
"""After so many days without a clean one a heart rate's center is in doubt by one more spread.

Only a heart rate's: a rise of it is told and asked about. What nothing asks about is never learned by growing stale.
"""

ERROR_RATE = 1 / 28
"""Weight of a day in the mean square by which days miss the median."""

PRIOR_DAYS = 5
"""The prior's spread counts as much as this many days."""

HUNDRED, MOST = 100, np.iinfo(np.uint16).max
"""A ring holds hundredths, so values up to 655.35: finer than any wearable, at half the bytes."""

MEMORY_DAYS = 64
"""Days further apart than this are not one baseline: when a day enters, older ones leave."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A metric in a context, and what is known of it before the first day (units of the metric)."""

    metric: str
    contexts: tuple[int, ...]  # the first one names it
    center: float  # of the population
    between: float  # SD between people
    day: float  # SD of one person's days
    within: float  # SD of the hours of one day
    minute: float  # SD of the minutes of one hour
    floor: float  # the spread of days is never taken as less
    least_minutes: int  # usable minutes that make a day


PAIRS: Final[tuple[Pair, ...]] = (
    Pair("heart_rate", (ASLEEP,), 60, 9, 2.5, 3.5, 4, 1.2, 180),
    Pair("heart_rate", (REST,), 74, 11, 4, 6, 7, 2, 60),
    Pair("heart_rate", (ACTIVE, RECOVERING), 95, 13, 7, 12, 12, 3, 30),
    Pair("spo2", (ASLEEP,), 95.5, 1.5, 0.7, 0.8, 1.2, 0.4, 20),
    Pair("spo2", (REST, ACTIVE, RECOVERING), 96.5, 1.3, 0.7, 0.8, 1.2, 0.4, 3),
    Pair("respiratory_rate", (ASLEEP,), 15, 2.2, 0.7, 1, 1.5, 0.4, 20),
    Pair("respiratory_rate", (REST,), 16, 2.5, 1, 1.5, 2, 0.5, 20),
    Pair("skin_temperature", (ASLEEP,), 34, 1, 0.4, 0.6, 0.3, 0.2, 20),
    Pair("skin_temperature", (REST, ACTIVE, RECOVERING), 32.5, 1.3, 0.7, 1, 0.6, 0.4, 20),
    Pair("body_temperature", (REST, ASLEEP, ACTIVE, RECOVERING), 36.7, 0.3, 0.2, 0.25, 0.15, 0.1, 1),
    Pair("hrv_rmssd", (ASLEEP,), 40, 20, 8, 10, 12, 3, 5),
)
"""Every baseline a person has. None is of recovery alone, and that of rest has none of it: what was measured in the
minutes after a walk is learned with the walk."""

NIGHT_HEART, REST_HEART, ACTIVE_HEART = 0, 1, 2
NIGHT_SPO2, NIGHT_BREATH, NIGHT_SKIN, NIGHT_HRV = 3, 5, 7, 10
PAIR_METRIC = np.array([VITALS.index(pair.metric) for pair in PAIRS], np.int16)
PAIR_CONTEXT = np.array([pair.contexts[0] for pair in PAIRS], np.uint8)
LEAST_MINUTES = np.array([pair.least_minutes for pair in PAIRS], np.uint16)

BASELINE_DTYPE = np.dtype(
    [
        ("ring", "u2", (DAYS,)),  # values of the clean days in hundredths, newest first
        ("days", "u8"),  # bit i: day last_day - i is in the baseline
        ("last_day", "u2"),
        ("n", "u1"),  # how many days of the ring count
        ("median", "f4"),
        ("error", "f4"),  # mean square by which a day missed the median before it
        ("within", "f4"),  # mean variance of the hours of a day
        ("within_n", "u1"),
        ("anchor", "f4"),  # the median of the first 14 clean days, kept for ever; 0 before
    ]
)


@dataclass(frozen=True, slots=True)
class Usual:
    """What is expected of a day and of an hour; every array has the shape of the baselines."""

    n: Ints  # clean days known
    median: Floats  # of those days; 0 without any
    center: Doubles  # the median drawn towards the population by how little is known
    day: Doubles  # SD of a day's value about the center, doubt about the center included
    hour: Doubles  # SD of an hour's mean about the center

    def learned(self) -> NDArray[np.bool_]:
        """Return where enough is known to judge."""
        return np.asarray(self.n >= LEARNED)

    def widened(self, doubt: Doubles) -> Usual:
        """Return the same with one more variance (R, P) in a day's and an hour's SD; where it is 0, to the last bit."""
        day, hour = (np.where(doubt > 0, np.sqrt(sd**2 + doubt), sd) for sd in (self.day, self.hour))
        return replace(self, day=day, hour=hour)


def _prior(name: str) -> Doubles:
    return np.array([getattr(pair, name) for pair in PAIRS], np.float64)


_CENTER, _BETWEEN, _DAY, _WITHIN, _FLOOR = map(_prior, ("center", "between", "day", "within", "floor"))
MINUTE_SD = _prior("minute")


_GROWS_STALE = PAIR_METRIC == HEART_RATE


def usual(baselines: State, day: Ints | None = None) -> Usual:
    """Return what the baselines (R, P) of BASELINE_DTYPE expect of local day ``day`` (R,), of the next one by default.

    spread² = ((n-1)·error + 5·day²) / (n-1+5), at least floor²; the median's own variance is
    v = (π/2)·spread²/n + spread²·a/28, a the days since the last clean one, of heart rates: what was not learned for
    long is known less, so that it is not left behind for ever; center = (median·between² + population·v) / (between² +
    v); what remains in doubt about it is between²·v / (between² + v). So the first days are judged against the
    population with an honest, wide spread, and after a week the person counts for nearly all.
    Units: the metric's. Valid: any n.

    >>> one = np.zeros(len(PAIRS), BASELINE_DTYPE)
    >>> expected = usual(one)
    >>> float(expected.center[NIGHT_HEART]), round(float(expected.day[NIGHT_HEART]), 2)
    (60.0, 9.34)
    """
    n = baselines["n"].astype(np.int32)
    more = np.maximum(n - 1, 0)
    spread = np.maximum((more * baselines["error"] + PRIOR_DAYS * _DAY**2) / (more + PRIOR_DAYS), _FLOOR**2)
    doubt = spread * np.pi / 2 / np.maximum(n, 1)
    if day is not None:
        age = np.maximum(day[:, None] - baselines["last_day"].astype(np.int32) - 1, 0)
        doubt += spread * np.where(_GROWS_STALE, age / STALE_DAYS, 0)
    share = np.where(n > 0, _BETWEEN**2 / (_BETWEEN**2 + doubt), 0.0)
    median = baselines["median"]
    center = share * median + (1 - share) * _CENTER
    day = spread + _BETWEEN**2 * (1 - share)
    within_n = baselines["within_n"]
    within = (within_n * baselines["within"] + PRIOR_DAYS * _WITHIN**2) / (within_n + PRIOR_DAYS)
    return Usual(n, median, center, np.sqrt(day), np.sqrt(day + within))


def learn(
    baselines: State, days: Ints, values: Floats, hours_variance: Floats, ordinary: NDArray[np.bool_] | None = None
) -> None:
    """Let K baselines take one clean day each, in place.

    ``baselines`` (K,) of BASELINE_DTYPE, ``days`` (K,) local days later than each one's last, ``values`` and
    ``hours_variance`` (K,), the latter NaN where the day had fewer than two hours. The caller keeps out what
    is alerted or anomalous. error is the mean of (value - median before)² / (1 + π/2n), the median's own doubt
    taken off: a plain mean up to the 14th day, then 1/28 a day. Where ``ordinary`` (K,) is False the day was
    expected to differ, and says nothing of how far days differ by themselves.

    >>> one = np.zeros(1, BASELINE_DTYPE)
    >>> for day, value in enumerate([61, 60, 65], start=20_000):
    ...     learn(one, np.array([day], "i4"), np.array([value], "f4"), np.array([4], "f4"))
    >>> float(one["median"][0]), days_used(one[0])
    (61.0, [20002, 20001, 20000])
    """
    before = baselines["n"].astype(np.float64)
    share = np.where(before < DAYS, 1 / np.maximum(before, 1), ERROR_RATE)
    missed = (values - baselines["median"]) ** 2 / (1 + np.pi / 2 / np.maximum(before, 1))
    share = share if ordinary is None else np.where(ordinary, share, 0)
    baselines["error"] = np.where(before > 0, baselines["error"] + share * (missed - baselines["error"]), 0)
    shift = np.clip(days - baselines["last_day"], 0, MEMORY_DAYS).astype(np.uint64)
    kept = np.where(shift < MEMORY_DAYS, baselines["days"] << np.minimum(shift, MEMORY_DAYS - 1), 0)
    baselines["days"] = kept.astype(np.uint64) | np.uint64(1)
    baselines["last_day"] = days
    n = np.minimum(np.bitwise_count(baselines["days"]), DAYS)
    baselines["n"] = n
    newest = np.clip(np.rint(values.astype(np.float64) * HUNDRED), 0, MOST).astype(np.uint16)
    baselines["ring"] = np.concatenate([newest[:, None], baselines["ring"][:, :-1]], axis=1)
    baselines["median"] = _median(baselines["ring"], n)
    first = (n == DAYS) & (baselines["anchor"] == 0)
    baselines["anchor"] = np.where(first, baselines["median"], baselines["anchor"])
    known = np.isfinite(hours_variance)
    count = np.minimum(baselines["within_n"] + known, DAYS)
    step = np.where(known, hours_variance - baselines["within"], 0) / np.maximum(count, 1)
    baselines["within"] += step.astype(np.float32)
    baselines["within_n"] = count


def compared(pair: int, day: int, value: float, usual: float) -> Evidence:
    """Return what a finding about a day's value against a slow mean begins with; ``pair`` its place in ``PAIRS``.

    >>> compared(NIGHT_SPO2, 20_000, 94.5, 96.25)["difference"]
    -1.75
    """
    return {
        "metric": PAIRS[pair].metric,
        "context": CONTEXTS[PAIR_CONTEXT[pair]],
        "day": day,
        "value": round(value, 4),
        "usual": round(usual, 4),
        "difference": round(value - usual, 4),
    }


def days_used(baseline: np.void) -> list[int]:
    """Return the local days of one baseline, newest first."""
    bits, last = int(baseline["days"]), int(baseline["last_day"])
    return [last - i for i in range(MEMORY_DAYS) if bits >> i & 1][: int(baseline["n"])]


def _median(rings: Counts, n: NDArray[np.uint8]) -> Floats:
    """Return the median (K,) of the first ``n`` values of each ring (K, DAYS)."""
    ordered = np.sort(np.where(np.arange(DAYS) < n[:, None], rings, np.uint16(MOST)), axis=1)
    which = np.arange(len(n))
    twice = ordered[which, (n - 1) // 2].astype(np.int32) + ordered[which, n // 2]
    return np.asarray(twice / (2 * HUNDRED), np.float32)
