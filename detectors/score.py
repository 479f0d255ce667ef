"""How unusual a value is against the person's own baseline.

Source: robust z-scores, and Student's t for a spread known from few days; conformal calibration (Vovk, Gammerman and
Shafer 2005) for what p-values come to on a person's own days. Deviations: the score of an hour takes the minutes of
that hour as independent about its mean; in place of the ranks of kept scores only how many lay beyond three bounds is
kept, drawn to a reference population as the counts of a beta-binomial are.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from detectors.baseline import MINUTE_SD, PRIOR_DAYS, Usual
from detectors.protocol import Bools, Doubles, Floats, Ints, State

BOUNDS: Final = np.array([0.001, 0.01, 0.1])
"""Student's p-values, two-sided, at and below which days are counted."""

REFERENCE: Final = np.array([0.0073, 0.0293, 0.155])
"""The share of days that lay there of 72 people (4,224 nights' heart rates on which nothing was suspected)."""

REFERENCE_DAYS: Final = 56
"""As many days of a person's own the reference counts: so a young patient can't have small p-values of their own."""

MOST_DAYS: Final = 224  # counted; then all counts are halved, so that what is long ago counts less

TAIL_DTYPE: Final = np.dtype([("days", "u1"), ("beyond", "u1", (len(BOUNDS),))])
_LEAST: Final = 1e-12  # below it one p-value is like another


def z_of_days(values: Doubles | Floats, expected: Usual) -> Doubles:
    """Return (value - center) / SD for daily values (..., P); NaN stays NaN.

    Units: SDs of a day, doubt about a young baseline included. Valid: any number of clean days.

    >>> from detectors.baseline import BASELINE_DTYPE, PAIRS, usual
    >>> new = usual(np.zeros(len(PAIRS), BASELINE_DTYPE))
    >>> round(float(z_of_days(np.full(len(PAIRS), 70.0), new)[0]), 2)  # 10 above the population, on day one
    1.07
    """
    return np.asarray((values - expected.center) / expected.day)


def z_of_hours(values: Doubles, minutes: NDArray[np.integer], expected: Usual) -> Doubles:
    """Return the same for hourly means (..., P) of ``minutes`` usable minutes; NaN stays NaN."""
    noise = MINUTE_SD**2 / np.maximum(minutes, 1)
    return np.asarray((values - expected.center) / np.sqrt(expected.hour**2 + noise))


def student(z: Doubles, n: Ints) -> Doubles:
    """Return the two-sided p-value of a score against a baseline of ``n`` days, were days normal and independent.

    Student's t with n - 1 + 5 degrees of freedom (the prior spread counts as 5 days), at least 5.

    >>> [round(float(student(np.array(3.0), np.array(days))), 3) for days in (0, 5, 14)]
    [0.03, 0.015, 0.008]
    """
    return np.asarray(2 * stdtr(np.maximum(n - 1, 0) + PRIOR_DAYS, -np.abs(z)))


def p_value(z: Doubles, n: Ints, own: State | None = None, reference: Doubles = REFERENCE) -> Doubles:
    """Return how often an ordinary day of this person lies so far out, two-sided; NaN stays NaN.

    ``z``, ``n`` and ``own``, of TAIL_DTYPE, have one shape; None: nothing is counted of this person. At the bounds it
    is (beyond + 56·reference) / (days + 56); between them its logarithm goes in a straight line over that of
    Student's, below the least one the two keep their ratio. Real days lie far out three times (at 0.01) to seven times
    (at 0.001) as often as Student's t says. Valid: of days on which nothing is suspected; the reference is of heart
    rate at night, and taken for the other metrics and for hours too.

    >>> own = np.zeros((), TAIL_DTYPE)
    >>> round(float(p_value(np.array(3.0), np.array(14), own)), 3)
    0.025
    >>> own["days"] = 100  # none of them beyond any bound
    >>> round(float(p_value(np.array(3.0), np.array(14), own)), 3)
    0.009
    """
    found = np.log(np.maximum(student(z, n), _LEAST))
    own = np.zeros(np.shape(z), TAIL_DTYPE) if own is None else own
    beyond = own["beyond"] + REFERENCE_DAYS * reference
    at = np.log(beyond / (own["days"][..., None].astype(np.float64) + REFERENCE_DAYS))
    bounds = np.log(BOUNDS)
    result = found + (at[..., 0] - bounds[0])
    for place in range(len(BOUNDS)):
        last = place == len(BOUNDS) - 1
        width = (0.0 if last else bounds[place + 1]) - bounds[place]
        rise = (0.0 if last else at[..., place + 1]) - at[..., place]
        line = at[..., place] + rise * (found - bounds[place]) / width
        result = np.where(found > bounds[place], line, result)
    return np.asarray(np.exp(np.minimum(result, 0)))


def count(own: State, p: Doubles, which: Bools) -> None:
    """Count a day each of people and metrics, in place.

    ``own`` of TAIL_DTYPE, ``p`` Student's and ``which`` have one shape. The caller leaves out days on which something
    was suspected before they began; how far out a day itself lies must not decide whether it counts.

    >>> own = np.zeros(2, TAIL_DTYPE)
    >>> count(own, np.array([0.005, 0.5]), np.array([True, True]))
    >>> own["beyond"].tolist(), own["days"].tolist()
    ([[0, 1, 1], [0, 0, 0]], [1, 1])
    """
    full = (own["days"] >= MOST_DAYS) & which
    own["beyond"] >>= full[..., None].astype(np.uint8)
    own["days"] >>= full.astype(np.uint8)
    own["beyond"] += (p[..., None] <= BOUNDS) & which[..., None]
    own["days"] += which
