"""NEWS2: the National Early Warning Score 2.

Source: Royal College of Physicians. National Early Warning Score (NEWS) 2: Standardising the assessment of
acute-illness severity in the NHS. London: RCP, 2017; charts 1 (points) and 2 (thresholds and triggers).
Units: /min, %, L/min, mmHg, °C, points.
Valid: 16 and over, not pregnant. Scale 2 of the oxygen saturation only where a competent clinician wants 88 to 92 %
(hypercapnic respiratory failure). It was made for hospital wards and has not been validated with wearables at home.

Deviations: the chart is for a full set of observations taken together, here each parameter is the newest value within
its own bound (`observations.MAX_AGE_S`), and a score that lacks one is told as partial. On scale 2 a saturation that
scores otherwise on air than on oxygen is not scored where neither is known. Values are rounded to the chart's steps.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.protocol import Doubles, Shorts
from detectors.scores.clinical import (
    KNOWN,
    NEEDS_OXYGEN,
    UNSCORED,
    Band,
    ClinicalScore,
    Scored,
    Table,
    by_tables,
    columns,
    summed,
)
from detectors.scores.observations import PARAMETERS, Observations

RED: Final = 3  # points of a single parameter that alone ask for an urgent look

SPO2_SCALE_1: Final = Table("spo2", ((91, 3), (93, 2), (95, 1)), above=0)
SPO2_SCALE_2_AIR: Final = Table("spo2", ((83, 3), (85, 2), (87, 1)), above=0)
SPO2_SCALE_2_OXYGEN: Final = Table("spo2", ((83, 3), (85, 2), (87, 1), (92, 0), (94, 1), (96, 2)), above=3)
TABLES: Final[tuple[Table, ...]] = (
    Table("respiratory_rate", ((8, 3), (11, 1), (20, 0), (24, 2)), above=3),
    SPO2_SCALE_1,
    Table("supplemental_oxygen", ((0, 0),), above=2, step=0.1),
    Table("systolic_pressure", ((90, 3), (100, 2), (110, 1), (219, 0)), above=3),
    Table("heart_rate", ((40, 3), (50, 1), (90, 0), (110, 1), (130, 2)), above=3),
    Table("consciousness", ((0, 0),), above=3),
    Table("body_temperature", ((35.0, 3), (36.0, 1), (38.0, 0), (39.0, 1)), above=2, step=0.1),
)
SPO2, OXYGEN = PARAMETERS.index("spo2"), PARAMETERS.index("supplemental_oxygen")

BANDS: Final = (
    Band("low", "low risk"),
    Band("low_medium", "low to medium risk, one parameter red", by_red=True),
    Band("medium", "medium risk", 5),
    Band("high", "high risk", 7),
)


def work_out(seen: Observations) -> Scored:
    """Return NEWS2 of P people; K are all of PARAMETERS.

    >>> seen = Observations(np.array([[22, 93, 0, 98, 105, np.nan, 38.4]]), np.zeros((1, 7)), np.array([False]),
    ...                     np.zeros((1, 2), bool))
    >>> scored = work_out(seen)
    >>> scored.total.tolist(), scored.points.tolist(), BANDS[scored.band[0]].title, scored.complete.tolist()
    ([8.0], [[2, 2, 0, 2, 1, -1, 1]], 'high risk', [False])
    """
    points, states = by_tables(seen, TABLES)
    _scale_2(seen, points, states)
    return summed(seen, points, states, BANDS, red_points=RED)


def _scale_2(seen: Observations, points: Shorts, states: Shorts) -> None:
    """Score the saturation of those on scale 2 anew, in place."""
    value, _ = columns(seen, ["spo2"])
    spo2: Doubles = value[:, 0]
    on_air, on_oxygen = SPO2_SCALE_2_AIR.points(spo2), SPO2_SCALE_2_OXYGEN.points(spo2)
    gets_oxygen, told = points[:, OXYGEN] > 0, states[:, OXYGEN] == KNOWN
    open_question = seen.scale_2 & (on_air != on_oxygen) & ~told
    scale_2 = np.where(gets_oxygen, on_oxygen, on_air)
    points[seen.scale_2, SPO2] = scale_2[seen.scale_2]
    points[open_question, SPO2], states[open_question, SPO2] = UNSCORED, NEEDS_OXYGEN


NEWS2: Final = ClinicalScore(
    "news2", 1, "NEWS2", "Royal College of Physicians, 2017", "for people of 16 and over who are not pregnant",
    PARAMETERS, BANDS, work_out,
)  # fmt: skip
