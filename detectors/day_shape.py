"""The course of a day as a detector, found by its name like any other: findings in plain words, for one's own data."""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.apart import HOURS
from detectors.context import DAY_FROM
from detectors.protocol import DAY_MS, DayValues, Evidence, Finding, Rows, Rule, State
from detectors.shape import Shape

DAY_SHAPE: Final = Rule(
    "day_shape_unlike", 1, "adaptive", ("low",), "heart_rate", "Course of the day unlike the weeks before", ("paced",)
)
CLOCK: Final = tuple((DAY_FROM // 60 + hour) % HOURS for hour in range(HOURS))
"""The local hour of each hour of a day, which goes from 10:00 to 10:00."""


class DayShape:
    """``Shape``, saying on which day the course of the heart rate began, and ceased, to be unlike the weeks before.

    Source: see ``shape``. Units: /min, the mean of each local hour from 10:00 on. Valid: whose heart sets its own rate;
    each person's days in order, gaps allowed. State: 786 bytes a person.

    >>> detector, at = DayShape(), np.arange(24)
    >>> state = detector.new_state(1)
    >>> for day in range(100, 131):
    ...     to_bed = 13 if day != 129 else 6
    ...     rate = np.where((at >= to_bed) & (at < to_bed + 8), 55, 70) + np.random.default_rng(day).normal(0, 3, 24)
    ...     for finding in detector.update(state, DayValues(np.array([0]), np.array([day], "i4"), rate[None])):
    ...         print(day, finding.change, finding.evidence["turned_hours"])
    129 raised -7
    130 cleared 0
    """

    takes = DayValues
    dtype = Shape.dtype
    channels = tuple(f"hour_{hour:02}" for hour in CLOCK)

    def __init__(self) -> None:
        self._shape = Shape()

    def new_state(self, n: int) -> State:
        """Return (n,) rows that know nothing."""
        return self._shape.new_state(n)

    def reset(self, state: State, rows: Rows) -> None:
        """Forget everything about ``rows``, in place."""
        self._shape.reset(state, rows)

    def update(self, state: State, given: DayValues) -> list[Finding]:
        """Take one day each of R people; return whose course began or ceased to be unlike."""
        before = state["since"][given.rows].astype(int)
        said = self._shape.advance(state, given.rows, given.day, given.values)
        known = np.isfinite(said.p)
        findings = []
        for i in np.flatnonzero(known & (said.unlike != (before > 0))).tolist():
            row, day, raised = int(given.rows[i]), int(given.day[i]), bool(said.unlike[i])
            told = "unlike that of any of" if raised else "like one of"
            evidence: Evidence = {
                "change": "raised" if raised else "cleared",
                "metric": DAY_SHAPE.metric,
                "day": day,
                "distance": round(float(said.distance[i]), 4),
                "p": round(float(said.p[i]), 6),
                "nearest_day": int(said.nearest[i]),
                "turned_hours": int(said.turned[i]),
                "hours": int(said.hours[i]),
                "days": int(said.days[i]),
                "sentence": f"The course of the day's heart rate was {told} {said.days[i]} days before it",
            }
            change, since = evidence["change"], day if raised else int(before[i])
            findings.append(Finding(row, DAY_SHAPE.id, change, since * DAY_MS, (day + 1) * DAY_MS, 0, evidence))
        return findings
