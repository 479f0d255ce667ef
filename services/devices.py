"""Who is enrolled: organisations, patients, devices, assignments and their tokens, by the admin role in SQL.

Every function takes an open connection and is one transaction, or a savepoint in the caller's: dozens of devices
are enrolled at once or not at all. Tokens are 256 random bits; only their hashes are stored, so each is shown once.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from detectors.device_classes import CLASSES, UNKNOWN
from ingest.devices import token_hash
from ingest.mqtt_password import password_hash
from services import teams
from services.store import changes
from services.teams import TeamError

Connection = psycopg.Connection[Any]

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")  # also an MQTT user name and a part of an address
RESERVED = ("bridge", "probe")  # users of the MQTT broker itself


class EnrolmentError(ValueError):
    """Something cannot be enrolled, assigned or revoked; the text names it and the next step."""


@dataclass(frozen=True)
class Enrolment:
    """A patient and the device that is theirs from ``since`` on."""

    patient: str
    device: str
    since: datetime
    name: str = ""
    model: str = "unknown"
    time_zone: str = "UTC"
    device_class: str = UNKNOWN  # of `detectors.device_classes.CLASSES`; unknown: what is known of the device stays


@dataclass(frozen=True)
class Enrolled:
    """What an enrolment came to; ``token`` is None when the device has one already."""

    patient: str
    patient_id: int
    device: str
    device_id: int
    token: str | None


def new_token() -> str:
    """Return 256 random bits, 43 characters that are safe in addresses and headers."""
    return secrets.token_urlsafe(32)


def create_organisation(connection: Connection, key: str, name: str) -> int:
    """Return the organisation's id, made with its default care team where missing."""
    check_key("organisation", key)
    connection.execute("INSERT INTO organisation (key, name) VALUES (%s, %s) ON CONFLICT (key) DO NOTHING", [key, name])
    organisation_id = one_id(connection, "SELECT id FROM organisation WHERE key = %s", [key], f"organisation {key}")
    teams.create_team(connection, organisation_id, teams.DEFAULT, "Everybody")
    return organisation_id


def create_team(connection: Connection, organisation: str, key: str, name: str) -> int:
    """Return the care team's id, made where missing.

    Raises:
        EnrolmentError: an impossible key or an unknown organisation.
    """
    check_key("team", key)
    query = "SELECT id FROM organisation WHERE key = %s"
    organisation_id = one_id(connection, query, [organisation], f"organisation {organisation}")
    return teams.create_team(connection, organisation_id, key, name)


def enrol_many(
    connection: Connection,
    organisation: str,
    wanted: Sequence[Enrolment],
    at: datetime,
    *,
    partitions: int,
    renew: bool = False,
    team: str | None = None,
) -> list[Enrolled]:
    """Make patients, devices, assignments and tokens where missing, in the order asked.

    A new patient is in the care of the organisation's default team, or of ``team``. ``renew`` revokes a device's tokens
    and makes a new one; else a device that has one keeps it. ``partitions`` are those of the control topic, which is
    told of each assignment.

    Raises:
        EnrolmentError: an impossible key, an unknown organisation, team or device class, a device of another
        organisation, patient or class.
    """
    for one in wanted:
        check_key("patient", one.patient)
        check_key("device", one.device)
        check_class(one.device_class)
    with connection.transaction():
        return _enrol(connection, organisation, wanted, at, partitions, renew=renew, team=team)


def _enrol(
    connection: Connection,
    organisation: str,
    wanted: Sequence[Enrolment],
    at: datetime,
    partitions: int,
    *,
    renew: bool,
    team: str | None,
) -> list[Enrolled]:
    query = "SELECT id FROM organisation WHERE key = %s"
    organisation_id = one_id(connection, query, [organisation], f"organisation {organisation}")
    patients = _make_patients(connection, organisation_id, wanted, team_of(connection, organisation_id, team), at)
    devices, learned = _make_devices(connection, organisation_id, wanted, at)
    made = [one for one in wanted if _assign_if_free(connection, one, devices[one.device].id, patients[one.patient])]
    told = {(one.patient, one.device): (one, at) for one in wanted if one.device in learned}
    told |= {(one.patient, one.device): (one, one.since) for one in made}
    wanted_changes = [
        _assigned(patients[one.patient], one.device, since, at, devices[one.device].device_class)
        for one, since in told.values()
    ]
    changes.write_many(connection, wanted_changes, partitions)
    changes.write_many(
        connection, _limits_of_newcomers(connection, organisation_id, list(patients.values())), partitions
    )
    ids = list(dict.fromkeys(devices[one.device].id for one in wanted))
    if renew:
        _revoke(connection, ids, at)
    tokens = _make_tokens(connection, ids, at)
    return [
        Enrolled(one.patient, patients[one.patient], one.device, number, tokens.get(number))
        for one in wanted
        for number in (devices[one.device].id,)
    ]


def assign(
    connection: Connection, device: str, patient: str, since: datetime, at: datetime, *, partitions: int
) -> None:
    """Hand a device to a patient from ``since`` on, said at ``at``; whoever had it has it until then.

    Raises:
        EnrolmentError: unknown, of two organisations, or the device was handed on after ``since`` already.
    """
    query = """SELECT d.id, p.id, d.class FROM device d JOIN patient p ON p.organisation_id = d.organisation_id
               WHERE d.key = %s AND p.key = %s"""
    row = connection.execute(query, [device, patient]).fetchone()
    if row is None:
        msg = f"no device {device} and patient {patient} in one organisation; use `keepwell enrol`"
        raise EnrolmentError(msg)
    device_id, patient_id, device_class = row
    with connection.transaction():
        before = connection.execute(
            """UPDATE device_assignment SET valid_to = %(since)s
               WHERE device_id = %(device)s AND valid_from < %(since)s AND valid_to > %(since)s
               RETURNING patient_id""",
            {"device": device_id, "since": since},
        ).fetchall()
        _insert_assignment(connection, device, device_id, patient_id, since)
        ended = [_ended(had, device, since, at) for (had,) in before if had != patient_id]
        changes.write_many(connection, [*ended, _assigned(patient_id, device, since, at, device_class)], partitions)


def classify(
    connection: Connection, organisation: str, device: str, device_class: str, at: datetime, *, partitions: int
) -> str:
    """Say of what class a device is, from ``at`` on; return what was known before. What was found stays as it was told.

    Whoever is to have it later hears of it too: what their assignment said holds no more.

    Raises:
        EnrolmentError: an unknown class, or no such device.
    """
    check_class(device_class)
    with connection.transaction():
        row = connection.execute(
            """SELECT d.id, d.class FROM device d JOIN organisation o ON o.id = d.organisation_id
               WHERE o.key = %s AND d.key = %s FOR NO KEY UPDATE OF d""",
            [organisation, device],
        ).fetchone()
        if row is None:
            msg = f"device = {device!r} is not known in {organisation}; `keepwell enrol --device {device}` makes it"
            raise EnrolmentError(msg)
        if row[1] == device_class:
            return device_class
        connection.execute("UPDATE device SET class = %s WHERE id = %s", [device_class, row[0]])
        wearers = connection.execute(
            """SELECT patient_id, greatest(valid_from, %(at)s) FROM device_assignment
               WHERE device_id = %(device)s AND valid_to > %(at)s ORDER BY valid_from""",
            {"device": row[0], "at": at},
        ).fetchall()
        told = [_assigned(patient_id, device, since, at, device_class) for patient_id, since in wearers]
        changes.write_many(connection, told, partitions)
    return str(row[1])


def check_class(device_class: str) -> None:
    """Raise EnrolmentError for a class that is not in the list."""
    if device_class not in CLASSES:
        allowed = ", ".join(CLASSES)
        msg = f"device class = {device_class!r} is not known; allowed: {allowed}. Where it is none of them, say unknown"
        raise EnrolmentError(msg)


def revoke(connection: Connection, device: str, at: datetime) -> int:
    """Revoke every token of a device and return how many there were; the gateway follows within a second.

    Raises:
        EnrolmentError: no such device.
    """
    device_id = one_id(connection, "SELECT id FROM device WHERE key = %s", [device], f"device {device}")
    return _revoke(connection, [device_id], at)


def mqtt_passwords(connection: Connection) -> dict[str, str]:
    """Return every device that may log in to the MQTT broker, with its newest token as mosquitto wants it."""
    query = """SELECT DISTINCT ON (d.key) d.key, t.mqtt_hash
               FROM device d JOIN device_token t ON t.device_id = d.id
               WHERE t.revoked_at IS NULL ORDER BY d.key, t.created_at DESC, t.hash"""
    return dict(connection.execute(query).fetchall())


def team_of(connection: Connection, organisation_id: int, key: str | None) -> int:
    """Return a team's id, that of the default team where none is named; raise EnrolmentError where there is none."""
    try:
        return teams.team_id(connection, organisation_id, key)
    except TeamError as error:
        raise EnrolmentError(str(error)) from error


def _make_patients(
    connection: Connection, organisation_id: int, wanted: Sequence[Enrolment], team: int, at: datetime
) -> dict[str, int]:
    keys = [one.patient for one in wanted]
    query = "SELECT key, id FROM patient WHERE organisation_id = %s AND key = ANY(%s)"
    known = dict(connection.execute(query, [organisation_id, keys]).fetchall())
    connection.cursor().executemany(
        """INSERT INTO patient (organisation_id, key, name, time_zone, enrolled_at) VALUES (%s, %s, %s, %s,
        %s)
           ON CONFLICT (organisation_id, key) DO NOTHING""",
        [(organisation_id, one.patient, one.name or one.patient, one.time_zone, one.since) for one in wanted],
    )
    patients: dict[str, int] = dict(connection.execute(query, [organisation_id, keys]).fetchall())
    teams.add_patients(connection, team, [number for key, number in patients.items() if key not in known], at)
    return patients


def _limits_of_newcomers(connection: Connection, organisation_id: int, patients: list[int]) -> list[changes.Wanted]:
    """Return the organisation's limits for the patients who were never told of them."""
    rows = connection.execute(
        """SELECT p.id, l.effective_at, l.rules, l.reason, l.person_id, l.recorded_at FROM patient p
           JOIN (SELECT * FROM organisation_limits WHERE organisation_id = %s ORDER BY version DESC LIMIT 1) l ON true
           WHERE p.id = ANY(%s) AND NOT EXISTS (
               SELECT 1 FROM patient_change c
               WHERE (c.patient_id, c.kind, c.subject) = (p.id, 'limits', 'organisation'))""",
        [organisation_id, patients],
    ).fetchall()
    return [
        changes.Wanted(
            patient_id, "limits", "organisation", effective_at, {"rules": rules}, reason, person_id, recorded_at
        )
        for patient_id, effective_at, rules, reason, person_id, recorded_at in rows
    ]


class _Device(NamedTuple):
    id: int
    device_class: str


def _make_devices(
    connection: Connection, organisation_id: int, wanted: Sequence[Enrolment], at: datetime
) -> tuple[dict[str, _Device], set[str]]:
    """Return the devices by key, made where missing, and those whose class was not known before."""
    connection.cursor().executemany(
        """INSERT INTO device (organisation_id, key, model, class, created_at) VALUES (%s, %s, %s, %s, %s)
           ON CONFLICT (key) DO NOTHING""",
        [(organisation_id, one.device, one.model, one.device_class, at) for one in wanted],
    )
    rows = connection.execute(
        "SELECT key, id, organisation_id, class FROM device WHERE key = ANY(%s)", [[one.device for one in wanted]]
    ).fetchall()
    said, learned = {one.device: one.device_class for one in wanted}, set()
    for key, device_id, owner, known in rows:
        if owner != organisation_id:
            msg = f"device {key} belongs to another organisation; device keys are unique, choose another"
            raise EnrolmentError(msg)
        if said[key] != UNKNOWN and known not in (UNKNOWN, said[key]):
            msg = (
                f"device {key} is of class {known}, not {said[key]}; leave the class out, or change it with "
                f"`keepwell admin device class {key} {said[key]}`"
            )
            raise EnrolmentError(msg)
        if said[key] not in (UNKNOWN, known):
            connection.execute("UPDATE device SET class = %s WHERE id = %s", [said[key], device_id])
            learned.add(key)
    return {key: _Device(number, said[key] if key in learned else known) for key, number, _, known in rows}, learned


def _assigned(patient_id: int, device: str, since: datetime, at: datetime, device_class: str) -> changes.Wanted:
    """Return the change that tells of an assignment, and from when on of which class the device is."""
    payload = {"assigned": True, "device_class": device_class}
    return changes.Wanted(patient_id, "assignment", device, since, payload, "", None, at)


def _ended(patient_id: int, device: str, since: datetime, at: datetime) -> changes.Wanted:
    return changes.Wanted(patient_id, "assignment", device, since, {"assigned": False}, "", None, at)


def _assign_if_free(connection: Connection, one: Enrolment, device_id: int, patient_id: int) -> bool:
    """Assign the device, unless it is that patient's already (then, if need be, from an earlier time on).

    Return whether anything changed.
    """
    row = connection.execute(
        "SELECT patient_id, valid_from FROM device_assignment WHERE device_id = %s AND valid_to = 'infinity'",
        [device_id],
    ).fetchone()
    if row is None:
        _insert_assignment(connection, one.device, device_id, patient_id, one.since)
        return True
    if row[0] != patient_id:
        msg = f"device {one.device} is assigned to another patient; choose another, or hand it over first"
        raise EnrolmentError(msg)
    if one.since < row[1]:
        connection.execute(
            "UPDATE device_assignment SET valid_from = %s WHERE device_id = %s AND valid_to = 'infinity'",
            [one.since, device_id],
        )
        return True
    return False


def _insert_assignment(connection: Connection, device: str, device_id: int, patient_id: int, since: datetime) -> None:
    try:
        connection.execute(
            "INSERT INTO device_assignment (device_id, patient_id, valid_from) VALUES (%s, %s, %s)",
            [device_id, patient_id, since],
        )
    except psycopg.errors.ExclusionViolation as error:
        msg = f"device {device} was handed on after {since.isoformat()} already; choose a later time"
        raise EnrolmentError(msg) from error


def _make_tokens(connection: Connection, device_ids: list[int], at: datetime) -> dict[int, str]:
    rows = connection.execute(
        "SELECT DISTINCT device_id FROM device_token WHERE device_id = ANY(%s) AND revoked_at IS NULL", [device_ids]
    ).fetchall()
    having = {row[0] for row in rows}
    tokens = {device_id: new_token() for device_id in device_ids if device_id not in having}
    connection.cursor().executemany(
        "INSERT INTO device_token (hash, device_id, mqtt_hash, created_at) VALUES (%s, %s, %s, %s)",
        [(token_hash(token), device_id, password_hash(token), at) for device_id, token in tokens.items()],
    )
    return tokens


def _revoke(connection: Connection, device_ids: list[int], at: datetime) -> int:
    done = connection.execute(
        "UPDATE device_token SET revoked_at = %s WHERE device_id = ANY(%s) AND revoked_at IS NULL",
        [at, device_ids],
    )
    return done.rowcount


def check_key(what: str, key: str) -> None:
    """Raise EnrolmentError for a key that can't be a person's, patient's, device's, team's or organisation's."""
    if not KEY.fullmatch(key) or key in RESERVED:
        taken = ", ".join(RESERVED)
        msg = f"{what} key {key!r} is not possible: 1 to 63 letters, digits, _ . - and none of {taken}"
        raise EnrolmentError(msg)


def one_id(connection: Connection, query: str, values: list[Any], what: str) -> int:
    """Return the id a query finds; raise EnrolmentError where it finds none."""
    row = connection.execute(query, values).fetchone()
    if row is None:
        msg = f"there is no {what}; make it first"
        raise EnrolmentError(msg)
    return int(row[0])
