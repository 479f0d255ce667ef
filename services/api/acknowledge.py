"""Acknowledging an alert: somebody has seen it. It changes who is told, never what was found."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from services.api import alerts, request_keys
from services.api.access import Scope
from services.api.problems import Code, Problem, invalid
from services.api.query import Row

MAX_NOTE: Final = 1000
CHANNEL: Final = "keepwell_alert"


async def acknowledge(
    scope: Scope, alert_id: str, *, note: str, now: datetime, if_match: str | None, key: str | None
) -> Row:
    """Acknowledge an active alert and return its row; one that is acknowledged already is left as it is.

    ``if_match`` is an ETag, ``key`` an Idempotency-Key: with a key used before for the same, nothing is done.

    Raises:
        Problem: not found, not active any more, changed since it was read, key used for something else.
    """
    note = note.strip()
    if len(note) > MAX_NOTE:
        raise invalid(note[:20], "note", f"at most {MAX_NOTE} characters, this has {len(note)}")
    row = await alerts.row_of(scope, alert_id, lock=True)
    if key is not None and not await request_keys.claim(scope, key, f"acknowledge|{alert_id.lower()}|{note}"):
        return row
    if row["state"] != "active":
        detail = f"the alert was {row['state']} at {row['resolved_at'] or row['last_evidence_at']:%Y-%m-%d %H:%M} UTC"
        raise Problem(Code.ALERT_CLOSED, f"{detail}; there is nothing left to acknowledge", state=row["state"])
    if if_match is not None and not _matches(if_match, alerts.etag(row)):
        raise Problem(
            Code.CHANGED_MEANWHILE,
            f"the alert is now {row['priority']} priority, {_acknowledged(row)}; read it again, then decide",
            etag=alerts.etag(row),
        )
    if row["acknowledged_at"] is None:
        await _write(scope, row, note, now)
        row = await alerts.row_of(scope, alert_id)
    return row


def _acknowledged(row: Row) -> str:
    return f"acknowledged by {row['by_name']}" if row["acknowledged_at"] else "not acknowledged"


def _matches(if_match: str, etag: str) -> bool:
    return any(candidate.strip() in ("*", etag) for candidate in if_match.split(","))


async def _write(scope: Scope, row: Row, note: str, now: datetime) -> None:
    person = scope.person
    await scope.connection.execute(
        "UPDATE alert SET acknowledged_at = %s, acknowledged_by = %s, acknowledge_note = %s WHERE id = %s",
        [now, person.id, note or None, row["id"]],
    )
    await scope.connection.execute(
        """INSERT INTO alert_event (organisation_id, patient_id, alert_id, change, priority, late, at,
                                    recorded_at, person_id, sentence)
           VALUES (%s, %s, %s, 'acknowledged', %s, %s, %s, %s, %s, %s)""",
        [
            person.organisation_id, row["patient_id"], row["id"], row["priority"], row["late"], now, now,
            person.id, f"Acknowledged by {person.name}: {note}" if note else f"Acknowledged by {person.name}.",
        ],
    )  # fmt: skip
    await scope.connection.execute("SELECT pg_notify(%s, '')", [CHANNEL])
