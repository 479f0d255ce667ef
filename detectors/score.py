"""How unusual a value is against the person's own baseline.

Source: robust z-scores, and Student's t for a spread known from few days. Deviation: the score of an hour
takes the minutes of that hour as independent about its mean; calibration on clean days comes later.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from detectors.baseline import MINUTE_SD, PRIOR_DAYS, Usual
from detectors.protocol import Doubles, Floats, Ints


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


def p_value(z: Doubles, n: Ints) -> Doubles:
    """Return the two-sided p-value of a score against a baseline of ``n`` days.

    Student's t with n - 1 + 5 degrees of freedom (the prior spread counts as 5 days), at least 5.

    >>> [round(float(p_value(np.array(3.0), np.array(days))), 3) for days in (0, 5, 14)]
    [0.03, 0.015, 0.008]
    """
    return np.asarray(2 * stdtr(np.maximum(n - 1, 0) + PRIOR_DAYS, -np.abs(z)))
