"""Weights of days, and whether a weight has risen fast: what heart failure teams ask people to tell.

Source: more than 2 kg in 3 days (European Society of Cardiology, guidelines on heart failure 2021 and its pages for
patients). Deviations: the rise is counted from the lowest of the three days before, so that a day that was left out
hides none, and it must be confirmed by another reading of the same weighing or by another day, as one odd reading is
no rise. Nothing is learned: what the weeks before were like makes no difference. The rule ``weight_gain`` tells what
this calls ``risen``, reading by reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Self

import numpy as np

from detectors.protocol import DAY_MS, Doubles, Floats, Longs
from detectors.trends import Daily

GainState = Literal["risen", "unconfirmed", "not_risen", "unknown"]

UNIT: Final = 100  # weights count in tens of grams: so many are a kilogram
GAIN_KG, GAIN_DAYS = 2.0, 3
"""More than so many kilograms, in so many days, are a fast gain."""

GAIN: Final = 200  # the same in tens of grams
JUMP: Final = 500
"""A gain of more than so many tens of grams may also be another person or another scale; a weight so much below both
its neighbours surely is."""

ENDS: Final = 100
"""A gain that was told is over when the weight is at most so many tens of grams above what it was counted from."""

CALM: Final = 7
"""It is over too after so many weighings that showed no further rise: at most 7 fit the state."""

FRESH_DAYS: Final = 2
"""A weight that is older says nothing of now."""

WEIGHING_S: Final = 3600
"""Readings so near the first of a day are repeats of it."""

SAME_S: Final = 60
"""So soon after the first one, a reading equal to one before it is that one by another way: clocks are cut."""

MOST_READINGS: Final = 3
"""So many readings of a weighing count, the first ones."""


def tens(kilograms: Floats | Doubles) -> Longs:
    """Return weights in tens of grams, halves up.

    >>> tens(np.array([80.1, 76.204], np.float32)).tolist()
    [8010, 7620]
    """
    return np.clip(np.floor(kilograms.astype(np.float64) * UNIT + 0.5), 1, 65_535).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Weighings:
    """The first weighing of each of N local days, ascending."""

    day: Longs  # (N,) local days since 1970
    value: Doubles  # (N,) kg, median of its readings
    least: Doubles  # (N,) kg, the lowest of them
    readings: Longs  # (N,)

    @classmethod
    def of(cls, local_ms: Longs, value: Doubles) -> Self:
        """Return the weighings of K good readings (K,) in kg at instants (K,) in ms of the local clock, in any order.

        A day's value is that of its first weighing, as people are asked to weigh themselves on rising: what was eaten
        and drunk by the evening is no gain. Who steps on the scale again within the hour has one weighing, of three
        readings at the most.

        >>> hours = np.array([7, 7.1, 20, 31]) * 3_600_000
        >>> found = Weighings.of(hours.astype(np.int64), np.array([80.2, 80.0, 81.5, 80.4]))
        >>> found.day.tolist(), found.value.tolist(), found.readings.tolist()
        ([0, 1], [80.1, 80.4], [2, 1])
        """
        order = np.argsort(local_ms, kind="stable")
        t, v = local_ms[order], tens(value[order])
        days, begin = np.unique(t // DAY_MS, return_index=True)
        ends = np.append(begin, len(t))[1:]
        parts = [_of_one(t[a:b] // 1000, v[a:b]) for a, b in zip(begin, ends, strict=True)]
        middles = np.array([np.floor(np.median(part) + 0.5) for part in parts], np.float64) / UNIT
        lowest = np.array([part.min() for part in parts], np.float64) / UNIT
        return cls(days.astype(np.int64), middles, lowest, np.array([len(part) for part in parts], np.int64))

    def daily(self) -> Daily:
        """Return the value of each day."""
        return Daily.of(self.day, self.value)


def _of_one(t_s: Longs, weights: Longs) -> Longs:
    """Return the readings of a day's first weighing; of what may have come by two ways the first."""
    kept = [int(weights[0])]
    for later_s, weight in zip((t_s - t_s[0]).tolist(), weights.tolist(), strict=True):
        same = later_s <= SAME_S and weight in kept
        if 0 < later_s <= WEIGHING_S and not same and len(kept) < MOST_READINGS:
            kept.append(weight)
    return np.array(kept, np.int64)


@dataclass(frozen=True, slots=True)
class Gain:
    """Whether the newest weight lies more than ``GAIN_KG`` above one of the days before it."""

    state: GainState
    day: int | None = None  # local day of the newest weight, None without any
    value: float | None = None  # kg
    from_day: int | None = None  # the lowest of the days before it
    from_value: float | None = None  # kg

    @property
    def kilograms(self) -> float | None:
        """How much more it is, to the gram: what a scale shows, not what a float makes of it."""
        return None if self.value is None or self.from_value is None else round(self.value - self.from_value, 3)


def gain(found: Weighings, last: int) -> Gain:
    """Return whether there is a fast gain as of local day ``last``; later days are not looked at.

    ``unconfirmed`` is a rise that one reading alone tells, ``unknown`` a newest weight older than ``FRESH_DAYS`` or one
    with nothing in the ``GAIN_DAYS`` before it.

    >>> morning = 7 * 3_600_000 + DAY_MS * np.arange(4)
    >>> said = gain(Weighings.of(morning, np.array([80.1, 80.3, 82.4, 82.5])), last=3)
    >>> said.state, said.kilograms, said.from_day
    ('risen', 2.4, 0)
    """
    known = np.flatnonzero(found.day <= last)
    if not len(known):
        return Gain("unknown")
    newest = int(known[-1])
    day, value = int(found.day[newest]), float(found.value[newest])
    state, low = _course(found, newest)
    if day <= last - FRESH_DAYS or low is None:
        return Gain("unknown", day, value)
    return Gain(state, day, value, int(found.day[low]), float(found.value[low]))


def _course(found: Weighings, newest: int) -> tuple[GainState, int | None]:
    """Return what the weighing ``newest`` shows, and the place of the one from which that is counted, None: none.

    In the place of one by which a gain was seen once stands what that was counted from, until it is seen twice. One
    that lies more than ``JUMP`` below both its neighbours was somebody else's, and is no base.
    """
    day, weight, least = found.day.tolist(), tens(found.value).tolist(), tens(found.least).tolist()
    stands = list(range(newest + 1))  # for each weighing, which one stands in its place
    kept: list[int] = []
    seen: list[int] = []  # by which a gain was seen
    state: GainState = "unknown"
    low: int | None = None
    for i in range(newest + 1):
        near = [j for j in kept if day[j] >= day[i] - GAIN_DAYS]
        if len(near) > 1 and min(weight[stands[near[-2]]], weight[i]) - weight[stands[near[-1]]] > JUMP:
            kept.remove(near.pop())
        low = min((stands[j] for j in near), key=lambda j: (weight[j], -j), default=None)
        kept.append(i)
        if low is None or weight[i] - weight[low] <= GAIN:
            state = "unknown" if low is None else "not_risen"
            continue
        lately = [j for j in seen if day[j] >= day[i] - GAIN_DAYS]
        seen.append(i)
        if lately or (found.readings[i] > 1 and least[i] - weight[low] > GAIN):
            state = "risen"
            for j in lately:
                stands[j] = j
        else:
            state, stands[i] = "unconfirmed", low
    return state, low
