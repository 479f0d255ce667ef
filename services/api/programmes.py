"""Programmes, enrolments and the organisation's limits, as the API shows and changes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, TypeVar

from services import enrolment, programme
from services.api.acknowledge import MAX_NOTE
from services.api.changes import etag
from services.api.patients import Patient
from services.api.problems import Code, Problem, invalid, not_found
from services.api.query import Row, every, first
from services.api.scope import Scope
from services.api.times import rfc3339
from services.impossible import ImpossibleError
from services.store.programmes import StaleError, UnknownProgrammeError, Who
from services.store.steps import Steps, run_async

MAX_LISTED: Final = 200


Outcome = TypeVar("Outcome")


def who(scope: Scope, reason: str, now: datetime, expected: int | None, partitions: int) -> Who:
    """Return who writes; the reason within its length."""
    reason = reason.strip()
    if len(reason) > MAX_NOTE:
        raise invalid(reason[:20], "reason", f"at most {MAX_NOTE} characters, this has {len(reason)}")
    person = scope.person
    return Who(person.organisation_id, person.id, person.role, reason, now, partitions, expected)


async def done(scope: Scope, steps: Steps[Outcome]) -> Outcome:
    """Run steps in the scope's transaction.

    Raises:
        Problem: what stands in their way.
    """
    try:
        return await run_async(scope.connection, steps)
    except ImpossibleError as error:
        raise invalid(error.value, error.field, error.allowed) from error
    except UnknownProgrammeError as error:
        raise Problem(Code.NOT_FOUND, str(error)) from error
    except StaleError as stale:
        raise Problem(Code.STALE_VERSION, str(stale), version=stale.current, etag=etag(stale.current)) from stale


async def listed(scope: Scope) -> list[dict[str, Any]]:
    """Return the organisation's programmes, with how many patients are in each state."""
    rows = await every(scope.connection, "SELECT * FROM programme ORDER BY key LIMIT %s", [MAX_LISTED])
    counts = await every(
        scope.connection, "SELECT programme_id, state, count(*) AS n FROM enrolment GROUP BY programme_id, state"
    )
    return [
        _document(row) | {"patients": {c["state"]: c["n"] for c in counts if c["programme_id"] == row["id"]}}
        for row in rows
    ]


async def one(scope: Scope, key: str) -> dict[str, Any]:
    """Return a programme with what it was before, the newest first."""
    row = await first(scope.connection, "SELECT * FROM programme WHERE key = %s", [key])
    if row is None:
        raise not_found(key, "programme")
    versions = await every(
        scope.connection,
        """SELECT v.*, p.key AS by_key, p.name AS by_name FROM programme_version v
           LEFT JOIN person p ON p.id = v.person_id WHERE programme_id = %s ORDER BY version DESC LIMIT %s""",
        [row["id"], MAX_LISTED],
    )
    history = [
        {"version": v["version"], "state": v["state"], "programme": v["document"], **_written(v)} for v in versions
    ]
    return _document(row) | {"history": history}


def _document(row: Row) -> dict[str, Any]:
    lacking = programme.missing(programme.checked(row["document"]))
    return {
        "key": row["key"],
        "state": row["state"],
        "version": row["version"],
        "programme": row["document"],
        "missing": None if lacking is None else {"field": lacking[0], "needed": lacking[1]},
    }


async def enrolments(scope: Scope, patient: Patient) -> list[dict[str, Any]]:
    """Return how far a patient has come in each programme, and how it came there."""
    rows = await every(
        scope.connection,
        """SELECT e.*, g.key FROM enrolment e JOIN programme g ON g.id = e.programme_id
           WHERE e.patient_id = %s ORDER BY g.key""",
        [patient.id],
    )
    events = await every(
        scope.connection,
        """SELECT e.*, p.key AS by_key, p.name AS by_name FROM enrolment_event e
           LEFT JOIN person p ON p.id = e.person_id
           WHERE e.patient_id = %s ORDER BY e.programme_id, e.version DESC LIMIT 1000""",
        [patient.id],
    )
    return [
        {
            "programme": row["key"],
            "state": row["state"],
            "since": rfc3339(row["since"]),
            "version": row["version"],
            "next": enrolment.following(row["state"]),
            "history": [
                {
                    "from": e["from_state"],
                    "to": e["to_state"],
                    "at": rfc3339(e["at"]),
                    "facts": e["facts"],
                    **_written(e),
                }
                for e in events
                if e["programme_id"] == row["programme_id"]
            ],
        }
        for row in rows
    ]


async def organisation_limits(scope: Scope) -> dict[str, Any]:
    """Return the organisation's limits and what they were before, the newest first."""
    rows = await every(
        scope.connection,
        """SELECT l.*, p.key AS by_key, p.name AS by_name FROM organisation_limits l
           LEFT JOIN person p ON p.id = l.person_id ORDER BY version DESC LIMIT %s""",
        [MAX_LISTED],
    )
    return {
        "version": rows[0]["version"] if rows else 0,
        "rules": rows[0]["rules"] if rows else {},
        "history": [
            {"version": r["version"], "rules": r["rules"], "effective_at": rfc3339(r["effective_at"]), **_written(r)}
            for r in rows
        ],
    }


def _written(row: Row) -> dict[str, Any]:
    by = None if row["person_id"] is None else {"id": row["by_key"], "name": row["by_name"]}
    return {"reason": row["reason"], "by": by, "recorded_at": rfc3339(row["recorded_at"])}
