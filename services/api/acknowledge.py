"""Acknowledging: somebody has seen an alert, or all of an incident. It changes who is told, never what was found."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from services.api import alerts, incidents, request_keys, words
from services.api.incidents import Found
from services.api.patients import Patient
from services.api.problems import Code, Problem, invalid
from services.api.query import Row, every
from services.api.scope import Scope

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
    note = _note(note)
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


async def acknowledge_incident(
    scope: Scope,
    patient: Patient,
    alert_id: str,
    *,
    seen: Mapping[str, str],
    note: str,
    now: datetime,
    key: str | None,
) -> tuple[Found, list[Row]]:
    """Acknowledge every active alert of the incident that covers an alert; return it, and what this covered.

    ``seen`` says what whoever acknowledges has looked at: id of an alert → its ETag. One that joined since, or became
    worse, stops all of it. What it covered is what this person has acknowledged of what they saw, so that a request
    that is sent again is answered alike, whatever ended since; what somebody else acknowledged meanwhile is theirs.

    Raises:
        Problem: not found, over, more to see than was seen, key used for something else.
    """
    note = _note(note)
    found = await incidents.with_alert(scope, patient, alert_id)
    await incidents.lock_open(scope.connection, patient.id)
    found = await incidents.again(scope, patient, alert_id, found)
    request = f"acknowledge_incident|{alert_id.lower()}|{sorted(seen.items())}|{note}"
    if key is None or await request_keys.claim(scope, key, request):
        if not found.open:
            detail = "every alert of the incident has ended; there is nothing left to acknowledge"
            raise Problem(Code.ALERT_CLOSED, detail, state="resolved")
        _refuse_unseen(found, seen)
        for row in found.waiting:
            await _write(scope, row, note, now)
        found = await incidents.again(scope, patient, alert_id, found)
    covered = await _covered(scope, patient, found, seen)
    scope.detail.update(covered=len(covered))
    return found, covered


async def _covered(scope: Scope, patient: Patient, found: Found, seen: Mapping[str, str]) -> list[Row]:
    """Return what the person has acknowledged of what they saw of an incident; what they saw ended was not to be."""
    rows = await every(
        scope.connection,
        alerts.SELECT + " WHERE a.patient_id = %s AND a.kind = %s AND a.acknowledged_by = %s AND a.id::text = ANY (%s)",
        [patient.id, found.incident.leading.kind, scope.person.id, list(seen)],
    )
    mine = [row for row in rows if row["state"] == "active" or seen[str(row["id"])] != alerts.etag(row)]
    return [row for one in incidents.joined(mine) for row in one.rows]


def _refuse_unseen(found: Found, seen: Mapping[str, str]) -> None:
    new = [row for row in found.waiting if seen.get(str(row["id"])) != alerts.etag(row)]
    if new:
        news = "; ".join(_news(row, known=str(row["id"]) in seen) for row in new)
        detail = f"{news}; look at it, then acknowledge again"
        raise Problem(Code.CHANGED_MEANWHILE, detail, new=[_brief(row) for row in new])


def _news(row: Row, *, known: bool) -> str:
    title = words.rule_title(row["rule"])
    return f"{title} is now {row['priority']} priority" if known else f"{title} has joined ({row['priority']} priority)"


def _brief(row: Row) -> dict[str, Any]:
    return {
        "id": str(row["id"]), "rule": row["rule"], "title": words.rule_title(row["rule"]), "priority": row["priority"],
        "sentence": row["sentence"], "etag": alerts.etag(row),
    }  # fmt: skip


def _note(note: str) -> str:
    note = note.strip()
    if len(note) > MAX_NOTE:
        raise invalid(note[:20], "note", f"at most {MAX_NOTE} characters, this has {len(note)}")
    return note


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
