"""Incidents: the concurrent alerts of one patient, joined into one thing to look at and to acknowledge.

Source: the connected components of an interval graph (Fulkerson and Gross 1965), found in one sweep over the starts.
Deviations: spans that miss each other by up to `GAP_MS` count as overlapping, and technical alerts are joined among
themselves only: a silent device says nothing of the patient, and has people of its own who look after it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from detectors.protocol import HOUR_MS, Priority

# The coarsest step in which a rule within a day begins or ends: `heart_rate_unusual_at_rest` is judged by the hour, a
# limit by the reading. Two alerts of one event can miss each other by that much.
GAP_MS: Final = HOUR_MS
ORDER: Final[tuple[Priority, ...]] = ("high", "medium", "low")


class Alert(NamedTuple):
    """One alert of a patient; instants in Unix ms UTC."""

    key: str
    start_ms: int  # where its condition began
    found_ms: int  # where its rule had seen enough: when it was told
    end_ms: int | None  # None: it is open
    kind: Literal["clinical", "technical"]
    priority: Priority
    adaptive: bool  # of an adaptive rule, not of a safety rule
    stands: bool = True  # it was not withdrawn


def worst_first(alert: Alert) -> tuple[bool, int, bool, int, str]:
    """Return the key that sorts alerts by who leads: what stands, by priority, safety before adaptive, the earliest."""
    return (not alert.stands, ORDER.index(alert.priority), alert.adaptive, alert.start_ms, alert.key)


@dataclass(frozen=True, slots=True)
class Incident:
    """Alerts that hang together in time, the leading one first."""

    alerts: tuple[Alert, ...]

    @property
    def leading(self) -> Alert:
        """The alert the incident is named after."""
        return self.alerts[0]

    @property
    def first(self) -> Alert:
        """The alert that begins first: it names the incident for as long as nothing earlier joins."""
        return min(self.alerts, key=lambda alert: (alert.start_ms, alert.key))

    @property
    def start_ms(self) -> int:
        """Where it begins."""
        return self.first.start_ms

    @property
    def end_ms(self) -> int | None:
        """Where the last of its alerts ends; None while one is open."""
        ends = [alert.end_ms for alert in self.alerts]
        return None if None in ends else max(end for end in ends if end is not None)

    @property
    def told_ms(self) -> int:
        """When the first of its alerts was told."""
        return min(alert.found_ms for alert in self.alerts)

    @property
    def adaptive(self) -> bool:
        """Whether it counts against an alert budget: the first that was told is of an adaptive rule.

        Not "all of them are": an adaptive alert can be open for weeks, and whatever joins it later would take away what
        the team had received. Found at the same instant, the safety rule would have called alone.
        """
        return min((alert.found_ms, alert.adaptive) for alert in self.alerts)[1]


def join(alerts: Iterable[Alert]) -> list[Incident]:
    """Join the alerts of one patient into incidents, by kind and then by where they begin.

    An alert joins those of its kind whose span it overlaps, or misses by at most `GAP_MS`, and through them all that
    those overlap. So every alert is in exactly one incident, the order of the input makes no difference, and one more
    alert may join incidents but never splits one. Units: Unix ms. Valid: for one patient at a time, whatever profile.

    Raises:
        ValueError: two alerts have one key, or one ends before it begins.

    >>> fever = Alert("fever", 0, 0, 3 * HOUR_MS, "clinical", "medium", adaptive=False)
    >>> night = Alert("night", -9 * HOUR_MS, 2 * HOUR_MS, None, "clinical", "medium", adaptive=True)
    >>> battery = Alert("battery", 0, 0, None, "technical", "low", adaptive=False)
    >>> [[alert.key for alert in incident.alerts] for incident in join([night, battery, fever])]
    [['fever', 'night'], ['battery']]
    """
    ordered = sorted(alerts, key=lambda alert: (alert.kind, alert.start_ms, alert.key))
    _check(ordered)
    groups: list[list[Alert]] = []
    reach = -math.inf  # up to where the newest group lasts
    for alert in ordered:
        if not groups or groups[-1][0].kind != alert.kind or alert.start_ms - reach > GAP_MS:
            groups.append([])
            reach = -math.inf
        groups[-1].append(alert)
        reach = max(reach, math.inf if alert.end_ms is None else alert.end_ms)
    return [Incident(tuple(sorted(group, key=worst_first))) for group in groups]


def _check(alerts: list[Alert]) -> None:
    for alert in alerts:
        if alert.end_ms is not None and alert.end_ms < alert.start_ms:
            msg = f"alert {alert.key} ends at {alert.end_ms}, before it begins at {alert.start_ms}; give another end"
            raise ValueError(msg)
    key, n = max(Counter(alert.key for alert in alerts).items(), key=lambda found: found[1], default=("", 0))
    if n > 1:
        msg = f"{n} alerts have the key {key!r}; give each its own"
        raise ValueError(msg)
