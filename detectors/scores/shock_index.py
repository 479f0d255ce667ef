"""The shock index: pulse by systolic pressure.

Source: Allgöwer M, Burri C. "Schockindex". Deutsche Medizinische Wochenschrift 1967; 92: 1947-1950. 0.5 to 0.7 is usual
in healthy adults; 1.0 is the threshold kept here, others take 0.9. Drugs that hold the pulse, and pacemakers, make it
too low.
Units: /min by mmHg.
Valid: adults; children and pregnancy have other figures.

Deviation: both have to come from the same time, or the ratio is of nothing: at most 15 minutes apart, an engineering
choice. A ratio of one known number is not known at all, so it is never partial. It is rounded half up to hundredths,
and judged as shown.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.protocol import Bools, Doubles
from detectors.scores.clinical import APART, KNOWN, UNSCORED, Band, ClinicalScore, Scored, columns, judged, rounded
from detectors.scores.observations import PARAMETERS, Observations

TOGETHER_S: Final = 900
OF: Final = ("heart_rate", "systolic_pressure")
BANDS: Final = (Band("under_1", "under 1.0"), Band("from_1", "1.0 or more, the published threshold", 1.0))
_PLACES: Final = [PARAMETERS.index(parameter) for parameter in OF]


def work_out(seen: Observations) -> Scored:
    """Return the shock index of P people; it has no points, K is OF.

    >>> seen = Observations(np.array([[22, 93, 0, 98, 105, 0, 38.5]]), np.zeros((1, 7)), np.array([False]),
    ...                     np.zeros((1, 2), bool))
    >>> scored = work_out(seen)
    >>> scored.total.tolist(), BANDS[scored.band[0]].key
    ([1.07], 'from_1')
    """
    value, states = columns(seen, OF)
    age_s = seen.age_s[:, _PLACES]
    both = (states == KNOWN).all(axis=1)
    apart = both & (np.abs(age_s[:, 0] - age_s[:, 1]) > TOGETHER_S)
    states[apart] = APART
    both &= ~apart
    total = np.where(both, _ratio(value, both), np.nan)
    blank = np.zeros(states.shape, bool)
    return judged(seen, total, np.full(states.shape, UNSCORED, np.int16), states, blank, BANDS)


def _ratio(value: Doubles, both: Bools) -> Doubles:
    """Return (P,) pulse by pressure in hundredths, halves up, worked out in whole numbers."""
    pulse, pressure = (rounded(np.where(both, value[:, place], 1), 0.0001) for place in (0, 1))
    return (200 * pulse + pressure) // (2 * pressure) / 100


SHOCK_INDEX: Final = ClinicalScore(
    "shock_index", 1, "Shock index", "Allgöwer and Burri, 1967", "for adults, not in pregnancy", OF, BANDS, work_out,
    decimals=2,
)  # fmt: skip
