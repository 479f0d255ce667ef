"""MEWS: the Modified Early Warning Score, as printed first.

Source: Subbe CP, Kruger M, Rutherford P, Gemmel L. Validation of a modified Early Warning Score in medical admissions.
QJM 2001; 94: 521-526. There are many variants (with urine output, other cut-offs, 4 as the threshold); this is theirs.
Units: /min, mmHg, °C, points.
Valid: adults admitted to medical wards; neither children nor pregnancy were in it.

Deviations: the table leaves a pressure of exactly 70 and a pulse of exactly 40 open ("< 70", "71-80"; "< 40", "41-50"):
they get the points of the worse side. Its consciousness is AVPU, without new confusion: that counts as reacting to
voice, because somebody newly confused is not simply alert. Values are rounded to the table's steps; each parameter is
the newest value within its own bound.
"""

from __future__ import annotations

from typing import Final

from detectors.scores.clinical import Band, ClinicalScore, Scored, Table, by_tables, summed
from detectors.scores.observations import Observations

TABLES: Final[tuple[Table, ...]] = (
    Table("respiratory_rate", ((8, 2), (14, 0), (20, 1), (29, 2)), above=3),
    Table("systolic_pressure", ((70, 3), (80, 2), (100, 1), (199, 0)), above=2),
    Table("heart_rate", ((40, 2), (50, 1), (100, 0), (110, 1), (129, 2)), above=3),
    Table("consciousness", ((0, 0), (1, 1), (2, 1), (3, 2)), above=3),
    Table("body_temperature", ((34.9, 2), (38.4, 0)), above=2, step=0.1),
)
BANDS: Final = (Band("under_5", "under 5"), Band("from_5", "5 or more, the published threshold", 5))


def work_out(seen: Observations) -> Scored:
    """Return MEWS of P people; K as in TABLES.

    >>> import numpy as np
    >>> seen = Observations(np.array([[22, 93, 0, 98, 105, 0, 38.5]]), np.zeros((1, 7)), np.array([False]),
    ...                     np.zeros((1, 2), bool))
    >>> scored = work_out(seen)
    >>> scored.total.tolist(), scored.points.tolist(), scored.complete.tolist()
    ([6.0], [[2, 1, 1, 0, 2]], [True])
    """
    points, states = by_tables(seen, TABLES)
    return summed(seen, points, states, BANDS)


MEWS: Final = ClinicalScore(
    "mews", 1, "MEWS", "Subbe and others, 2001", "for adults, not in pregnancy",
    tuple(table.parameter for table in TABLES), BANDS, work_out,
)  # fmt: skip
