"""Published rules on a daily value, re-implemented to be judged on the same people in the same run.

Each is causal: what it says of a day uses that day and those before it. Thresholds are swept; ``fixed`` is the one it
was published with, where there is one.

- ``fixed_4bpm_2_nights``: two valid days in a row (at most two days apart) at least so much above the median of all
  earlier days. Source: NightSignal (Alavi 2022). Deviation: daily basal rate instead of the nightly one.
- ``z_above``: robust z against the median and MAD of the last 28 earlier valid days. Source: the usual z > 2 rule.
- ``ewma_z``: z against an exponentially weighted mean and variance (0.05 a day) of the earlier days, which learns from
  every day. Source: Roberts 1959. Deviation: one-sided, on the value and not on its smoothed form.
- ``cusum_k…``: S ← max(0, S + min(z, 4) - k), z as in ``z_above``, alert while S > h. Source: Page 1954, Mishra 2020.
  Deviation: z is capped; no reset after an alert.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.protocol import Bools, Doubles, Ints

WARM_UP: Final = 14
MEMORY: Final = 28
LEAST_SPREAD: Final = 0.5  # /min: a spread is never taken as less
RATE: Final = 0.05
CAP: Final = 4.0
APART: Final = 2  # days between two that count as in a row


@dataclass(frozen=True, slots=True)
class Reference:
    """A rule with its thresholds (T,), strictest last: ``score`` (D,) is compared with each, NaN says nothing."""

    score: Callable[[Ints, Doubles], Doubles]
    thresholds: Doubles
    fixed: float | None

    def active(self, day: Ints, value: Doubles) -> Bools:
        """Return (T, D) whether an alert is active, for one person's days (D,) and values (D,)."""
        score = self.score(day, value)
        with np.errstate(invalid="ignore"):
            return np.asarray(score[None, :] > self.thresholds[:, None])


def robust_z(day: Ints, value: Doubles) -> Doubles:
    """Return z against the last 28 earlier valid days; NaN before there are 14."""
    z = np.full(len(value), np.nan)
    for i in range(WARM_UP, len(value)):
        past = value[max(0, i - MEMORY) : i]
        median = np.median(past)
        z[i] = (value[i] - median) / max(1.4826 * float(np.median(np.abs(past - median))), LEAST_SPREAD)
    return z


def above_median(day: Ints, value: Doubles) -> Doubles:
    """Return the lesser of the last two days' rise above the median of all earlier days; a hair is added: ≥ counts."""
    rise = np.full(len(value), np.nan)
    for i in range(WARM_UP, len(value)):
        rise[i] = value[i] - np.median(value[:i])
    score = np.full(len(value), np.nan)
    near = np.diff(day) <= APART
    score[1:] = np.where(near, np.minimum(rise[1:], rise[:-1]), np.nan)
    return score + 1e-9


def ewma_z(day: Ints, value: Doubles) -> Doubles:
    """Return z against the exponentially weighted mean and variance of the earlier days; NaN before there are 14."""
    z = np.full(len(value), np.nan)
    mean, variance = 0.0, 0.0
    for i, one in enumerate(value.tolist()):
        if i >= WARM_UP:
            z[i] = (one - mean) / max(variance**0.5, LEAST_SPREAD)
        weight = max(RATE, 1 / (i + 1))  # a plain mean until there are 20 days
        step = one - mean
        mean += weight * step
        variance = (1 - weight) * (variance + weight * step**2)
    return z


def cusum(slack: float) -> Callable[[Ints, Doubles], Doubles]:
    """Return a one-sided CUSUM on ``robust_z``."""

    def score(day: Ints, value: Doubles) -> Doubles:
        total, sums = 0.0, np.full(len(value), np.nan)
        for i, z in enumerate(robust_z(day, value).tolist()):
            if z == z:
                total = max(0.0, total + min(z, CAP) - slack)
                sums[i] = total
        return sums

    return score


REFERENCES: Final[Mapping[str, Reference]] = {
    "fixed_4bpm_2_nights": Reference(above_median, np.arange(0.5, 15.1, 0.25), 4.0),
    "z_above_2": Reference(robust_z, np.arange(0.5, 8.01, 0.1), 2.0),
    "ewma_z": Reference(ewma_z, np.arange(0.5, 8.01, 0.1), None),
    "cusum_k0.5": Reference(cusum(0.5), np.arange(0.5, 30.1, 0.25), None),
    "cusum_k1.0": Reference(cusum(1.0), np.arange(0.5, 30.1, 0.25), None),
}
