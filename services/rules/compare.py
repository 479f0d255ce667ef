"""What two sets of rules find in the same data: alerts the second gains and loses, and what each asks of people."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from detectors.incidents import Alert as Joined
from detectors.incidents import join
from detectors.protocol import Priority
from detectors.rules import ADAPTIVE
from ingest.clock import to_datetime

FOREVER_MS: Final = 1 << 50
BUSIEST: Final = 10  # patients named with what each set of rules asks of people for them
HIGH_PERCENT: Final = 95  # whose burden is shown beside the mean: few people often carry most of it


class Alert(NamedTuple):
    """One clinical alert of a replay; ``end_ms`` None: still open at its end. Instants in Unix ms."""

    rule: str
    priority: Priority
    start_ms: int
    end_ms: int | None

    @property
    def last_ms(self) -> int:
        """Return the end, or what lies after everything."""
        return FOREVER_MS if self.end_ms is None else self.end_ms


class Tried(NamedTuple):
    """What came of one patient; ``days``: UTC days with readings, of the stretch that was looked at."""

    days: int
    before: Sequence[Alert] = ()
    after: Sequence[Alert] = ()


def incidents(alerts: Sequence[Alert]) -> int:
    """Return how many incidents the clinical alerts of one patient are, as a team receives them.

    >>> later = Alert("fever", "high", 7_200_000, None)
    >>> incidents([Alert("fever", "high", 0, 9), Alert("spo2_low", "high", 5, 20), later])
    2
    """
    return len(
        join(
            Joined(str(i), one.start_ms, one.start_ms, one.end_ms, "clinical", one.priority, one.rule in ADAPTIVE)
            for i, one in enumerate(alerts)
        )
    )


def compared(before: Sequence[Alert], after: Sequence[Alert]) -> tuple[list[Alert], list[Alert]]:
    """Return the alerts of one patient that are gained, and those that are lost.

    An alert of the same rule at an overlapping time is the same one, even where it begins elsewhere or has another
    priority; each stands for one other. Alerts of one rule do not overlap in one run, so one sweep finds all pairs.

    >>> low = Alert("spo2_low", "medium", 10, 20)
    >>> compared([low], [low._replace(start_ms=15), low._replace(start_ms=30, end_ms=40)])
    ([Alert(rule='spo2_low', priority='medium', start_ms=30, end_ms=40)], [])
    """
    gained: list[Alert] = []
    lost: list[Alert] = []
    olds, news = sorted(before, key=_sweep), sorted(after, key=_sweep)
    while olds and news:
        old, new = olds[0], news[0]
        if old.rule == new.rule and old.start_ms <= new.last_ms and new.start_ms <= old.last_ms:
            del olds[0], news[0]
        elif (old.rule, old.last_ms) < (new.rule, new.last_ms):
            lost.append(olds.pop(0))
        else:
            gained.append(news.pop(0))
    return [*gained, *news], [*lost, *olds]


def _sweep(alert: Alert) -> tuple[str, int]:
    return alert.rule, alert.start_ms


@dataclass(slots=True)
class Burden:
    """What one set of rules asks of people."""

    alerts: int = 0
    incidents: int = 0
    rates: list[float] = field(default_factory=list)  # of each patient with readings, incidents a week

    def add(self, alerts: Sequence[Alert], days: int) -> float:
        """Count a patient; return the incidents a week, 0 where there were no readings."""
        n = incidents(alerts)
        self.alerts, self.incidents = self.alerts + len(alerts), self.incidents + n
        if not days:
            return 0
        self.rates.append(n * 7 / days)
        return self.rates[-1]

    def document(self, patient_weeks: float) -> dict[str, Any]:
        """Return it for programs; None where there was nothing to judge."""
        high = np.percentile(self.rates, HIGH_PERCENT, method="inverted_cdf") if self.rates else None
        return {
            "alerts": self.alerts,
            "incidents": self.incidents,
            "incidents_per_patient_week": round(self.incidents / patient_weeks, 4) if patient_weeks else None,
            "incidents_per_week_of_patient_at_95_percent": None if high is None else round(float(high), 4),
        }


@dataclass(slots=True)
class Difference:
    """Alerts that one set of rules has and the other has not; the first ``show`` of them in full."""

    show: int
    rules: Counter[str] = field(default_factory=Counter)
    patients: int = 0
    shown: list[dict[str, Any]] = field(default_factory=list)

    def add(self, patient: str, alerts: Sequence[Alert]) -> None:
        """Count those of a patient."""
        self.rules.update(alert.rule for alert in alerts)
        self.patients += bool(alerts)
        self.shown += [_shown(patient, alert) for alert in alerts[: self.show - len(self.shown)]]

    def document(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "alerts": self.rules.total(), "patients": self.patients, "by_rule": dict(self.rules), "shown": self.shown,
        }  # fmt: skip


class Comparison:
    """All patients so far; of each only numbers are kept, and the first alerts that differ."""

    def __init__(self, show: int) -> None:
        self.patients = self.days = 0
        self.before, self.after = Burden(), Burden()
        self.gained, self.lost = Difference(show), Difference(show)
        self.busiest: list[tuple[float, float, str]] = []  # incidents a week after and before, whose

    def add(self, patient: str, tried: Tried) -> None:
        """Take a patient in, by key."""
        self.patients += 1
        self.days += tried.days
        before, after = self.before.add(tried.before, tried.days), self.after.add(tried.after, tried.days)
        if before or after:
            self.busiest = heapq.nlargest(BUSIEST, [*self.busiest, (after, before, patient)])
        gained, lost = compared(tried.before, tried.after)
        self.gained.add(patient, gained)
        self.lost.add(patient, lost)

    def document(self) -> dict[str, Any]:
        """Return everything for programs."""
        weeks = self.days / 7
        return {
            "patients": self.patients, "patient_weeks": round(weeks, 2), "before": self.before.document(weeks),
            "after": self.after.document(weeks), "gained": self.gained.document(), "lost": self.lost.document(),
            "busiest": [_asked(*one) for one in self.busiest],
        }  # fmt: skip


def _asked(after: float, before: float, patient: str) -> dict[str, Any]:
    weekly = {"incidents_per_week_before": round(before, 4), "incidents_per_week": round(after, 4)}
    return {"patient": patient, **weekly}


def _shown(patient: str, alert: Alert) -> dict[str, Any]:
    start, end = to_datetime(alert.start_ms), None if alert.end_ms is None else to_datetime(alert.end_ms)
    return {"patient": patient, "rule": alert.rule, "priority": alert.priority, "from": start, "to": end}
