"""A heart rate split into its base, the time of day, movement and noise: a filter over hours, to compare with.

It is not part of what runs: on real recordings it tells no more than plain means do (``evaluation.hearts``).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import numpy as np

from detectors.protocol import Doubles, Longs

START: Final = np.array([75.0, -5.0, -3.0, 0.0, 0.0, 0.3])  # base, cos and sin of 24 h and of 12 h, a step a minute
DOUBT: Final = np.diag([81.0, 16.0, 16.0, 4.0, 4.0, 0.04])  # of the start
DRIFT: Final = np.diag([0.3, 0.05, 0.05, 0.02, 0.02, 1e-5]) / 24  # an hour
NOISE: Final = 20.0  # variance of an hour, at first; learned by 1 % an hour, never below:
LEAST_NOISE: Final = 4.0
CORRELATED: Final = 4.0  # an hour's noise counts so many times: the next hours share it
FAR: Final = 2.5  # SDs by which an hour counts as away at the most
DAY_BEGINS: Final = 10  # local hour; a day is named by its end
LEAST_HOURS: Final = 6


def daily_base(hour: Longs, rate: Doubles, activity: Doubles) -> tuple[Longs, Doubles]:
    """Return (D,) days and the base of each: the mean of its hours, the time of day and movement taken off.

    Source: Mayer et al. for heart rate = base + circadian + steps + correlated noise; Kalman 1960 for the recursion.
    Deviations: two harmonics; the innovation is bounded (Huber 1964); correlated noise is met by taking an hour's
    noise four times. What is taken off an hour was learned before it. ``hour`` (H,) local hours since 1970, ascending,
    ``rate`` (H,) /min, ``activity`` (H,) recent steps a minute. Days with fewer than 6 hours are left out.

    >>> hour = np.arange(24 * 20)
    >>> rate = 70 - 6 * np.cos(2 * np.pi * hour / 24) + 4 * (hour >= 24 * 15)
    >>> day, base = daily_base(hour, rate, np.zeros(len(hour)))
    >>> round(float(base[10:14].mean())), round(float(base[16:18].mean()))
    (70, 74)
    """
    turn = 2 * np.pi * (hour % 24) / 24
    known = np.stack(
        [np.ones(len(hour)), np.cos(turn), np.sin(turn), np.cos(2 * turn), np.sin(2 * turn), activity], axis=1
    )
    state, doubt, noise = START.copy(), DOUBT.copy(), NOISE
    days: dict[int, list[float]] = defaultdict(list)
    before = int(hour[0]) if len(hour) else 0
    for now, value, row in zip(hour.tolist(), rate.tolist(), known, strict=True):
        doubt = doubt + DRIFT * (now - before)
        before = now
        days[(now + 24 - DAY_BEGINS) // 24].append(value - float(row[1:] @ state[1:]))
        missed, own = value - float(row @ state), float(row @ doubt @ row)
        bound = FAR * np.sqrt(own + noise)
        gain = doubt @ row / (own + CORRELATED * noise)
        state = state + gain * np.clip(missed, -bound, bound)
        doubt = doubt - np.outer(gain, row @ doubt)
        noise = max(LEAST_NOISE, noise + 0.01 * (min(missed**2, 9 * noise) - noise))
    enough = {day: float(np.mean(values)) for day, values in days.items() if len(values) >= LEAST_HOURS}
    return np.array(list(enough), np.int64), np.array(list(enough.values()), np.float64)
