"""Alerts: lists, one with its history, and those that overlap a span."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from services.api import pages, withheld, words
from services.api.patients import Patient, find, link
from services.api.problems import invalid, not_found
from services.api.query import Row, every, first
from services.api.scope import Scope
from services.api.times import rfc3339

STATES: Final = ("active", "resolved", "withdrawn")
KINDS: Final = ("clinical", "technical")
MAX_OVERLAPPING: Final = 500
MAX_EVENTS: Final = 1000

SELECT: LiteralString = """
    SELECT a.*, p.key AS patient_key, p.name AS patient_name, p.time_zone, by.key AS by_key, by.name AS by_name
    FROM alert a JOIN patient p ON p.id = a.patient_id LEFT JOIN person by ON by.id = a.acknowledged_by"""
# Behind an alert that people were told of, which stands for it: late data moved its beginning. One that has ended can't
# stand for one that is active.
BEHIND: LiteralString = """
    (a.late AND EXISTS (SELECT 1 FROM alert told WHERE told.patient_id = a.patient_id AND told.revised_by = a.id
                        AND (a.state <> 'active' OR told.state = 'active')))"""

_LOCKED: LiteralString = " WHERE a.id = %s FOR UPDATE OF a"


def etag(row: Row) -> str:
    """Return the ETag of an alert: of what an acknowledgement judges, so more evidence alone leaves it be."""
    judged = f"{row['id']}|{row['state']}|{row['priority']}|{rfc3339(row['acknowledged_at'])}"
    return f'"{hashlib.sha256(judged.encode()).hexdigest()[:16]}"'


def document(scope: Scope, row: Row) -> dict[str, Any]:
    """Return an alert's public form, as far as the scope's person sees it."""
    acknowledged = row["acknowledged_at"] and {
        "at": rfc3339(row["acknowledged_at"]),
        "by": {"id": row["by_key"], "name": row["by_name"]},
        "note": row["acknowledge_note"],
    }
    whole = {
        "id": str(row["id"]),
        "patient": {"id": row["patient_key"], "name": row["patient_name"], "link": link(row["patient_key"])},
        "rule": row["rule"],
        "rule_version": row["rule_version"],
        "metric": metric_of(row["evidence"]),
        "kind": row["kind"],
        "priority": row["priority"],
        "state": row["state"],
        "provisional": row["provisional"],
        "late": row["late"],
        "started_at": rfc3339(row["started_at"]),
        "found_at": rfc3339(row["found_at"]),
        "raised_at": rfc3339(row["raised_at"]),
        "last_evidence_at": rfc3339(row["last_evidence_at"]),
        "unknown_since": rfc3339(row["unknown_since"]),
        "resolved_at": rfc3339(row["resolved_at"]),
        "sentence": row["patient_sentence"] if scope.plain else row["sentence"],
        "evidence": row["evidence"],
        "revised_by": row["revised_by"] and str(row["revised_by"]),
        "acknowledged": acknowledged,
        "etag": etag(row),
        "link": f"/v1/alerts/{row['id']}",
    }
    return scope.show("alert", whole)


def metric_of(evidence: dict[str, Any]) -> str | None:
    """Return the key of the vital sign an alert is about, None when it is about none."""
    key = evidence.get("metric")
    return str(key) if words.metric_id(key) is not None else None


async def listed(
    scope: Scope,
    *,
    patient: str | None = None,
    state: str | None = None,
    kind: str | None = None,
    priority: str | None = None,
    late: bool | None = None,
    acknowledged: bool | None = None,
    limit: int = pages.DEFAULT_LIMIT,
    cursor: str | None = None,
) -> dict[str, Any]:
    """Return a page of alerts, the newest raised first; each filter given must hold."""
    _one_of("state", state, STATES)
    _one_of("kind", kind, KINDS)
    _one_of("priority", priority, words.PRIORITIES)
    whose = await find(scope, patient) if patient else None
    raised, last = pages.decode(cursor, 2) if cursor else (None, None)
    rows = await every(
        scope.connection,
        SELECT
        + """
        WHERE (%(patient)s::int IS NULL OR a.patient_id = %(patient)s)
          AND (%(state)s::text IS NULL OR a.state = %(state)s)
          AND (%(kind)s::text IS NULL OR a.kind = %(kind)s)
          AND (%(priority)s::text IS NULL OR a.priority = %(priority)s)
          AND (%(late)s::bool IS NULL OR a.late = %(late)s)
          AND (%(acknowledged)s::bool IS NULL OR (a.acknowledged_at IS NOT NULL) = %(acknowledged)s)
          AND (%(raised)s::timestamptz IS NULL OR (a.raised_at, a.id) < (%(raised)s, %(last)s::uuid))
        ORDER BY a.raised_at DESC, a.id DESC LIMIT %(limit)s""",
        {
            "patient": whose and whose.id,
            "state": state,
            "kind": kind,
            "priority": priority,
            "late": late,
            "acknowledged": acknowledged,
            "raised": raised,
            "last": last,
            "limit": limit + 1,
        },
    )
    scope.saw(sorted({row["patient_id"] for row in rows[:limit]}))
    keys = [[row["raised_at"].isoformat(), str(row["id"])] for row in rows]
    return pages.page([document(scope, row) for row in rows], limit, keys) | await withheld.count(scope)


def _one_of(field: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise invalid(value, field, ", ".join(allowed))


async def row_of(scope: Scope, alert_id: str, *, lock: bool = False) -> Row:
    """Return an alert's row, locked for this transaction if asked, and name its patient in the audit row.

    Raises:
        Problem: there is none of this id that the person may see, or the patient's consent does not cover it.
    """
    try:
        wanted = UUID(alert_id)
    except ValueError as error:
        raise not_found(alert_id, "alert") from error
    row = await first(scope.connection, SELECT + (_LOCKED if lock else " WHERE a.id = %s"), [wanted])
    if row is None:
        await withheld.deny(scope, "alert", str(wanted))
        raise not_found(alert_id, "alert")
    scope.patient_id = row["patient_id"]
    return row


async def events(scope: Scope, alert_id: UUID) -> list[dict[str, Any]]:
    """Return an alert's history, the oldest first."""
    rows = await every(
        scope.connection,
        """SELECT e.change, e.priority, e.late, e.at, e.recorded_at, e.sentence, by.name AS by_name
           FROM alert_event e LEFT JOIN person by ON by.id = e.person_id
           WHERE e.alert_id = %s ORDER BY e.id LIMIT %s""",
        [alert_id, MAX_EVENTS],
    )
    whole = [
        {
            "change": row["change"],
            "priority": row["priority"],
            "late": row["late"],
            "at": rfc3339(row["at"]),
            "recorded_at": rfc3339(row["recorded_at"]),
            "sentence": row["sentence"],
            "by": row["by_name"],
        }
        for row in rows
    ]
    return [scope.show("event", one) for one in whole]


async def overlapping(scope: Scope, patient: Patient, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Return a patient's alerts that overlap a span, the earliest first."""
    rows = await every(
        scope.connection,
        SELECT
        + """
        WHERE a.patient_id = %s AND a.started_at < %s
          AND CASE a.state WHEN 'active' THEN true ELSE coalesce(a.resolved_at, a.last_evidence_at) >= %s END
        ORDER BY a.started_at DESC LIMIT %s""",
        [patient.id, end, start, MAX_OVERLAPPING],
    )
    return [document(scope, row) for row in reversed(rows)]


async def past(scope: Scope, patient: Patient, limit: int) -> list[dict[str, Any]]:
    """Return a patient's latest alerts that are no longer active, the newest first."""
    rows = await every(
        scope.connection,
        SELECT + " WHERE a.patient_id = %s AND a.state <> 'active' ORDER BY a.started_at DESC LIMIT %s",
        [patient.id, limit],
    )
    return [document(scope, row) for row in rows]
