"""Programmes, enrolments and the organisation's limits: written with their history, told to each patient concerned."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from psycopg.types.json import Jsonb

from services import enrolment, layer, limits, programme
from services.impossible import impossible
from services.processor.individual import PROGRAMME
from services.store.fan_out import Layer, fan_out, lock
from services.store.steps import Steps

KEY_SHAPE = "1 to 64 letters, digits, - and _"


class Who(NamedTuple):
    """Who writes, why and when; ``role`` None: the command line, which may whatever a role may."""

    organisation_id: int
    person_id: int | None
    role: str | None
    reason: str
    now: datetime
    partitions: int
    expected: int | None = None  # the version they last saw; None: any


class StaleError(ValueError):
    """Somebody else changed it since; ``current`` is the version now."""

    def __init__(self, what: str, expected: int, current: int) -> None:
        super().__init__(f"{what} is at version {current}, not {expected}: read it again, then decide")
        self.current = current


class UnknownProgrammeError(LookupError):
    """The organisation has no such programme."""


def save(who: Who, key: str, document: Mapping[str, Any]) -> Steps[int]:
    """Write a programme's document, new as a draft, and return its version; the limits of an active one are told.

    Raises:
        ImpossibleError: the document, or an active programme that would lack what it needs.
        StaleError: ``who.expected`` is no longer the version.
    """
    if not (1 <= len(key) <= 64 and key.replace("-", "").replace("_", "").isalnum()):
        raise impossible(key[:20], "key", KEY_SHAPE)
    checked = programme.checked(document)
    yield lock(who.organisation_id)
    found = yield (
        "SELECT id, version, state, document FROM programme WHERE organisation_id = %s AND key = %s",
        [who.organisation_id, key],
    )
    number, version, state, before = found[0] if found else (None, 0, "draft", {})
    _must_be_current(f"programme {key}", who, version)
    _must_be_ready(checked, state)
    own = layer.plain(checked.limits)
    if own != before.get("limits", {}) and who.role not in (None, "clinician"):
        raise impossible(own, "limits", f"for a clinician to change, not for a {who.role}")
    values = [state, version + 1, Jsonb(programme.plain(checked))]
    if number is None:
        rows = yield (
            """INSERT INTO programme (state, version, document, organisation_id, key) VALUES (%s, %s, %s, %s, %s)
               RETURNING id""",
            [*values, who.organisation_id, key],
        )
        number = rows[0][0]
    else:
        yield "UPDATE programme SET state = %s, version = %s, document = %s WHERE id = %s", [*values, number]
    yield from _remember(who, number, version + 1, state, checked)
    if own != before.get("limits", {}):
        yield from _tell(who, number, key, own)
    return int(version) + 1


def turn(who: Who, key: str, state: Literal["active", "retired"]) -> Steps[int]:
    """Activate or retire a programme and return its version.

    Raises:
        ImpossibleError: it lacks what an active one needs, or somebody is still enrolled in what is to be retired.
        UnknownProgrammeError, StaleError: see `save`.
    """
    yield lock(who.organisation_id)
    number, version, before, document = yield from _find(who, key)
    _must_be_current(f"programme {key}", who, version)
    checked = programme.checked(document)
    _must_be_ready(checked, state)
    if state == "retired":
        rows = yield (
            "SELECT count(*) FROM enrolment WHERE programme_id = %s AND state <> 'discharged'", [number]
        )  # fmt: skip
        if rows[0][0]:
            raise impossible(state, "state", f"active, while {rows[0][0]} patients are enrolled: discharge them first")
    if state == before:
        return int(version)
    yield "UPDATE programme SET state = %s, version = %s WHERE id = %s", [state, version + 1, number]
    yield from _remember(who, number, version + 1, state, checked)
    return int(version) + 1


def step(who: Who, patient_id: int, key: str, state: str, facts: Mapping[str, Any]) -> Steps[int]:
    """Take a patient a step further in a programme and return the enrolment's version.

    Raises:
        ImpossibleError: the step can't be taken now, by this role, or without what it needs.
        UnknownProgrammeError, StaleError: see `save`.
    """
    yield lock(who.organisation_id)
    number, _, programme_state, document = yield from _find(who, key)
    rows = yield (
        "SELECT state, version FROM enrolment WHERE patient_id = %s AND programme_id = %s",
        [patient_id, number],
    )
    before, version = rows[0] if rows else ("", 0)
    _must_be_current(f"the enrolment in {key}", who, version)
    if enrolment.asks_for_consent(state):
        facts = yield from _recorded(patient_id, facts)
    enrolment.check("" if not rows else before, state, facts, who.reason, who.now.date())
    needed = enrolment.STEPS[state]
    if who.role is not None and who.role not in needed.roles:
        raise impossible(state, "state", f"for a {' or '.join(needed.roles)} to say, not for a {who.role}")
    if programme_state != "active" and state != "discharged":
        raise impossible(state, "state", f"only in an active programme; {key} is {programme_state}: activate it first")
    if "device" in needed.needs:
        rows = yield (
            "SELECT 1 FROM device_assignment WHERE patient_id = %s AND valid_from <= %s AND valid_to > %s LIMIT 1",
            [patient_id, who.now, who.now],
        )
        if not rows:
            raise impossible(state, "state", "with a device assigned to the patient: pair one first (`keepwell enrol`)")
    yield (
        """INSERT INTO enrolment (organisation_id, patient_id, programme_id, state, version, since)
           VALUES (%s, %s, %s, %s, %s, %s)
           ON CONFLICT (patient_id, programme_id) DO UPDATE SET (state, version, since)
               = (excluded.state, excluded.version, excluded.since)""",
        [who.organisation_id, patient_id, number, state, version + 1, who.now],
    )
    yield (
        """INSERT INTO enrolment_event (organisation_id, patient_id, programme_id, version, from_state, to_state, at,
                                        facts, reason, person_id, recorded_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        [
            who.organisation_id, patient_id, number, version + 1, before or None, state, who.now, Jsonb(dict(facts)),
            who.reason, who.person_id, who.now,
        ],
    )  # fmt: skip
    watched, was_watched = state in enrolment.WATCHED, before in enrolment.WATCHED
    if watched != was_watched and document.get("limits"):
        rules = document["limits"] if watched else {}
        yield from fan_out(_layer(who, PROGRAMME + key, rules, who.now), [patient_id])
    return int(version) + 1


def _recorded(patient_id: int, facts: Mapping[str, Any]) -> Steps[Mapping[str, Any]]:
    """Return the recorded consent that stands, as the facts of a step that names it or nothing."""
    if facts and set(facts) != {"consent"}:
        return facts
    rows = yield (
        """SELECT DISTINCT decision_id FROM consent_state(%s)
           WHERE purpose IN ('care', 'programme') AND holds ORDER BY 1 DESC""",
        [patient_id],
    )
    stands = [str(row[0]) for row in rows]
    if facts and str(facts["consent"]) not in stands:
        raise impossible(facts["consent"], "facts.consent", ", ".join(stands) or "none: no consent stands")
    return facts or ({"consent": stands[0]} if stands else facts)


def limit_organisation(who: Who, rules: Mapping[str, Any], effective_at: datetime) -> Steps[tuple[int, int]]:
    """Set the organisation's limits, for every patient of it; return the version and how many were told.

    Raises:
        ImpossibleError: out of bounds, or more patients than are told at once.
        StaleError: see `save`.
    """
    own = layer.plain(limits.checked(rules))
    yield lock(who.organisation_id)
    rows = yield (
        "SELECT coalesce(max(version), 0) FROM organisation_limits WHERE organisation_id = %s",
        [who.organisation_id],
    )
    version = rows[0][0]
    _must_be_current("the organisation's limits", who, version)
    yield (
        """INSERT INTO organisation_limits (organisation_id, version, rules, effective_at, reason, person_id,
                                            recorded_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s)""",
        [who.organisation_id, version + 1, Jsonb(own), effective_at, who.reason, who.person_id, who.now],
    )
    patients = yield (
        "SELECT id FROM patient WHERE organisation_id = %s AND erased_at IS NULL ORDER BY id",
        [who.organisation_id],
    )
    told = yield from fan_out(_layer(who, "organisation", own, effective_at), [row[0] for row in patients])
    return int(version) + 1, told


def _tell(who: Who, number: int, key: str, rules: dict[str, Any]) -> Steps[int]:
    """Tell those who are watched in a programme of its limits."""
    rows = yield (
        """SELECT e.patient_id FROM enrolment e JOIN patient p ON p.id = e.patient_id AND p.erased_at IS NULL
           WHERE e.programme_id = %s AND e.state = ANY(%s) ORDER BY 1""",
        [number, list(enrolment.WATCHED)],
    )
    return (yield from fan_out(_layer(who, PROGRAMME + key, rules, who.now), [row[0] for row in rows]))


def _find(who: Who, key: str) -> Steps[tuple[int, int, str, dict[str, Any]]]:
    found = yield (
        "SELECT id, version, state, document FROM programme WHERE organisation_id = %s AND key = %s",
        [who.organisation_id, key[:64]],
    )
    if not found:
        msg = f"there is no programme {key[:64]!r} in your organisation"
        raise UnknownProgrammeError(msg)
    number, version, state, document = found[0]
    return number, version, state, document


def _remember(who: Who, number: int, version: int, state: str, document: programme.Programme) -> Steps[None]:
    yield (
        """INSERT INTO programme_version (programme_id, organisation_id, version, state, document, reason, person_id,
                                          recorded_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s)""",
        [
            number, who.organisation_id, version, state, Jsonb(programme.plain(document)), who.reason, who.person_id,
            who.now,
        ],
    )  # fmt: skip


def _layer(who: Who, subject: str, rules: dict[str, Any], effective_at: datetime) -> Layer:
    return Layer(
        who.organisation_id, subject, rules, effective_at, who.reason, who.person_id, who.now, who.partitions
    )  # fmt: skip


def _must_be_current(what: str, who: Who, version: int) -> None:
    if who.expected is not None and who.expected != version:
        raise StaleError(what, who.expected, version)


def _must_be_ready(document: programme.Programme, state: str) -> None:
    lacking = programme.missing(document) if state == "active" else None
    if lacking is not None:
        field, needed = lacking
        raise impossible(programme.plain(document).get(field), field, f"for an active programme {needed}")
