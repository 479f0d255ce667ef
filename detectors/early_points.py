"""The most points that values can have on NEWS2's chart, worked out ahead: see `early_warning`.

Nearly all values of nearly everybody have none, or too few to come to a level whatever else is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from detectors.protocol import Bools, Floats, Rows, Shorts
from detectors.scores import news2
from detectors.scores.clinical import FINE, Table
from detectors.scores.observations import PARAMETERS

N: Final = len(PARAMETERS)
OXYGEN: Final = PARAMETERS.index("supplemental_oxygen")
STEP: Final = np.array([table.step for table in news2.TABLES])
MOST: Final = 4095  # steps: further out there are no more points
_FINE_STEP: Final = np.rint(STEP * FINE)
_NEAR: Final = 0.001  # values this near a boundary may be on either side of it
_SPO2_SCALES: Final = (news2.SPO2_SCALE_1, news2.SPO2_SCALE_2_AIR, news2.SPO2_SCALE_2_OXYGEN)


def _usual(table: Table) -> tuple[float, float]:
    """Return between which values a parameter surely has no points."""
    tops = [(-np.inf, -1), *table.steps, (np.inf, table.above)]
    place = next(place for place, (_, points) in enumerate(tops) if points == 0)
    half = table.step / 2
    return tops[place - 1][0] + half + _NEAR, tops[place][0] + half - _NEAR


_USUAL_FROM, _USUAL_TO = np.array([_usual(table) for table in news2.TABLES], np.float32).T.copy()


def _best_points(tables: Sequence[Table]) -> Shorts:
    """Return for each number of steps the most points that one of the tables gives."""
    values = np.arange(MOST + 1, dtype=np.float64)
    return np.asarray(np.max([table.points(values * table.step) for table in tables], axis=0))


_MOST_POINTS: Final = np.stack(
    [
        np.stack([_best_points(scales if table.parameter == "spo2" else (table,)) for table in news2.TABLES])
        for scales in (_SPO2_SCALES[:1], _SPO2_SCALES)
    ]
)
"""(2, 7, steps) by everybody's scale of oxygen saturation, and by whichever a profile may say."""


def in_steps(value: Floats, parameter: Shorts) -> Shorts:
    """Return values in the steps of their parameter's chart, halves up: `clinical.rounded`, in fewer passes.

    A quotient of so few digits, and a half more, is on the right side of each whole number.

    >>> in_steps(np.array([20.5, 38.05], "f4"), np.array([0, 6], "i2")).tolist()
    [21, 381]
    """
    steps = np.rint(value.astype(np.float64) * FINE) / _FINE_STEP.take(parameter) + 0.5
    return np.asarray(np.minimum(np.maximum(steps, 0), MOST), np.int16)


def may_have_points(value: Floats, parameter: Shorts) -> Bools:
    """Tell which values may have points by everybody's scale; which have none is not told of all."""
    place = parameter.astype(np.intp)  # once: each look-up would do it anew
    return np.asarray((value < _USUAL_FROM.take(place)) | (value > _USUAL_TO.take(place)))


def most_points(steps: Shorts, parameter: Shorts | Rows, of_profile: Bools) -> Shorts:
    """Return the most points each value can have; ``of_profile``: whose profile may say another scale."""
    return np.asarray(_MOST_POINTS[of_profile.astype(np.intp), parameter, steps])
