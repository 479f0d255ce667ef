"""Consent as the API shows and records it: documents, a patient's decisions, the organisation's rules."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, LiteralString

from services import consent
from services.api import withheld
from services.api.patients import Patient, link
from services.api.problems import Code, Problem, not_found
from services.api.programmes import done
from services.api.query import Row, every, first
from services.api.scope import Scope
from services.api.times import rfc3339
from services.consent import DEFAULT_AGE, DEFAULT_BASIS, Wanted
from services.store import consents as store
from services.store.consents import Clerk, Words

MAX_LISTED: Final = 200
_ROWS: Final[LiteralString] = """
    SELECT c.*, d.key AS document, d.version AS document_version, p.key AS by_key, p.name AS by_name
    FROM consent c LEFT JOIN consent_document d ON d.id = c.document_id LEFT JOIN person p ON p.id = c.recorded_by"""


async def find(scope: Scope, key: str) -> Patient:
    """Return a patient whose consent the person may see, also one of whom everything else is withheld.

    Raises:
        Problem: there is none of this id that the person may see.
    """
    row = await first(scope.connection, "SELECT * FROM consent_patient(%s)", [key])
    if row is None:
        raise not_found(key, "patient")
    scope.patient_id = row["id"]
    return Patient(**row)


def clerk(scope: Scope, present: datetime, partitions: int) -> Clerk:
    """Return who writes; ``present`` is the patients' clock."""
    return Clerk(scope.person.organisation_id, scope.person.id, scope.at, present, partitions)


async def record(scope: Scope, patient: Patient, wanted: Wanted, present: datetime, partitions: int) -> dict[str, Any]:
    """Write a decision down, effective at once unless it says when, and return it.

    A patient speaks for themself here, whatever ``wanted`` says.

    Raises:
        Problem: a value that is not allowed, somebody who may not decide this, or a patient of another team, whom an
            emergency opens for reading alone.
    """
    row = await first(scope.connection, "SELECT may_decide_consent(%s) AS may", [patient.id])
    if row is None or not row["may"]:
        raise Problem(Code.ROLE_NOT_ALLOWED, "what a patient decides is written down by the patient's own care team")
    if scope.person.role == "patient":
        form = wanted.form.strip() or "in the patient's own account"
        wanted = wanted._replace(relation="self", decided_by=scope.person.name, form=form)
    number = await done(scope, store.record(clerk(scope, present, partitions), patient.id, wanted))
    scope.detail.update(consent=number, purpose=wanted.purpose, decision=wanted.said)
    row = await first(scope.connection, _ROWS + " WHERE c.patient_id = %s AND c.id = %s", [patient.id, number])
    assert row is not None  # noqa: S101 - written above, and whoever writes one may see it
    return document(row, patient)


async def shown(scope: Scope, patient: Patient) -> dict[str, Any]:
    """Return how a patient's consent stands, purpose by purpose, and how it came to that, the newest said first."""
    rows = await every(scope.connection, "SELECT * FROM consent_state(%s)", [patient.id])
    history = await every(
        scope.connection, _ROWS + " WHERE c.patient_id = %s ORDER BY c.id DESC LIMIT %s", [patient.id, MAX_LISTED]
    )
    facts, age = await _age(scope, patient)
    until = consent.minor_until(facts, age)
    return {
        "patient": link(patient.key),
        "standing": [
            {
                "purpose": purpose,
                "basis": basis,
                "continues": purpose == "care" and basis == "other",
                "classes": [withheld.standing(row) for row in rows if row["purpose"] == purpose],
            }
            for purpose, basis in dict.fromkeys((row["purpose"], row["basis"]) for row in rows)
        ],
        "decides": "guardian" if until is not None and scope.at < until else "self",
        "age_known": consent.age_known(facts, age),
        "consent_age": age,
        "history": [document(row, patient) for row in history],
    }


async def _age(scope: Scope, patient: Patient) -> tuple[dict[str, Any], int]:
    row = await first(
        scope.connection,
        "SELECT consent_age_facts(%s) AS facts, consent_age_of(%s) AS age",
        [patient.id, scope.person.organisation_id],
    )
    return (row["facts"] or {}, row["age"]) if row else ({}, DEFAULT_AGE)


def document(row: Row, patient: Patient) -> dict[str, Any]:
    """Return the public form of one decision."""
    return {
        "id": str(row["id"]),
        "patient": link(patient.key),
        "purpose": row["purpose"],
        "data_classes": row["data_classes"],
        "decision": row["decision"],
        "document": row["document"] and {"key": row["document"], "version": row["document_version"]},
        "effective_at": rfc3339(row["effective_at"]),
        "expires_at": rfc3339(row["expires_at"]),
        "relation": row["relation"],
        "decided_by": row["decided_by"],
        "form": row["form"],
        "reason": row["reason"],
        "by": None if row["recorded_by"] is None else {"id": row["by_key"], "name": row["by_name"]},
        "recorded_at": rfc3339(row["recorded_at"]),
    }


async def documents(scope: Scope) -> list[dict[str, Any]]:
    """Return the organisation's documents with their texts, the newest version of each first."""
    rows = await every(
        scope.connection,
        """SELECT d.*, p.key AS by_key, p.name AS by_name FROM consent_document d
           LEFT JOIN person p ON p.id = d.published_by ORDER BY d.key, d.version DESC, d.language LIMIT %s""",
        [MAX_LISTED],
    )
    return [_published(row) for row in rows]


async def publish(scope: Scope, words: Words) -> dict[str, Any]:
    """Publish a document and return it.

    Raises:
        Problem: a value that is not allowed.
    """
    version = await done(scope, store.publish(clerk(scope, scope.at, 0), words))
    scope.detail.update(document=words.key, version=version, requires_renewal=words.requires_renewal)
    row = await first(
        scope.connection,
        """SELECT d.*, p.key AS by_key, p.name AS by_name FROM consent_document d
           LEFT JOIN person p ON p.id = d.published_by WHERE d.key = %s AND d.version = %s AND d.language = %s""",
        [words.key, version, words.language],
    )
    assert row is not None  # noqa: S101 - written above
    return _published(row)


def _published(row: Row) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("key", "version", "language", "purpose", "title", "text", "digest")},
        "requires_renewal": row["requires_renewal"],
        "published_at": rfc3339(row["published_at"]),
        "by": None if row["published_by"] is None else {"id": row["by_key"], "name": row["by_name"]},
    }


async def rules(scope: Scope) -> dict[str, Any]:
    """Return on which basis each purpose rests, from which age people decide, and what it was before."""
    rows = await every(
        scope.connection,
        """SELECT r.*, p.key AS by_key, p.name AS by_name FROM consent_rules r LEFT JOIN person p ON p.id = r.person_id
           ORDER BY version DESC LIMIT %s""",
        [MAX_LISTED],
    )
    return {
        "version": rows[0]["version"] if rows else 0,
        "basis": rows[0]["basis"] if rows else dict(DEFAULT_BASIS),
        "consent_age": rows[0]["consent_age"] if rows else DEFAULT_AGE,
        "history": [
            {
                "version": row["version"], "basis": row["basis"], "consent_age": row["consent_age"],
                "reason": row["reason"],
                "by": None if row["person_id"] is None else {"id": row["by_key"], "name": row["by_name"]},
                "recorded_at": rfc3339(row["recorded_at"]),
            }
            for row in rows
        ],
    }  # fmt: skip


async def set_rules(
    scope: Scope, basis: dict[str, str], age: int | None, reason: str, expected: int | None
) -> dict[str, Any]:
    """Say on which basis each purpose rests, and return the rules.

    Raises:
        Problem: a value that is not allowed, a stale version.
    """
    await done(scope, store.set_rules(clerk(scope, scope.at, 0), basis, age, reason, expected))
    scope.detail.update(basis=basis, consent_age=age)
    return await rules(scope)
