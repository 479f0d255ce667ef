"""The daily detector, found by its name like any other: one limit for everybody, and findings in plain words."""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.daily import HEARTS, LIMITS, Daily
from detectors.protocol import DAY_MS, DayValues, Evidence, Finding, Rows, Rule, State

DAILY_RISE: Final = Rule(
    "daily_heart_rate_rise", 1, "adaptive", ("medium",), "heart_rate", "Basal heart rate rising",
    ("pregnant", "paced", "night_work"),
)  # fmt: skip
LIMIT: Final = LIMITS["0.1"]
CALLED: Final = {"basal": "basal", "rest": "at rest by day"}


class DailyRise:
    """``Daily`` at one limit of its sum: a small rise of a day's basal heart rate that stays.

    Source: see ``daily``. Units: those of its channels. Valid: adults; each person's days in order, gaps allowed.
    State: 34 bytes a person.

    >>> detector = DailyRise()
    >>> state = detector.new_state(1)
    >>> for day, basal in enumerate([70, 71, 69, 70, 70, 71, 69, 70, 70, 78, 79, 80, 79, 70]):
    ...     values = np.full((1, len(detector.channels)), np.nan)
    ...     values[0, 0] = basal
    ...     for finding in detector.update(state, DayValues(np.array([0]), np.array([day], "i4"), values)):
    ...         print(day, finding.change, finding.evidence["value"])
    10 raised 79.0
    """

    takes = DayValues
    dtype = Daily.dtype

    def __init__(self, limit: float = LIMIT) -> None:
        self._daily, self._limit = Daily(), limit
        self.channels = self._daily.channels

    def new_state(self, n: int) -> State:
        """Return (n,) rows that know nothing."""
        return self._daily.new_state(n)

    def reset(self, state: State, rows: Rows) -> None:
        """Forget everything about ``rows``, in place."""
        self._daily.reset(state, rows)

    def update(self, state: State, given: DayValues) -> list[Finding]:
        """Take one day each of R people; return whose rise began or ended with it."""
        began = state["since"][given.rows]  # of the run that this day may end
        said = self._daily.advance(state, given.rows, given.day, given.values, self._limit)
        findings = []
        for i in np.flatnonzero(said.raised | said.cleared).tolist():
            row, day = int(given.rows[i]), int(given.day[i])
            since = int(state["since"][row]) if said.raised[i] else int(began[i])
            hearts = {name: float(given.values[i, place]) for place, name in enumerate(self.channels) if name in HEARTS}
            name, value = next((name, round(rate, 4)) for name, rate in hearts.items() if np.isfinite(rate))
            told = "has been above this person's usual" if said.raised[i] else "is back near this person's usual"
            evidence: Evidence = {
                "change": "raised" if said.raised[i] else "cleared",
                "metric": DAILY_RISE.metric,
                "day": day,
                "since_day": since,
                "value": value,
                "score": round(float(said.score[i]), 3),
                "sum": round(float(said.sum[i]), 3),
                "limit": self._limit,
                "sentence": f"The day's heart rate ({CALLED[name]}) {told}: {value:.0f} /min",
            }
            change = evidence["change"]
            findings.append(Finding(row, DAILY_RISE.id, change, since * DAY_MS, (day + 1) * DAY_MS, 0, evidence))
        return findings
