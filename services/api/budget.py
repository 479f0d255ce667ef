"""The alert budget: how many incidents adaptive rules brought a care team, and how many its programmes agreed to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString

from detectors.incidents import Incident
from ingest.clock import to_ms
from services.api import alerts, incidents, withheld
from services.api.query import Row, every
from services.api.scope import Scope
from services.api.times import rfc3339
from services.enrolment import WATCHED
from services.programme import USUAL_BUDGET

SPAN: Final = timedelta(days=28)
WEEK: Final = timedelta(days=7)

# Whom each of the person's teams looks after now, since when of the span, and the least that a programme of theirs
# agreed to; nobody of whom consent withholds something from the person: their weeks would count, their alerts not.
_PATIENTS: LiteralString = """
    SELECT t.team_key, t.team_name, p.id, greatest(p.enrolled_at, %(start)s) AS since,
           (SELECT min(coalesce((g.document ->> 'alert_budget')::float8, %(usual)s))
            FROM enrolment e JOIN programme g ON g.id = e.programme_id AND g.state = 'active'
            WHERE e.patient_id = p.id AND e.state = ANY (%(watched)s)) AS agreed
    FROM my_team_patient t JOIN patient p ON p.id = t.patient_id
    WHERE p.erased_at IS NULL AND p.enrolled_at < %(end)s
      AND p.id <> ALL (ARRAY(SELECT w.patient_id FROM my_withholding() w)) ORDER BY t.team_key, p.id"""
_ALERTS: LiteralString = (
    """
    SELECT a.id, a.patient_id, a.rule, a.kind, a.priority, a.state, a.started_at, a.found_at, a.resolved_at,
           a.last_evidence_at
    FROM alert a WHERE a.kind = 'clinical' AND a.patient_id = ANY (%(patients)s) AND a.started_at < %(end)s
      AND (a.state = 'active' OR coalesce(a.resolved_at, a.last_evidence_at) >= %(start)s) AND NOT """  # noqa: S608 - constants only
    + alerts.BEHIND
)


async def document(scope: Scope, now: datetime) -> dict[str, Any]:
    """Return what adaptive rules brought each of the person's teams in the last 28 days, and name whom it counts."""
    rows = await _patients(scope, now)
    scope.saw(sorted({row["id"] for row in rows}))
    return {
        "from": rfc3339(now - SPAN), "to": rfc3339(now), "items": await _by_team(scope, rows, now),
        **await withheld.count(scope, ()),
    }  # fmt: skip


async def of_teams(scope: Scope, now: datetime) -> list[dict[str, Any]]:
    """Return the same by team, for a page that shows these patients anyway."""
    return await _by_team(scope, await _patients(scope, now), now)


async def _patients(scope: Scope, now: datetime) -> list[Row]:
    asked = {"start": now - SPAN, "end": now, "watched": list(WATCHED), "usual": USUAL_BUDGET}
    return await every(scope.connection, _PATIENTS, asked)


async def _by_team(scope: Scope, rows: list[Row], now: datetime) -> list[dict[str, Any]]:
    """Return the figures of each team, of the patients it looks after now, since they were enrolled.

    However long the team has looked after them: weeks and incidents are counted alike. Late findings and what was
    withdrawn count too: somebody looked at them.
    """
    since = {row["id"]: row["since"] for row in rows}
    brought = await _brought(scope, since, now)
    by_team: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        by_team[row["team_key"], row["team_name"]].append(row)
    return [
        {"team": {"id": key, "name": name}, **_figures(some, brought, now)} for (key, name), some in by_team.items()
    ]


async def _brought(scope: Scope, since: Mapping[int, datetime], now: datetime) -> dict[int, list[Incident]]:
    """Return patient → the incidents from adaptive rules that were told since an instant of theirs.

    Alerts are read from twice the span: what an incident covers may have begun, and been told, before it.
    """
    found: dict[int, list[Row]] = defaultdict(list)
    asked = {"patients": list(since), "start": now - 2 * SPAN, "end": now}
    for row in await every(scope.connection, _ALERTS, asked):
        found[row["patient_id"]].append(row)
    return {
        patient: [
            one.incident
            for one in incidents.joined(rows)
            if one.incident.adaptive and one.incident.told_ms >= to_ms(since[patient])
        ]
        for patient, rows in found.items()
    }


def _figures(rows: list[Row], brought: Mapping[int, list[Incident]], now: datetime) -> dict[str, Any]:
    """Return the figures of one team; a rate of less than a patient-week would say nothing."""
    weeks = [(now - row["since"]) / WEEK for row in rows]
    ours = [one for row in rows for one in brought.get(row["id"], [])]
    agreed = [(row["agreed"], long) for row, long in zip(rows, weeks, strict=True) if row["agreed"] is not None]
    agreed_weeks = sum(long for _, long in agreed)
    return {
        "patients": len(rows),
        "patient_weeks": round(sum(weeks), 2),
        "alerts": sum(len(one.alerts) for one in ours),
        "incidents": len(ours),
        "per_patient_week": round(len(ours) / sum(weeks), 3) if sum(weeks) >= 1 else None,
        "agreed": round(sum(a * long for a, long in agreed) / agreed_weeks, 3) if agreed_weeks else None,
    }
