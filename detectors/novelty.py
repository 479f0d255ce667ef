"""How often an ordinary day of a person lies as far from the nearest of its past as one does: a p-value.

Source: conformal p-values (Vovk, Gammerman and Shafer 2005), the ranks of own days drawn to a reference population as
the counts in ``score`` are. Deviations: distances are compared by their logarithm, about the person's own mean of it,
which is drawn to the population's too.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.protocol import Doubles, Ints

DAYS: Final = 28  # of a person's own that are remembered
FAR_STEP, LEAST_FAR = 1 / 24, 0.03  # of a distance's logarithm, as it is kept; no distance counts as less
FEWER: Final = 1 / 8
"""The nearest of N days is taken to lie by this power of N nearer; so it does in real people from 7 days on to 28."""

REFERENCE_DAYS: Final = 56  # of a person's own for which the population counts, as in ``score``
CENTER, CENTER_DAYS = 0.55, 3.0  # how far ordinary days lie from the nearest, and for how many of one's own it counts
SHARES: Final = np.array([0.5, 0.2, 0.1, 0.05, 0.02, 0.01])
BEYOND: Final = np.array([0.0, 0.19, 0.29, 0.35, 0.52, 0.59])
"""The logarithm of the distance over the person's own center that so large a share of days reaches: 327 days of the
heart rates of seven people (``wearable_hr``), those in which some fell ill among them."""


def far_code(distance: Doubles, days: Ints) -> Doubles:
    """Return (R,) distances to the nearest of so many days as they are kept, as if there were all 28: 1 to 251."""
    return _coded(distance * (np.maximum(days, 1) / DAYS) ** FEWER)


def p_value(code: Doubles, own: Ints) -> Doubles:
    """Return (R,) the share of ordinary days that lie as far as ``code`` (R,); above 0.5 all are alike.

    ``own`` (R, D) are the codes of the person's own days, 0 where there is none that counts.

    >>> far = far_code(np.array([0.55, 0.7, 1.1]), np.array([28, 28, 28]))
    >>> p_value(far, np.zeros((3, 28), int)).round(3).tolist()
    [0.5, 0.132, 0.005]
    """
    counted = own > 0
    n = counted.sum(1)
    center = (own.sum(1) + CENTER_DAYS * _coded(np.array(CENTER))) / (n + CENTER_DAYS)
    away, share = (code - center) * FAR_STEP, np.log(SHARES)
    further = share[-1] + (share[-1] - share[-2]) / (BEYOND[-1] - BEYOND[-2]) * (away - BEYOND[-1])
    line = np.where(away > BEYOND[-1], further, np.interp(away, BEYOND, share))
    beyond = (counted & (own >= code[:, None])).sum(1)
    return np.asarray((beyond + REFERENCE_DAYS * np.exp(line)) / (n + REFERENCE_DAYS))


def _coded(distance: Doubles) -> Doubles:
    """Return the logarithm of a distance in whole steps from 1 on; NaN: as the least."""
    bounded = np.clip(np.nan_to_num(distance, nan=LEAST_FAR, posinf=1e3), LEAST_FAR, 1e3)
    return np.asarray(1 + np.rint(np.log(bounded / LEAST_FAR) / FAR_STEP))
