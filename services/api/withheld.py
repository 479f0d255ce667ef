"""What a patient's consent withholds from whoever asks, how that stands, and how many patients a list leaves out.

The database leaves it out by itself (``my_withholding`` in the schema); here it is told apart from what does not exist.
Only of patients the person would see otherwise is anything said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from services.api.problems import Code, Problem
from services.api.query import Row, every, first
from services.api.scope import Scope
from services.api.times import rfc3339
from services.consent import CLASSES, PURPOSE_OF

ENDED: Final = {
    "expiry": "it was given for a time", "renewal": "a newer document asks everybody anew",
    "of_age": "the patient is old enough to decide, or the age is not known",
}  # fmt: skip
WITHOUT: Final = ("patient", "proxy")  # roles that are not told how many there are


async def deny(scope: Scope, kind: str, key: str) -> None:
    """Refuse a patient, an alert or a frame that consent alone hides, and write the decision into the audit row.

    Raises:
        Problem: so it is; it says for which purpose and since when, and nothing else.
    """
    row = await first(scope.connection, "SELECT * FROM my_denial(%s, %s)", [kind, key])
    if row is not None:
        raise refusal(scope, row)


async def deny_metric(scope: Scope, patient_id: int, metric_id: int) -> None:
    """Refuse a metric of a patient whose class is withheld; see `deny`."""
    row = await first(
        scope.connection,
        """SELECT w.* FROM my_withholding() w JOIN metric m ON m.id = %s
           WHERE w.patient_id = %s AND (m.data_class IS NULL OR m.data_class = ANY (w.classes))""",
        [metric_id, patient_id],
    )
    if row is not None:
        raise refusal(scope, row)


def refusal(scope: Scope, row: Row) -> Problem:
    """Return the problem of what a decision withholds; the audit row holds the decision."""
    scope.patient_id = row["patient_id"]
    scope.detail.update(consent=row["decision_id"], purpose=row["purpose"])
    some = set(row["classes"]) < set(CLASSES)
    what = f"{', '.join(row['classes'])} for {row['purpose']}" if some else row["purpose"]
    since = rfc3339(row["since"])
    detail = f"the patient's consent does not cover {what}" + (f", since {since}" if since else ": none is recorded")
    if scope.may("consent.record"):
        detail += "; what they decide anew is written down at …/consents"
    return Problem(
        Code.CONSENT_WITHHELD, detail, purpose=row["purpose"], since=since, data_classes=row["classes"],
        consent=None if row["decision_id"] is None else str(row["decision_id"]),
    )  # fmt: skip


async def count(scope: Scope, of: Sequence[str] = CLASSES) -> dict[str, int]:
    """Return how many patients a list leaves out because of their consent, as its member; for some nothing.

    ``of``: it leaves out those of whom all these classes are withheld; without any, those of whom anything is.
    """
    if scope.person.role in WITHOUT:
        return {}
    row = await first(
        scope.connection,
        "SELECT count(*) AS n FROM my_withholding() WHERE classes @> %s",
        [list(of)],
    )
    return {"withheld_by_consent": row["n"] if row else 0}


async def classes(scope: Scope, patient_id: int) -> list[str]:
    """Return the classes of a patient's data that are withheld from the person."""
    rows = await every(scope.connection, "SELECT classes FROM my_withholding() WHERE patient_id = %s", [patient_id])
    found: list[Any] = rows[0]["classes"] if rows else []
    return found


def standing(row: Row) -> dict[str, Any]:
    """Return how consent stands for one class of data, of a row of ``consent_state``."""
    said = row["decision"]
    return {
        "data_class": row["data_class"],
        "state": "none" if said is None else "ended" if said == "given" and not row["holds"] else said,
        "withheld": row["withheld"],
        "since": rfc3339(row["since"]),
        "ends_at": rfc3339(row["ends_at"]) if said == "given" else None,
        "ended_because": ENDED.get(row["ended_by"]) if said == "given" and not row["holds"] else None,
        "decision": None if row["decision_id"] is None else str(row["decision_id"]),
    }


async def brief(scope: Scope, patient_id: int) -> dict[str, Any]:
    """Return what a patient's document says of consent: a line in words, and what is withheld from the person."""
    gone = await classes(scope, patient_id)
    said = await first(
        scope.connection,
        """SELECT EXISTS (SELECT FROM consent WHERE patient_id = %s AND purpose = 'care')
                  OR consent_basis(%s, 'care') = 'consent' AS anything""",
        [patient_id, scope.person.organisation_id],
    )
    rows: list[Row] = []
    if said and said["anything"]:
        rows = await every(scope.connection, "SELECT * FROM consent_state(%s, 'care')", [patient_id])
    purpose = PURPOSE_OF.get(scope.person.role)
    note = _note(rows)
    if gone:
        note = f"{note or ''} Withheld from you ({purpose}): {', '.join(gone)}.".strip()
    return {"withheld": gone, "note": note}


def _note(rows: list[Row]) -> str | None:
    """Return how the consent to care stands, in words; None where nothing was said and nothing is needed."""
    if not rows or all(row["decision"] is None for row in rows) and rows[0]["basis"] == "other":
        return None
    states: dict[str, list[Row]] = {}
    for row in rows:
        states.setdefault(standing(row)["state"], []).append(row)
    said = [
        _words(state, found[0])
        + ("" if len(found) == len(CLASSES) else f" ({', '.join(r['data_class'] for r in found)})")
        for state, found in states.items()
    ]
    against = any(state in ("refused", "withdrawn") for state in states)
    goes_on = "; care goes on, because it rests on another basis" if against and rows[0]["basis"] == "other" else ""
    return f"Consent to care: {', '.join(said)}{goes_on}."


def _words(state: str, row: Row) -> str:
    if state == "none":
        return "none recorded"
    at = row["ends_at"] if state == "ended" else row["since"]
    return f"{state} on {(at or row['since']):%-d %b %Y}"
