"""Layers of rules as they stand: their version and numbers, whom they concern, what they were, and a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from ingest.clock import to_datetime, to_ms
from services import enrolment, layer, limits, profile
from services.layer import Own
from services.processor import individual
from services.processor.change import APPLIED, PatientChange
from services.rules.form import Aim
from services.store import changes, programmes
from services.store.programmes import Who
from services.store.steps import Steps

MAX_VERSIONS: Final = 200
WATCHED: Final = list(enrolment.WATCHED)
_PATIENTS: Final = "SELECT p.id, p.key FROM patient p WHERE p.organisation_id = %s AND p.erased_at IS NULL"
_CONCERNED: Final[Mapping[str, str]] = {
    "organisation": f"{_PATIENTS} ORDER BY 1",
    "programme": f"""{_PATIENTS} AND EXISTS (
        SELECT 1 FROM enrolment e JOIN programme g ON g.id = e.programme_id
        WHERE e.patient_id = p.id AND g.key = %s AND e.state = ANY(%s)) ORDER BY 1""",
    "patient": f"{_PATIENTS} AND p.key = %s",
}
_HISTORY: Final[Mapping[str, str]] = {
    "organisation": """SELECT v.version, v.effective_at, v.rules, v.reason, w.name FROM organisation_limits v
        LEFT JOIN person w ON w.id = v.person_id WHERE v.organisation_id = %s""",
    "programme": """SELECT v.version, v.recorded_at, coalesce(v.document->'limits', '{}'), v.reason, w.name
        FROM programme_version v JOIN programme g ON g.id = v.programme_id
        LEFT JOIN person w ON w.id = v.person_id WHERE v.organisation_id = %s AND g.key = %s""",
    "patient": """SELECT v.version, v.effective_at, v.payload->'rules', v.reason, w.name
        FROM patient_change v JOIN patient p ON p.id = v.patient_id AND p.erased_at IS NULL
        LEFT JOIN person w ON w.id = v.person_id
        WHERE v.organisation_id = %s AND p.key = %s AND v.kind = 'limits' AND v.subject = 'patient'""",
}


class Standing(NamedTuple):
    """A layer as it stands; ``version`` 0: nobody ever set it. ``document``: of the programme it is part of."""

    version: int
    rules: Own
    document: dict[str, Any] = {}


class Version(NamedTuple):
    """A layer as it was set once; ``by`` the person's name, None for the command line."""

    version: int
    effective_at: datetime
    rules: dict[str, Any]
    reason: str
    by: str | None


def standing(organisation_id: int, aim: Aim, patients: Sequence[int], now_ms: int) -> Steps[Standing]:
    """Return a layer as it stands; ``patients``: for a patient's own, the one it is of.

    Raises:
        UnknownProgrammeError: the organisation has no such programme.
    """
    if aim.layer == "programme":
        rows = yield (
            "SELECT version, document FROM programme WHERE organisation_id = %s AND key = %s",
            [organisation_id, aim.key],
        )
        if not rows:
            msg = (
                f"there is no programme {aim.key!r} in this organisation; write it with `keepwell programme set` first"
            )
            raise programmes.UnknownProgrammeError(msg)
        return Standing(rows[0][0], limits.checked(rows[0][1].get("limits", {})), rows[0][1])
    if aim.layer == "organisation":
        rows = yield (
            "SELECT version, rules FROM organisation_limits WHERE organisation_id = %s ORDER BY version DESC LIMIT 1",
            [organisation_id],
        )
        return Standing(rows[0][0], layer.of({"rules": rows[0][1]})) if rows else Standing(0, {})
    rows = yield (
        """SELECT max(version) OVER (), payload FROM patient_change
           WHERE (patient_id, kind, subject) = (%s, 'limits', 'patient')
           ORDER BY effective_at > %s, effective_at DESC, id DESC LIMIT 1""",
        [patients[0], to_datetime(now_ms)],
    )
    return Standing(rows[0][0], layer.of(rows[0][1])) if rows else Standing(0, {})


def concerned(organisation_id: int, aim: Aim) -> Steps[dict[int, str]]:
    """Return the patients a layer holds for, id → key; nobody who was erased."""
    rows = yield _CONCERNED[aim.layer], [organisation_id, *_key(aim), *([WATCHED] if aim.layer == "programme" else [])]
    return dict(rows)


def changes_of(patients: Sequence[int]) -> Steps[dict[int, list[PatientChange]]]:
    """Return patient → what people said that detection goes by, told to the processor or on its way there."""
    rows = yield (
        """SELECT patient_id, (extract(epoch FROM effective_at) * 1000)::bigint, id, kind, subject, payload, person_id
           FROM patient_change WHERE patient_id = ANY(%s) AND kind = ANY(%s) ORDER BY effective_at, id""",
        [list(patients), list(APPLIED)],
    )
    found: dict[int, list[PatientChange]] = {patient: [] for patient in patients}
    for patient, *change in rows:
        found[patient].append(PatientChange(*change))
    return found


def history(organisation_id: int, aim: Aim) -> Steps[list[Version]]:
    """Return what a layer was, the newest version first."""
    rows = yield f"{_HISTORY[aim.layer]} ORDER BY 1 DESC LIMIT {MAX_VERSIONS}", [organisation_id, *_key(aim)]
    return [Version(*row) for row in rows]


def replace(who: Who, aim: Aim, now: Standing, rules: Own, patients: Sequence[int], effective: datetime) -> Steps[int]:
    """Set a layer as the API does, and return its version; a programme's holds from now on.

    Raises:
        ImpossibleError: a limit that does not hold for the patient, or more patients than are told at once.
        StaleError, StaleVersionError: ``who.expected`` is no longer the version.
    """
    if aim.layer == "organisation":
        version, _ = yield from programmes.limit_organisation(who, layer.plain(rules), effective)
    elif aim.layer == "programme":
        version = yield from programmes.save(who, aim.key, {**now.document, "limits": layer.plain(rules)})
    else:
        said = (yield from changes_of(patients))[patients[0]]
        limits.must_hold(rules, profile.conditions(individual.profile_at(said, to_ms(effective)), to_ms(effective)))
        wanted = changes.Wanted(
            patients[0], "limits", "patient", effective, {"rules": layer.plain(rules)}, who.reason, who.person_id,
            who.now, who.expected,
        )  # fmt: skip
        version = (yield from changes.steps(wanted, who.partitions)).version
    return int(version)


def _key(aim: Aim) -> list[str]:
    return [aim.key] if aim.key else []
