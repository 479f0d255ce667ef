"""Break-glass: seeing a patient outside one's care team, for a reason in words and a bounded time.

Whoever opens it is seen: the patient's team and the administrators find it listed until somebody else has reviewed it.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString

from services.api import pages, request_keys
from services.api.patients import Patient, link
from services.api.problems import Code, Problem, invalid, not_found
from services.api.query import Row, every, first
from services.api.scope import Scope
from services.api.times import rfc3339

MAX_WORDS: Final = 1000  # characters
MIN_WORDS: Final = 3
VERDICTS: Final = ("justified", "not_justified")
MAX_SHOWN: Final = 50
_WORD: Final = re.compile(r"[^\W\d_]{2,}")

_SELECT: LiteralString = """
    SELECT b.*, p.key AS patient_key, p.name AS patient_name, who.key AS person_key, who.name AS person_name,
           by.key AS by_key, by.name AS by_name
    FROM break_glass b LEFT JOIN patient p ON p.id = b.patient_id JOIN person who ON who.id = b.person_id
    LEFT JOIN person by ON by.id = b.reviewed_by"""


async def open_for(scope: Scope, patient_key: str, reason: str, lasting: timedelta, key: str | None) -> dict[str, Any]:
    """Let the scope's person see a patient from now on for a while, and return the record of it.

    Raises:
        Problem: no reason in words, no such patient, one the person sees already, a key used for something else.
    """
    reason = _in_words("reason", reason)
    if key is not None and not await request_keys.claim(scope, key, f"break_glass|{patient_key}|{reason}"):
        return await _newest(scope, patient_key)
    seen = await first(scope.connection, "SELECT id FROM patient WHERE key = %s AND erased_at IS NULL", [patient_key])
    kept = await first(scope.connection, "SELECT decision_id FROM my_denial('any', %s)", [patient_key])
    if seen is not None and kept is None:
        raise Problem(Code.ALREADY_VISIBLE, "no break-glass is needed; open the patient's page")
    made = await first(
        scope.connection, "SELECT open_break_glass(%s, %s, %s) AS id", [patient_key, reason, scope.at + lasting]
    )
    if made is None or made["id"] is None:
        raise not_found(patient_key, "patient")
    if kept is not None:
        scope.detail.update(against_consent=kept["decision_id"])  # an emergency goes before it, and is said to
    return await _newest(scope, patient_key)


async def _newest(scope: Scope, patient_key: str) -> dict[str, Any]:
    row = await first(
        scope.connection,
        _SELECT + " WHERE p.key = %s AND b.person_id = %s ORDER BY b.id DESC LIMIT 1",
        [patient_key, scope.person.id],
    )
    if row is None:
        raise not_found(patient_key, "patient")
    scope.patient_id = row["patient_id"]
    scope.purpose, scope.reason = "break_glass", row["reason"]
    scope.detail.update(break_glass=row["id"])
    return document(scope, row)


async def listed(scope: Scope, limit: int, cursor: str | None) -> dict[str, Any]:
    """Return a page of what was opened, unreviewed first, then the newest."""
    reviewed, last = pages.decode(cursor, 2) if cursor else (None, None)
    rows = await every(
        scope.connection,
        _SELECT
        + """
        WHERE %(last)s::bigint IS NULL OR (b.reviewed_at IS NOT NULL, -b.id) > (%(reviewed)s::bool, -%(last)s::bigint)
        ORDER BY b.reviewed_at IS NOT NULL, b.id DESC LIMIT %(limit)s""",
        {"reviewed": reviewed, "last": last, "limit": limit + 1},
    )
    scope.saw(sorted({row["patient_id"] for row in rows[:limit]}))
    keys = [[row["reviewed_at"] is not None, row["id"]] for row in rows]
    return pages.page([document(scope, row) for row in rows], limit, keys)


async def of_patient(scope: Scope, patient: Patient) -> list[dict[str, Any]]:
    """Return what is open of a patient or not reviewed yet, the newest first."""
    if not scope.sees("break_glass"):
        return []
    rows = await every(
        scope.connection,
        _SELECT + " WHERE b.patient_id = %s AND (b.until > %s OR b.reviewed_at IS NULL) ORDER BY b.id DESC LIMIT %s",
        [patient.id, scope.at, MAX_SHOWN],
    )
    return [document(scope, row) for row in rows]


async def review(scope: Scope, number: str, verdict: str, note: str, key: str | None) -> dict[str, Any]:
    """Say whether it was justified, and return the record; what was not ends at once.

    Raises:
        Problem: no such record, one's own, reviewed by somebody, a verdict that is not allowed or needs a note.
    """
    if verdict not in VERDICTS:
        raise invalid(verdict, "verdict", ", ".join(VERDICTS))
    note = _in_words("note", note) if verdict == "not_justified" or note.strip() else ""
    row = await _row(scope, number)
    if key is not None and not await request_keys.claim(scope, key, f"review|{row['id']}|{verdict}|{note}"):
        return document(scope, row)
    if row["person_id"] == scope.person.id:
        raise Problem(Code.NOT_YOURS_TO_REVIEW, "nobody reviews their own; ask somebody else of the patient's team")
    if row["reviewed_at"] is not None:
        raise Problem(Code.ALREADY_REVIEWED, f"{row['by_name']} said {row['verdict']}")
    until = scope.at if verdict == "not_justified" else row["until"]
    done = await first(
        scope.connection,
        """UPDATE break_glass SET reviewed_at = %s, reviewed_by = %s, verdict = %s, note = %s, until = least(until, %s)
           WHERE id = %s AND reviewed_at IS NULL RETURNING id""",
        [scope.at, scope.person.id, verdict, note or None, until, row["id"]],
    )
    if done is None:
        detail = "it takes somebody of the patient's own team, or an administrator"
        raise Problem(Code.NOT_YOURS_TO_REVIEW, detail)
    scope.detail.update(break_glass=row["id"], verdict=verdict)
    return document(scope, await _row(scope, number))


async def _row(scope: Scope, number: str) -> Row:
    wanted = int(number) if number.isascii() and number.isdigit() and len(number) < 19 else 0
    row = await first(scope.connection, _SELECT + " WHERE b.id = %s", [wanted])
    if row is None:
        raise not_found(number, "break-glass")
    scope.patient_id = row["patient_id"]
    return row


def _in_words(field: str, text: str) -> str:
    text = text.strip()
    if len(text) > MAX_WORDS or len({word.lower() for word in _WORD.findall(text)}) < MIN_WORDS:
        allowed = f"at least {MIN_WORDS} different words that say why, at most {MAX_WORDS} characters"
        raise invalid(text[:40], field, allowed)
    return text


def document(scope: Scope, row: Row) -> dict[str, Any]:
    """Return the public form of one record."""
    whole = {
        "id": str(row["id"]),
        "patient": row["patient_key"]
        and {"id": row["patient_key"], "name": row["patient_name"], "link": link(row["patient_key"])},
        "by": {"id": row["person_key"], "name": row["person_name"]},
        "reason": row["reason"],
        "opened_at": rfc3339(row["opened_at"]),
        "until": rfc3339(row["until"]),
        "open": _open(row, scope.at),
        "review": row["reviewed_at"]
        and {
            "at": rfc3339(row["reviewed_at"]),
            "by": {"id": row["by_key"], "name": row["by_name"]},
            "verdict": row["verdict"],
            "note": row["note"],
        },
    }
    return scope.show("break_glass", whole)


def _open(row: Row, at: datetime) -> bool:
    return bool(row["until"] > at)
