"""Alerts, their history and what leaves through the outbox."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
from psycopg.types.json import Jsonb

from ingest.clock import to_datetime, to_ms
from services.processor.records import AlertChange, AlertEvent, AlertRevision, AlertRow, DeadRecord, KnownAlert

_json = msgspec.json.Encoder()

# The same episode may be raised again: withdrawn when late rows came, then found after all.
_INSERT: Final = """
    INSERT INTO alert (id, organisation_id, patient_id, rule, rule_version, kind, priority, state, provisional, late,
                       started_at, found_at, raised_at, last_evidence_at, unknown_since, resolved_at, sentence,
                       patient_sentence, evidence)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (id) DO UPDATE SET
        (priority, state, provisional, late, found_at, last_evidence_at) =
        (excluded.priority, excluded.state, excluded.provisional, excluded.late, excluded.found_at,
         excluded.last_evidence_at),
        (unknown_since, resolved_at, sentence, patient_sentence, evidence) =
        (excluded.unknown_since, excluded.resolved_at, excluded.sentence, excluded.patient_sentence,
         excluded.evidence),
        (acknowledged_at, acknowledged_by, acknowledge_note) = (NULL, NULL, NULL)"""

_COLUMNS: Final = {
    "raised": "late = false",  # listed as late before: its patient is live again
    "settled": "provisional = false, found_at = %(at)s",
    "worsened": "acknowledged_at = NULL, acknowledged_by = NULL, acknowledge_note = NULL",
    "withdrawn": "state = 'withdrawn', provisional = false",
    "unknown": "unknown_since = %(at)s",
    "known": "unknown_since = NULL",
    "resolved": "state = 'resolved', provisional = false, unknown_since = NULL, resolved_at = %(at)s",
}


_REVISE: Final = """
    UPDATE alert SET priority = %(priority)s, state = %(state)s, provisional = %(provisional)s, late = %(late)s,
        found_at = %(found)s, last_evidence_at = %(last)s, unknown_since = %(unknown)s, resolved_at = %(resolved)s,
        sentence = %(sentence)s, patient_sentence = %(patient_sentence)s, evidence = %(evidence)s,
        revised_by = %(revised_by)s,
        acknowledged_at = CASE WHEN NOT %(void)s THEN acknowledged_at END,
        acknowledged_by = CASE WHEN NOT %(void)s THEN acknowledged_by END,
        acknowledge_note = CASE WHEN NOT %(void)s THEN acknowledge_note END
    WHERE id = %(id)s"""


async def write(
    connection: psycopg.AsyncConnection,
    rows: list[AlertRow],
    changes: list[AlertChange],
    revisions: list[AlertRevision],
    events: list[AlertEvent],
    now: datetime,
) -> None:
    """Write raised alerts, then what happened to others, then the history, in the order they came about."""
    await _lock(connection, rows, changes, revisions, events)
    for row in rows:
        await connection.execute(_INSERT, _values(row))
    for change in changes:
        await connection.execute(
            f"""UPDATE alert SET {_COLUMNS[change.change]},
                    priority = coalesce(%(priority)s, priority),
                    sentence = coalesce(%(sentence)s, sentence),
                    patient_sentence = coalesce(%(patient_sentence)s, patient_sentence),
                    evidence = coalesce(%(evidence)s, evidence),
                    last_evidence_at = greatest(last_evidence_at, %(at)s)
                WHERE id = %(id)s""".encode(),
            {
                "id": change.id, "at": to_datetime(change.at_ms), "priority": change.priority,
                "sentence": change.sentence,
                "patient_sentence": change.patient_sentence,
                "evidence": None if change.evidence is None else Jsonb(change.evidence),
            },
        )  # fmt: skip
    for revision in revisions:
        await connection.execute(_REVISE, _revised(revision))
    if events:
        await connection.cursor().executemany(
            """INSERT INTO alert_event
                   (organisation_id, patient_id, alert_id, change, priority, late, at, recorded_at, sentence, person_id)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
            [
                (
                    e.organisation_id,
                    e.patient_id,
                    e.alert_id,
                    e.change,
                    e.priority,
                    e.late,
                    to_datetime(e.at_ms),
                    now,
                    e.sentence,
                    e.person_id,
                )
                for e in events
            ],
        )


async def _lock(
    connection: psycopg.AsyncConnection,
    rows: list[AlertRow],
    changes: list[AlertChange],
    revisions: list[AlertRevision],
    events: list[AlertEvent],
) -> None:
    """Hold the alerts that are about to be written in the order whoever acknowledges holds them, so that neither can
    block the other."""
    touched = {row.id for row in rows} | {change.id for change in changes} | {event.alert_id for event in events}
    for revision in revisions:
        touched |= {revision.row.id} | ({revision.revised_by} if revision.revised_by else set())
    if len(touched) > 1:
        await connection.execute("SELECT FROM alert WHERE id = ANY (%s) ORDER BY id FOR UPDATE", [list(touched)])


async def known(
    connection: psycopg.AsyncConnection, patient_id: int, rules: list[str], since: datetime, also: list[UUID]
) -> list[KnownAlert]:
    """Return a patient's alerts of some rules found since an instant, those named, and those linked to either."""
    cursor = await connection.execute(
        """WITH asked AS (SELECT * FROM alert WHERE patient_id = %(patient)s AND rule = ANY(%(rules)s)
                          AND (found_at >= %(since)s OR id = ANY(%(also)s)))
           SELECT * FROM asked UNION SELECT a.* FROM alert a JOIN asked ON a.revised_by = asked.id
           WHERE a.patient_id = %(patient)s ORDER BY started_at, id""",
        {"patient": patient_id, "rules": rules, "since": since, "also": also},
    )
    names = [column.name for column in cursor.description or ()]
    return [_known(dict(zip(names, row, strict=True))) for row in await cursor.fetchall()]


def _known(row: dict[str, Any]) -> KnownAlert:
    stands = AlertRow(
        id=row["id"], organisation_id=row["organisation_id"], patient_id=row["patient_id"], rule=row["rule"],
        rule_version=row["rule_version"], kind=row["kind"], priority=row["priority"], state=row["state"],
        provisional=row["provisional"], late=row["late"], started_ms=to_ms(row["started_at"]),
        found_ms=to_ms(row["found_at"]), raised_ms=to_ms(row["raised_at"]),
        last_evidence_ms=to_ms(row["last_evidence_at"]),
        unknown_since_ms=None if row["unknown_since"] is None else to_ms(row["unknown_since"]),
        resolved_ms=None if row["resolved_at"] is None else to_ms(row["resolved_at"]), sentence=row["sentence"],
        patient_sentence=row["patient_sentence"], evidence=row["evidence"],
    )  # fmt: skip
    return KnownAlert(stands, row["revised_by"])


def _values(row: AlertRow) -> list[object]:
    return [
        row.id, row.organisation_id, row.patient_id, row.rule, row.rule_version, row.kind, row.priority, row.state,
        row.provisional, row.late, to_datetime(row.started_ms), to_datetime(row.found_ms), to_datetime(row.raised_ms),
        to_datetime(row.last_evidence_ms),
        None if row.unknown_since_ms is None else to_datetime(row.unknown_since_ms),
        None if row.resolved_ms is None else to_datetime(row.resolved_ms),
        row.sentence, row.patient_sentence, Jsonb(row.evidence),
    ]  # fmt: skip


def _revised(revision: AlertRevision) -> dict[str, object]:
    row = revision.row
    return {
        "id": row.id, "priority": row.priority, "state": row.state, "provisional": row.provisional, "late": row.late,
        "found": to_datetime(row.found_ms), "last": to_datetime(row.last_evidence_ms),
        "unknown": None if row.unknown_since_ms is None else to_datetime(row.unknown_since_ms),
        "resolved": None if row.resolved_ms is None else to_datetime(row.resolved_ms),
        "sentence": row.sentence, "patient_sentence": row.patient_sentence, "evidence": Jsonb(row.evidence),
        "revised_by": revision.revised_by, "void": revision.void,
    }  # fmt: skip


def record(event: AlertEvent) -> bytes:
    """Return the JSON value of an ``alerts.v1`` record."""
    return _json.encode(
        {
            "version": 1,
            "alert_id": str(event.alert_id),
            "organisation_id": event.organisation_id,
            "patient_id": event.patient_id,
            "change": event.change,
            "priority": event.priority,
            "late": event.late,
            "at": to_datetime(event.at_ms),
            "sentence": event.sentence,
        }
    )


def dead_record(dead: DeadRecord) -> bytes:
    """Return the JSON value of a ``dead.v1`` record, the original bytes in base64."""
    return _json.encode(
        {
            "version": 1,
            "topic": dead.record.topic,
            "partition": dead.record.partition,
            "offset": dead.record.offset,
            "reason": dead.reason,
            "detail": dead.detail,
            "record": base64.b64encode(dead.record.value).decode(),
        }
    )
