"""qSOFA: the quick sequential organ failure assessment.

Source: Singer M, Deutschman CS, Seymour CW, et al. The Third International Consensus Definitions for Sepsis and Septic
Shock (Sepsis-3). JAMA 2016; 315: 801-810: breathing of 22 a minute or more, a systolic pressure of 100 or less, altered
mentation; two of the three are the threshold.
Units: /min, mmHg, points.
Valid: adults in whom an infection is suspected, which no reading tells; pregnancy has a version of its own.

Deviation: altered mentation is a Glasgow Coma Scale below 15 there; here anything but alert on ACVPU. Values are
rounded to whole numbers; each parameter is the newest value within its own bound.
"""

from __future__ import annotations

from typing import Final

from detectors.scores.clinical import Band, ClinicalScore, Scored, Table, by_tables, summed
from detectors.scores.observations import Observations

TABLES: Final[tuple[Table, ...]] = (
    Table("respiratory_rate", ((21, 0),), above=1),
    Table("systolic_pressure", ((100, 1),), above=0),
    Table("consciousness", ((0, 0),), above=1),
)
BANDS: Final = (Band("under_2", "under 2"), Band("from_2", "2 or more, the published threshold", 2))


def work_out(seen: Observations) -> Scored:
    """Return qSOFA of P people; K as in TABLES.

    >>> import numpy as np
    >>> seen = Observations(np.array([[22, 93, 0, 100, 105, np.nan, 38.5]]), np.zeros((1, 7)), np.array([False]),
    ...                     np.zeros((1, 2), bool))
    >>> scored = work_out(seen)
    >>> scored.total.tolist(), scored.points.tolist(), BANDS[scored.band[0]].key
    ([2.0], [[1, 1, -1]], 'from_2')
    """
    points, states = by_tables(seen, TABLES)
    return summed(seen, points, states, BANDS)


QSOFA: Final = ClinicalScore(
    "qsofa", 1, "qSOFA", "Singer and others, 2016", "for adults with a suspected infection, not in pregnancy",
    tuple(table.parameter for table in TABLES), BANDS, work_out,
)  # fmt: skip
