"""Two teams and another organisation, each with one patient about whom there is one of everything, and canaries in it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from ingest.clock import to_ms
from services import teams
from services.roles import ROLES
from services.settings import Settings
from tests.api_data import HOUR_MS, NOW, ApiData, minutes

# What must be seen by nobody whose role has no need of it; each stands where only its kind of document shows it.
CANARIES: Final = {
    "name": "Canaria", "sentence": "sentence for clinicians", "plain": "sentence for patients",
    "evidence": "canary_evidence", "note": "note of the team", "value": "64.125", "reason": "reason of a pause",
}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """A patient and what is addressed by an id of its own."""

    data: ApiData
    key: str
    id: int
    device: int
    alert: str
    frame: str
    opener: int

    def opened(self) -> str:
        """Let the opener, a nurse of no team, break the glass, and return the record's id."""
        row = self.data.connection.execute(
            """INSERT INTO break_glass (organisation_id, person_id, patient_id, reason, opened_at, until)
               VALUES (%s, %s, %s, 'found unconscious at home', %s, %s) RETURNING id""",
            [self.data.organisation, self.opener, self.id, NOW, NOW + timedelta(hours=4)],
        ).fetchone()
        assert row is not None
        return str(row[0])


@dataclass
class World:
    """Who is asked about, and by whom."""

    ours: ApiData
    theirs: ApiData
    subjects: dict[str, Subject]  # own, other (another team's), foreign (another organisation's)
    people: dict[str, int]  # role → a person of ours who has to do with the own patient

    def reset(self, person: int) -> None:
        """Undo what an earlier request of theirs opened."""
        self.ours.connection.execute("DELETE FROM break_glass WHERE person_id = %s", [person])

    def token(self, role: str) -> str:
        return self.ours.token(self.people[role])


def subject(data: ApiData, key: str, team: int | None = None) -> Subject:
    """Make a patient with one of everything."""
    patient = data.patient(key, CANARIES["name"], team=team)
    device = data.device(f"{data.key}-{key}", patient)
    data.readings(patient, device, "heart_rate", *minutes(NOW - timedelta(hours=3), 180))
    data.band(patient, "heart_rate", "rest", to_ms(NOW) // HOUR_MS * HOUR_MS - HOUR_MS, 62, 4)
    data.state(patient, "heart_rate", "normal", value=float(CANARIES["value"]))
    noticed = data.person(f"noticed-{key}", team=None)
    alert = data.alert(
        patient, sentence=CANARIES["sentence"], patient_sentence=CANARIES["plain"],
        evidence={"metric": "heart_rate", "worst": CANARIES["evidence"]}, acknowledged_at=NOW,
        acknowledged_by=noticed, acknowledge_note=CANARIES["note"],
    )  # fmt: skip
    data.connection.execute(
        "INSERT INTO suppressed_finding VALUES (%s, %s, 'device_silent', %s, %s, 'medium', 'paused', %s, %s)",
        [data.organisation, patient, NOW, NOW, CANARIES["sentence"], NOW],
    )
    data.connection.execute(
        """INSERT INTO patient_change (organisation_id, patient_id, kind, version, effective_at, payload, reason, person_id,
                                       recorded_at)
           VALUES (%s, %s, 'monitoring', 1, %s, %s, %s, %s, %s)""",
        [data.organisation, patient, NOW - timedelta(hours=1), '{"state": "paused"}', CANARIES["reason"], noticed, NOW],
    )
    data.connection.execute(
        """INSERT INTO patient_change (organisation_id, patient_id, kind, subject, version, effective_at, payload, reason,
                                       person_id, recorded_at)
           VALUES (%s, %s, 'limits', 'patient', 1, %s, %s, 'a reason', %s, %s)""",
        [
            data.organisation,
            patient,
            NOW - timedelta(hours=1),
            '{"rules": {"spo2_drift": {"bound": 1.5}}}',
            noticed,
            NOW,
        ],
    )
    data.connection.execute(
        "INSERT INTO erasure (patient_id, organisation_id, reason, asked_at) VALUES (%s, %s, 'asked', %s)",
        [patient, data.organisation, NOW],
    )
    for table in ("reading_conflict", "quarantined_reading"):
        extra = ("'range', " if table == "quarantined_reading" else "") + "'f'"
        query = f"INSERT INTO {table} VALUES (%s, 1, %s, %s, 9, {extra})"
        data.connection.execute(query.encode(), [patient, device, NOW])
    data.connection.execute("INSERT INTO reading_superseded VALUES (%s, 1, %s, %s, 9, 1, 'f')", [patient, device, NOW])
    data.connection.execute(
        "INSERT INTO daily_value VALUES (%s, 1, 'asleep', '2026-11-21', 58, 400, 57, 3, 9, 0.3, NULL, true)", [patient]
    )
    programme = data.connection.execute(
        """INSERT INTO programme (organisation_id, key, state, version, document)
           VALUES (%s, %s, 'draft', 1, '{"name": "Hearts"}') RETURNING id""",
        [data.organisation, f"programme-{key}"],
    ).fetchone()
    assert programme is not None
    data.connection.execute(
        """INSERT INTO enrolment (organisation_id, patient_id, programme_id, state, version, since)
           VALUES (%s, %s, %s, 'eligible', 1, %s)""",
        [data.organisation, patient, programme[0], NOW],
    )
    data.connection.execute(
        """INSERT INTO enrolment_event (organisation_id, patient_id, programme_id, version, to_state, at, facts, reason, recorded_at)
           VALUES (%s, %s, %s, 1, 'eligible', %s, '{}', 'a reason', %s)""",
        [data.organisation, patient, programme[0], NOW, NOW],
    )
    data.consent(patient, "genomics", at=NOW - timedelta(days=1))  # which rests on it
    frame = f"{data.key}-{key}~s~1"
    data.frame(frame, patient, device)
    return Subject(data, key, patient, device, str(alert), frame, data.person(f"opener-{key}", team=None))


@contextlib.contextmanager
def made(settings: Settings) -> Iterator[World]:
    """Make the world; its rows stay in the session's database."""
    ours, theirs = (ApiData(settings, f"{name}-{secrets.token_hex(4)}") for name in ("matrix", "foreign"))
    try:
        subjects = {
            "own": subject(ours, "own"),
            "other": subject(ours, "other", ours.another_team()),
            "foreign": subject(theirs, "foreign"),
        }
        people: dict[str, int] = {role: ours.person(role, role, f"A {role}") for role in ROLES}
        teams.link_patient(ours.connection, people["patient"], subjects["own"].id)
        grant(ours, people["proxy"], subjects["own"])
        yield World(ours, theirs, subjects, people)
    finally:
        ours.close()
        theirs.close()


def grant(data: ApiData, proxy: int, whose: Subject, *what: teams.What, **times: Any) -> None:
    """Let a proxy see a patient; readings and alerts unless said otherwise."""
    teams.grant_proxy(
        data.connection, proxy, whose.id, what or ("readings", "alerts"),
        times.get("at", NOW - timedelta(days=1)), times.get("until", NOW + timedelta(days=1)),
    )  # fmt: skip
