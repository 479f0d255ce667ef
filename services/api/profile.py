"""A patient's profile and own limits: set as changes in event time, shown with who set what and since when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from ingest.clock import to_ms
from services import layer, limits, profile
from services.api import changes, individual
from services.api.individual import Individual
from services.api.patients import Patient
from services.api.problems import Problem, invalid
from services.api.query import Row, first
from services.api.scope import Scope
from services.impossible import ImpossibleError


class Asked(NamedTuple):
    """How a change is asked for, whatever it says."""

    reason: str
    effective: datetime
    now: datetime
    if_match: str | None
    key: str | None
    partitions: int


async def set_profile(scope: Scope, patient: Patient, document: Mapping[str, Any], asked: Asked, *, merge: bool) -> Row:
    """Set a patient's profile, or merge a document into it (RFC 7396), and return the change's row.

    Raises:
        Problem: a role that may not, a profile that can't be, a clinician nobody knows, a stale version.
    """
    document = _named(scope, document)  # before it is merged: whoever changes the oxygen answers for it
    if merge:
        one = await individual.read(scope.connection, patient.id, asked.effective)
        row = one.latest("profile", "")
        document = merged({} if row is None else row["payload"], document)
    try:
        checked = profile.checked(document, asked.effective.date())
    except ImpossibleError as error:
        raise _refused(error) from error
    if checked.oxygen is not None:
        await _must_be_clinician(scope, checked.oxygen.set_by)
    return await changes.record(
        scope, patient, "profile", "", profile.plain(checked), reason=asked.reason, effective=asked.effective,
        now=asked.now, if_match=asked.if_match, key=asked.key, partitions=asked.partitions,
    )  # fmt: skip


async def set_limits(scope: Scope, patient: Patient, rules: Mapping[str, Any], asked: Asked) -> Row:
    """Set a patient's own limits, all of them at once, and return the change's row; see above."""
    own = own_of(rules)
    one = await individual.read(scope.connection, patient.id, asked.effective)
    try:
        limits.must_hold(own, profile.conditions(one.profile, to_ms(asked.effective)))
    except ImpossibleError as error:
        raise _refused(error) from error
    return await changes.record(
        scope, patient, "limits", "patient", {"rules": layer.plain(own)}, reason=asked.reason,
        effective=asked.effective, now=asked.now, if_match=asked.if_match, key=asked.key, partitions=asked.partitions,
    )  # fmt: skip


def own_of(rules: Mapping[str, Any]) -> dict[str, layer.Setting]:
    """Return a layer of limits as asked for.

    Raises:
        Problem: out of bounds, misspelt.
    """
    try:
        return limits.checked(rules)
    except ImpossibleError as error:
        raise _refused(error) from error


async def shown(scope: Scope, patient: Patient, now: datetime) -> dict[str, Any]:
    """Return the profile as it stands, the version to name when changing it, and every one before."""
    one = await individual.read(scope.connection, patient.id, now)
    row = one.latest("profile", "")
    individualised, note = individual.note(one, plain=scope.plain)
    return {
        "profile": {} if row is None else row["payload"],
        "version": version(one, "profile", ""),
        "limits_individualised": individualised,
        "limits_note": note,
        "set": None if row is None or not scope.sees("change") else changes.document(scope, row, patient),
        "history": _history(scope, patient, one, "profile"),
    }


async def limits_shown(scope: Scope, patient: Patient, now: datetime, usual_budget: str) -> dict[str, Any]:
    """Return each rule's numbers and where they come from, and the version of the patient's own to change."""
    one = await individual.read(scope.connection, patient.id, now)
    told = individual.limits(one, usual_budget)
    if not scope.sees("change"):  # who set them is said to those alone who see changes
        told = [rule | {"set": []} if "set" in rule else rule for rule in told]
    return {
        "version": version(one, "limits", "patient"),
        "rules": told,
        "history": _history(scope, patient, one, "limits"),
    }


def _history(scope: Scope, patient: Patient, one: Individual, kind: str) -> list[dict[str, Any]]:
    """Return what a kind was before, the newest first, to whom it is shown."""
    if not scope.sees("change"):
        return []
    return [changes.document(scope, row, patient) for row in one.rows if row["kind"] == kind]


def version(one: Individual, kind: str, subject: str) -> int:
    """Return the newest version of a change, whenever it takes effect."""
    return max((row["version"] for row in one.rows if (row["kind"], row["subject"]) == (kind, subject)), default=0)


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with another merged into it: null takes a field away (RFC 7396).

    >>> merged({"a": 1, "b": {"c": 2, "d": 3}}, {"a": None, "b": {"c": 4}})
    {'b': {'c': 4, 'd': 3}}
    """
    result = dict(base)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            before = result.get(name)
            result[name] = merged(before if isinstance(before, Mapping) else {}, value)
        else:
            result[name] = value
    return result


def _named(scope: Scope, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the document with the clinician who asks as the one who set the oxygen, where nobody is named."""
    oxygen = document.get("oxygen")
    if not isinstance(oxygen, Mapping) or oxygen.get("set_by"):
        return document
    if scope.person.role != "clinician":
        raise invalid(None, "oxygen.set_by", "the key of the clinician who set the target and the oxygen")
    return {**document, "oxygen": {**oxygen, "set_by": scope.person.key}}


async def _must_be_clinician(scope: Scope, key: str) -> None:
    found = await first(
        scope.connection, "SELECT 1 AS one FROM person WHERE key = %s AND role = 'clinician'", [key[:300]]
    )
    if found is None:
        raise invalid(key[:80], "oxygen.set_by", "the key of a clinician of your organisation")


def _refused(error: ImpossibleError) -> Problem:
    return invalid(error.value, error.field, error.allowed)
