"""Medicines and what else happened to a patient: recorded, put right, withdrawn, each a change with its versions."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, LiteralString, NamedTuple

from services import life_events
from services.api import changes, pages
from services.api.monitoring import ROWS, by
from services.api.patients import Patient, link
from services.api.problems import Code, Problem, invalid
from services.api.profile import Asked
from services.api.query import Row, every, first
from services.api.scope import Scope
from services.api.times import rfc3339
from services.impossible import ImpossibleError

KIND: Final = "life_event"
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_LATEST: Final[LiteralString] = """
    WHERE c.patient_id = %s AND c.kind = 'life_event'
      AND c.version = (SELECT max(v.version) FROM patient_change v
                       WHERE (v.patient_id, v.kind, v.subject) = (c.patient_id, c.kind, c.subject))"""


class Wanted(NamedTuple):
    """An event as somebody writes it down; ``day`` as an ISO date, ``expects`` as `expectations.stated` takes it."""

    event: str
    medication: str | None
    day: str
    expects: object = None


async def record(scope: Scope, patient: Patient, wanted: Wanted, asked: Asked) -> Row:
    """Write an event down and return its row; the same request under one key is one event.

    Raises:
        Problem: an event, class or day that can't be, a key used for something else.
    """
    key = secrets.token_bytes(8) if asked.key is None else f"{scope.person.id}|{patient.id}|{asked.key}".encode()
    subject = hashlib.sha256(key).hexdigest()[:12]
    return await _write(scope, patient, subject, _checked(scope, wanted, asked.now), asked)


async def correct(scope: Scope, patient: Patient, subject: str, wanted: Wanted, asked: Asked) -> Row:
    """Put an event right, also one that was withdrawn, and return its new row; see above.

    Raises:
        Problem: there is no such event; a stale version.
    """
    before = await _row(scope, patient, subject)
    return await _write(scope, patient, subject, _checked(scope, wanted, asked.now), asked, before["payload"])


async def withdraw(scope: Scope, patient: Patient, subject: str, asked: Asked) -> Row:
    """Say that an event was written down by mistake, and return its new row; see above. It stays in the history."""
    before = (await _row(scope, patient, subject))["payload"]
    return await _write(scope, patient, subject, before | {"withdrawn": True}, asked, before)


async def listed(scope: Scope, patient: Patient, limit: int, cursor: str | None) -> dict[str, Any]:
    """Return a page of a patient's events as they were last put right, withdrawn ones too, the newest written first."""
    before = pages.decode(cursor, 1)[0] if cursor else None
    rows = await every(
        scope.connection,
        ROWS + _LATEST + " AND (%s::bigint IS NULL OR c.id < %s) ORDER BY c.id DESC LIMIT %s",
        [patient.id, before, before, limit + 1],
    )
    told = await _ending(scope, patient)
    return pages.page([_document(scope, row, patient, told) for row in rows], limit, [[row["id"]] for row in rows])


async def document(scope: Scope, row: Row, patient: Patient) -> dict[str, Any]:
    """Return an event's public form, as far as the scope's person sees it."""
    return _document(scope, row, patient, await _ending(scope, patient))


async def _ending(scope: Scope, patient: Patient) -> list[Mapping[str, Any]]:
    """Return the events that stand and by which another is over."""
    ends = " AND (c.payload ? 'ends' OR c.payload->>'event' = ANY(%s)) AND NOT (c.payload->>'withdrawn')::boolean"
    found = await every(scope.connection, ROWS + _LATEST + ends, [patient.id, [*life_events.UNSAID]])
    return [row["payload"] for row in found]


def _document(scope: Scope, row: Row, patient: Patient, told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    said = row["payload"]
    begins, after = date.fromisoformat(said["day"]), life_events.after(said, told)
    until = (after - timedelta(days=1)).isoformat() if after > begins else None  # None: over as soon as it began
    whole = {
        "id": row["subject"],
        "patient": link(patient.key),
        "event": said["event"],
        "medication": said.get("medication"),
        "words": said["words"],
        "day": said["day"],
        "until": until,
        "effects": [_effect(metric, effect, begins, after) for metric, effect in said["effects"].items()],
        "note": row["reason"],
        "withdrawn": said["withdrawn"],
        "version": row["version"],
        "by": by(row),
        "recorded_at": rfc3339(row["recorded_at"]),
    }
    return scope.show(KIND, whole)


def _effect(metric: str, effect: Mapping[str, Any], begins: date, after: date) -> dict[str, Any]:
    stands = (after - begins).days
    last = begins + timedelta(days=min(effect.get("days", stands), stands) - 1) if stands else None
    return changes.effect_of(metric, effect) | {"until": None if last is None else last.isoformat()}


def _checked(scope: Scope, wanted: Wanted, now: datetime) -> dict[str, Any]:
    try:
        day = date.fromisoformat(wanted.day) if _DAY.fullmatch(wanted.day) else None
    except ValueError:
        day = None
    if day is None:
        raise invalid(wanted.day[:40], "day", "a date, e.g. 2026-03-03")
    try:
        today = now.astimezone(UTC).date()
        return life_events.checked(wanted.event, wanted.medication, day, today, wanted.expects, scope.person.role)
    except ImpossibleError as error:
        raise invalid(error.value, error.field, error.allowed) from error


async def _row(scope: Scope, patient: Patient, subject: str) -> Row:
    row = await first(scope.connection, ROWS + _LATEST + " AND c.subject = %s", [patient.id, subject])
    if row is None:
        raise Problem(Code.NOT_FOUND, f"no event {subject[:40]!r} is written down of this patient")
    return row


async def _write(
    scope: Scope, patient: Patient, subject: str, payload: dict[str, Any], asked: Asked,
    before: Mapping[str, Any] | None = None,
) -> Row:  # fmt: skip
    effective = life_events.takes_effect(asked.now, *(said for said in (payload, before) if said is not None))
    return await changes.record(
        scope, patient, KIND, subject, payload, reason=asked.reason, effective=effective,
        now=asked.now, if_match=asked.if_match, key=asked.key, partitions=asked.partitions,
    )  # fmt: skip
