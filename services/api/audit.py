"""The audit as administrators search it, and as a patient's own list of who saw what."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from services.api import audit_words, pages
from services.api.patients import Patient
from services.api.problems import invalid, not_found
from services.api.query import Row, every, first
from services.api.scope import Scope
from services.api.times import rfc3339

SHOWN: Final = timedelta(days=30)
LONGEST: Final = timedelta(days=400)
FOUND: Final = """
    SELECT a.*, p.key AS person_key, p.name AS person_name
    FROM audit_rows(%s, %s, %s, %s, %s, %s, %s) a LEFT JOIN person p ON p.id = a.person_id ORDER BY a.id DESC"""


async def searched(
    scope: Scope, *, patient: Patient | None, person: str | None, action: str | None, start: datetime | None,
    to: datetime | None, limit: int, cursor: str | None,
) -> dict[str, Any]:  # fmt: skip
    """Return a page of the organisation's audit rows, the newest first.

    Raises:
        Problem: a person who is not of the organisation.
    """
    before = pages.decode(cursor, 1)[0] if cursor else None
    person_id = None
    if person is not None:
        found = await first(scope.connection, "SELECT id FROM person WHERE key = %s", [person])
        if found is None:
            raise not_found(person, "person")
        person_id = found["id"]
    wanted = [patient.id if patient else None, person_id, action, start, to, before, limit + 1]
    rows = await every(scope.connection, FOUND, wanted)
    keys = await _keys(scope, rows[:limit])
    return pages.page([_row(row, keys) for row in rows], limit, [[row["id"]] for row in rows])


async def _keys(scope: Scope, rows: list[Row]) -> dict[int, str]:
    """Return the keys of the patients these rows name, as far as this person may see them."""
    ids = {number for row in rows for number in _named(row)}
    found = await every(scope.connection, "SELECT id, key FROM patient WHERE id = ANY(%s)", [list(ids)])
    return {row["id"]: row["key"] for row in found}


def _named(row: Row) -> list[int]:
    return [row["patient_id"]] if row["patient_id"] is not None else row["detail"].get("patient_ids", [])


def _row(row: Row, keys: dict[int, str]) -> dict[str, Any]:
    person = {"id": row["person_key"], "name": row["person_name"]} if row["actor"] == "person" else None
    rest = {key: value for key, value in row["detail"].items() if key != "patient_ids"}
    return {
        "id": str(row["id"]), "at": rfc3339(row["at"]), "actor": row["actor"], "person": person,
        "name": row["name"] or None, "role": row["role"] or None, "action": row["action"],
        "patients": [keys[number] for number in _named(row) if number in keys], "purpose": row["purpose"],
        "reason": row["reason"] or None, "address": row["address"] or None, "agent": row["agent"] or None,
        "outcome": row["outcome"], "request_id": row["request_id"] or None, "detail": rest,
    }  # fmt: skip


async def accesses(
    scope: Scope, patient: Patient, start: datetime | None, to: datetime | None, limit: int, cursor: str | None
) -> dict[str, Any]:
    """Return a page of who did what with a patient's data, a row a day, person and kind of access, newest day first.

    Raises:
        Problem: a span that is not allowed.
    """
    to = to or scope.at + timedelta(days=1)
    start = start or to - SHOWN
    if not timedelta(0) < to - start <= LONGEST:
        raise invalid(rfc3339(start), "from", f"before `to`, and at most {LONGEST.days} days before it")
    day, newest = pages.decode(cursor, 2) if cursor else (None, None)
    rows = await every(
        scope.connection,
        """SELECT f.*, p.name AS person_name
           FROM audit_of_patient(%s, %s, %s, %s) f LEFT JOIN person p ON p.id = f.person_id
           WHERE %s::date IS NULL OR (f.day, f.newest) < (%s::date, %s::bigint)
           ORDER BY f.day DESC, f.newest DESC LIMIT %s""",
        [patient.id, start, to, patient.time_zone, day, day, newest, limit + 1],
    )
    items = [
        {
            "day": row["day"].isoformat(), "first_at": rfc3339(row["first_at"]), "last_at": rfc3339(row["last_at"]),
            **audit_words.access(row),
        }
        for row in rows
    ]  # fmt: skip
    return pages.page(items, limit, [[row["day"].isoformat(), row["newest"]] for row in rows])
