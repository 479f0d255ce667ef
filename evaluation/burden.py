"""What a team is brought: clinical alerts and the incidents they are joined into, per patient-week."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from detectors.incidents import Alert, join


def burden(people: Iterable[Sequence[Alert]], weeks: float) -> dict[str, Any]:
    """Return how many clinical alerts and incidents there were in so many patient-weeks, and how many of the incidents
    came from adaptive rules: those count against an alert budget. What was withdrawn is left out.

    >>> hour = 3_600_000
    >>> fever = Alert("1", 0, 0, 2 * hour, "clinical", "medium", adaptive=False)
    >>> tachycardia = Alert("2", hour, hour, 3 * hour, "clinical", "high", adaptive=False)
    >>> found = burden([[fever, tachycardia]], 4.0)
    >>> found["alerts"], found["incidents"], found["from_adaptive_rules"], found["incidents_a_week"]
    (2, 1, 0, 0.25)
    """
    standing = [[alert for alert in alerts if alert.kind == "clinical" and alert.stands] for alerts in people]
    incidents = [incident for alerts in standing for incident in join(alerts)]
    alerts, adaptive = sum(map(len, standing)), sum(incident.adaptive for incident in incidents)
    counts = {"alerts": alerts, "incidents": len(incidents), "from_adaptive_rules": adaptive}
    rates = {f"{name}_a_week": round(n / weeks, 3) if weeks else None for name, n in counts.items()}
    return {"patient_weeks": round(weeks, 2), **counts, **rates}


def in_words(found: dict[str, Any]) -> str:
    """Return a burden as one line."""
    return (
        f"{found['alerts']} clinical alerts in {found['incidents']} incidents in {found['patient_weeks']} "
        f"patient-weeks; a week {found['alerts_a_week']} alerts, {found['incidents_a_week']} incidents, "
        f"{found['from_adaptive_rules_a_week']} of them from adaptive rules"
    )
