"""Incidents: what `detectors.incidents` joins of the alerts a person may see, found, shown and addressed.

They are not stored: whoever may see fewer of a patient's alerts sees incidents of fewer. One is addressed by any of its
alerts, so that an address keeps its meaning when more join; its own id is that of the alert it begins with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from detectors.incidents import GAP_MS, Alert, Incident, join
from detectors.rules import ADAPTIVE
from ingest.clock import to_datetime, to_ms
from services.api import alerts
from services.api.patients import Patient, link
from services.api.problems import invalid, not_found
from services.api.query import Connection, Row, every
from services.api.scope import Scope
from services.api.times import rfc3339

SHOWN: Final = timedelta(days=28)
LONGEST: Final = timedelta(days=400)
MOST: Final = 1000  # alerts of a patient that are looked at at once, the newest
GAP: Final = timedelta(milliseconds=GAP_MS)


@dataclass(frozen=True, slots=True)
class Found:
    """An incident with the rows of its alerts, in its order."""

    incident: Incident
    rows: list[Row]

    @property
    def id(self) -> str:
        """What it is addressed by at best."""
        return self.incident.first.key

    @property
    def open(self) -> list[Row]:
        """Its alerts that are active."""
        return [row for row in self.rows if row["state"] == "active"]

    @property
    def waiting(self) -> list[Row]:
        """Its active alerts that nobody has acknowledged."""
        return [row for row in self.open if row["acknowledged_at"] is None]


def joined(rows: Sequence[Row]) -> list[Found]:
    """Return the incidents of one patient's rows of ``alert``: open ones first, then those that began last."""
    by_key = {str(row["id"]): row for row in rows}
    found = [Found(one, [by_key[alert.key] for alert in one.alerts]) for one in join(map(_alert, rows))]
    return sorted(found, key=lambda one: (not one.open, -one.incident.start_ms, one.id))


def _alert(row: Row) -> Alert:
    end = _end(row)
    return Alert(
        str(row["id"]), to_ms(row["started_at"]), to_ms(row["found_at"]), None if end is None else to_ms(end),
        row["kind"], row["priority"], row["rule"] in ADAPTIVE, row["state"] != "withdrawn",
    )  # fmt: skip


def _end(row: Row) -> datetime | None:
    """Return where an alert ends, None while it is active; one that was withdrawn lasted while it had evidence."""
    if row["state"] == "active":
        return None
    end: datetime = max(row["started_at"], row["resolved_at"] or row["last_evidence_at"])
    return end


def span(start: datetime | None, to: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """Return the span to look at, of which either end may be left out.

    Raises:
        Problem: it is empty or too long.
    """
    end = to or now
    begin = start or end - SHOWN
    if not begin < end <= begin + LONGEST:
        raise invalid(rfc3339(begin), "from", f"before `to` ({rfc3339(end)}), at most {LONGEST.days} days")
    return begin, end


async def listed(scope: Scope, patient: Patient, start: datetime, end: datetime) -> dict[str, Any]:
    """Return the incidents that touch a span, whole: also what of them lies outside it."""
    found, truncated = await _touching(scope.connection, patient.id, start, end)
    items = [document(scope, patient, one) for one in found]
    return {"from": rfc3339(start), "to": rfc3339(end), "truncated": truncated, "items": items}


async def _touching(
    connection: Connection, patient_id: int, start: datetime, end: datetime | None
) -> tuple[list[Found], bool]:
    """Return the incidents that touch a span, whole, and whether only the `MOST` newest alerts about it were looked at.

    How far they reach beyond the span is looked for in steps that double: a chain of hundreds of short alerts takes a
    handful of reads.
    """
    step = GAP
    since, until = start - step, end and end + step
    while True:
        rows = await newest(connection, patient_id, MOST, since, until)
        found = [one for one in joined(rows) if _touches(one.incident, start, end)]
        begins = min([start, *(to_datetime(one.incident.start_ms) for one in found)])
        ends = _last(found, end)
        whole = begins - GAP >= since and (until is None or ends is not None and ends + GAP <= until)
        if whole or len(rows) == MOST:
            return found, len(rows) == MOST
        step *= 2
        since, until = begins - step, ends and ends + step


def _touches(incident: Incident, start: datetime, end: datetime | None) -> bool:
    begun = end is None or incident.start_ms <= to_ms(end)
    return begun and (incident.end_ms is None or incident.end_ms >= to_ms(start))


def _last(found: Sequence[Found], end: datetime | None) -> datetime | None:
    """Return where a span and the incidents that touch it end, None where one of them has no end yet."""
    ends_ms = [None if end is None else to_ms(end), *(one.incident.end_ms for one in found)]
    known_ms = [end_ms for end_ms in ends_ms if end_ms is not None]
    return to_datetime(max(known_ms)) if len(known_ms) == len(ends_ms) else None


async def newest(
    connection: Connection, patient_id: int, most: int, start: datetime | None = None, end: datetime | None = None
) -> list[Row]:
    """Return a patient's alerts that touch a span, those that are active first, then the newest."""
    return await every(
        connection,
        alerts.SELECT
        + " WHERE NOT "
        + alerts.BEHIND
        + """ AND a.patient_id = %(patient)s
          AND (%(end)s::timestamptz IS NULL OR a.started_at <= %(end)s)
          AND (%(start)s::timestamptz IS NULL OR a.state = 'active'
               OR greatest(a.started_at, coalesce(a.resolved_at, a.last_evidence_at)) >= %(start)s)
        ORDER BY a.state = 'active' DESC, a.started_at DESC, a.id LIMIT %(most)s""",
        {"patient": patient_id, "start": start, "end": end, "most": most},
    )


async def open_of(connection: Connection, patient_ids: Sequence[int]) -> dict[int, list[Found]]:
    """Return patient → their open incidents, of active alerts alone: at most a clinical and a technical one."""
    rows = await every(
        connection,
        alerts.SELECT + " WHERE a.state = 'active' AND a.patient_id = ANY (%s) AND NOT " + alerts.BEHIND,
        [list(patient_ids)],
    )
    by_patient: dict[int, list[Row]] = {}
    for row in rows:
        by_patient.setdefault(row["patient_id"], []).append(row)
    return {patient: joined(some) for patient, some in by_patient.items()}


async def lock_open(connection: Connection, patient_id: int) -> None:
    """Hold a patient's active alerts as they are for this transaction; always in one order, so that two can't block
    each other."""
    await connection.execute(
        "SELECT FROM alert WHERE patient_id = %s AND state = 'active' ORDER BY id FOR UPDATE", [patient_id]
    )


async def with_alert(scope: Scope, patient: Patient, alert_id: str) -> Found:
    """Return a patient's incident that covers an alert.

    Raises:
        Problem: there is none of this id that the person may see.
    """
    row = await alerts.row_of(scope, alert_id)
    found: list[Found] = []
    if row["patient_id"] == patient.id:
        found, _ = await _touching(scope.connection, patient.id, row["started_at"], _end(row))
    return _covering(scope, patient, found, alert_id)


async def again(scope: Scope, patient: Patient, alert_id: str, found: Found) -> Found:
    """Return an incident found before as it is now, with what is active beside it by now: one read, however long it is.

    Raises:
        Problem: the alert is not in it any more.
    """
    rows = await every(
        scope.connection,
        alerts.SELECT + " WHERE a.patient_id = %s AND (a.state = 'active' OR a.id = ANY (%s)) AND NOT " + alerts.BEHIND,
        [patient.id, [row["id"] for row in found.rows]],
    )
    return _covering(scope, patient, joined(rows), alert_id)


def _covering(scope: Scope, patient: Patient, found: Sequence[Found], alert_id: str) -> Found:
    for one in found:
        if UUID(alert_id) in [row["id"] for row in one.rows]:
            return one
    scope.patient_id = patient.id
    raise not_found(alert_id, "incident of this patient with the alert")


def document(scope: Scope, patient: Patient, found: Found) -> dict[str, Any]:
    """Return an incident's public form, as far as the scope's person sees it."""
    leading, *others = (alerts.document(scope, row) for row in found.rows)
    end_ms = found.incident.end_ms
    whole = {
        "id": found.id,
        "patient": patient.brief(),
        "kind": found.incident.leading.kind,
        "open": bool(found.open),
        "adaptive": found.incident.adaptive and found.incident.leading.kind == "clinical",
        "started_at": rfc3339(to_datetime(found.incident.start_ms)),
        "ended_at": None if end_ms is None else rfc3339(to_datetime(end_ms)),
        "leading": leading,
        "covers": others,
        "unacknowledged": [str(row["id"]) for row in found.waiting],
        "link": address(patient.key, found.id),
    }
    return scope.show("incident", whole)


def address(patient_key: str, alert_id: str) -> str:
    """Return where the incident that covers an alert is acknowledged, less the word for it."""
    return f"{link(patient_key)}/incidents/{alert_id}"
