"""Rows for the API's tests, written as the owner of the schema: what the processor would have stored."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from ingest.catalogue import catalogue
from ingest.clock import to_datetime, to_ms
from services import teams
from services.api.credentials import new_token, token_hash
from services.consent import DEFAULT_BASIS
from services.settings import Settings

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
NOW = datetime(2026, 11, 22, 19, 4, 5, tzinfo=UTC)
ENROLLED = NOW - timedelta(days=365)
RAISED = """INSERT INTO alert_event (organisation_id, patient_id, alert_id, change, priority, late, at, recorded_at,
                                     person_id, sentence)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id, xid::text"""


class ApiData:
    """Writes rows of one organisation; ``connection`` is the owner's, every row is committed at once."""

    def __init__(self, settings: Settings, key: str) -> None:
        self.connection = psycopg.connect(settings.postgres.conninfo("admin"), autocommit=True)
        self.key = key
        self.organisation = self._id(
            "INSERT INTO organisation (key, name) VALUES (%s, %s) RETURNING id", [key, f"Organisation {key}"]
        )
        self.team = teams.create_team(self.connection, self.organisation, teams.DEFAULT, "Everybody")

    def close(self) -> None:
        self.connection.close()

    def _id(self, query: str, values: Sequence[object]) -> int:
        row = self.connection.execute(query.encode(), values).fetchone()
        assert row is not None
        return int(row[0])

    def person(self, key: str = "ada", role: str = "nurse", name: str = "Ada Nurse", *, team: int | None = -1) -> int:
        """A person, in the default team unless another or none is given; a patient or a proxy in none."""
        person = self._id(
            "INSERT INTO person (organisation_id, key, name, role) VALUES (%s, %s, %s, %s) RETURNING id",
            [self.organisation, key, name, role],
        )
        if team is not None and role not in teams.OUTSIDE_TEAMS:
            teams.add_member(self.connection, self.team if team == -1 else team, person, ENROLLED)
        return person

    def another_team(self, key: str = "other") -> int:
        return teams.create_team(self.connection, self.organisation, key, f"Team {key}")

    def token(self, person: int, kind: str = "api", expires: datetime = NOW + timedelta(days=3650)) -> str:
        token = new_token()
        self.connection.execute(
            """INSERT INTO person_token (hash, person_id, kind, created_at, expires_at, seen_at)
               VALUES (%s, %s, %s, %s, %s, %s)""",
            [token_hash(token), person, kind, NOW - timedelta(days=1), expires, NOW if kind == "session" else None],
        )
        return token

    def patient(
        self, key: str, name: str = "", zone: str = "Europe/Berlin", days: float = 30, *, team: int | None = None
    ) -> int:
        """A patient, in the care of the default team unless another is given."""
        patient = self._id(
            """INSERT INTO patient (organisation_id, key, name, time_zone, enrolled_at)
               VALUES (%s, %s, %s, %s, %s) RETURNING id""",
            [self.organisation, key, name or f"Patient {key}", zone, NOW - timedelta(days=days)],
        )
        teams.add_patients(self.connection, team or self.team, [patient], ENROLLED)
        return patient

    def device(self, key: str, patient: int, model: str = "Wristband", device_class: str = "unknown") -> int:
        device = self._id(
            "INSERT INTO device (organisation_id, key, model, class, created_at) VALUES (%s, %s, %s, %s, %s) RETURNING id",
            [self.organisation, key, model, device_class, NOW - timedelta(days=30)],
        )
        self.connection.execute(
            "INSERT INTO device_assignment (device_id, patient_id, valid_from) VALUES (%s, %s, %s)",
            [device, patient, NOW - timedelta(days=30)],
        )
        return device

    def readings(
        self,
        patient: int,
        device: int,
        metric: str,
        t_ms: NDArray[np.int64],
        value: NDArray[np.float64],
        *,
        closed_ms: int | None = None,
        rollups: bool = True,
        quality: int | None = None,
    ) -> None:
        """Store readings in blocks of an hour, and the rollups of every hour and day closed by ``closed_ms``."""
        number = catalogue()[metric].id
        for hour in np.unique(t_ms // HOUR_MS):
            inside = t_ms // HOUR_MS == hour
            t, v = t_ms[inside], value[inside]
            self.connection.execute(
                """INSERT INTO reading_block (patient_id, metric_id, device_id, t0, t_last, step_us, offsets_ms,
                                              value, quality)
                   VALUES (%s, %s, %s, %s, %s, 0, %s, %s::real[], %s)""",
                [
                    patient, number, device, to_datetime(int(t[0])), to_datetime(int(t[-1])),
                    (t - t[0]).tolist(), v.tolist(), None if quality is None else [quality] * len(v),
                ],
            )  # fmt: skip
        if rollups:
            step = float(np.median(np.diff(t_ms))) if len(t_ms) > 1 else HOUR_MS
            for bucket in (60, 3600, 86400) if step < 60_000 else (3600, 86400):
                self._rollups(patient, number, bucket, t_ms, value, closed_ms or int(t_ms[-1]))

    def _rollups(
        self, patient: int, number: int, bucket: int, t_ms: NDArray[np.int64], value: NDArray[np.float64], to: int
    ) -> None:
        starts, first = np.unique(t_ms // (bucket * 1000), return_index=True)
        ends = np.append(first[1:], len(t_ms))
        with self.connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO rollup VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    (
                        patient, number, bucket, to_datetime(int(start) * bucket * 1000), int(b - a),
                        value[a:b].min(), value[a:b].max(), value[a:b].mean(),
                        np.quantile(value[a:b], 0.1), np.quantile(value[a:b], 0.9),
                    )
                    for start, a, b in zip(starts, first, ends, strict=True)
                    if (start + 1) * bucket * 1000 <= to
                ],
            )  # fmt: skip

    def band(
        self, patient: int, metric: str, context: str, hour_ms: int, center: float, spread: float, days: int = 14
    ) -> None:
        self.connection.execute(
            "INSERT INTO baseline_band VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [patient, catalogue()[metric].id, context, to_datetime(hour_ms), center, spread, days],
        )

    def state(
        self,
        patient: int,
        metric: str,
        state: str,
        cause: str | None = None,
        *,
        value: float | None = 60.0,
        at: datetime = NOW - timedelta(minutes=1),
        since: datetime = NOW - timedelta(hours=5),
    ) -> None:
        self.connection.execute(
            "INSERT INTO metric_state VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            [self.organisation, patient, catalogue()[metric].id, state, cause, since, value, at],
        )

    def alert(self, patient: int, **columns: Any) -> uuid.UUID:
        """Raise an alert with its event; ``columns`` differ from a live, active, high one."""
        started: datetime = columns.pop("started_at", NOW - timedelta(minutes=20))
        row: dict[str, Any] = {
            "id": uuid.uuid4(),
            "organisation_id": self.organisation,
            "patient_id": patient,
            "rule": "tachycardia_at_rest",
            "rule_version": 1,
            "kind": "clinical",
            "priority": "high",
            "state": "active",
            "provisional": False,
            "late": False,
            "started_at": started,
            "found_at": started + timedelta(minutes=5),
            "raised_at": started + timedelta(minutes=5),
            "last_evidence_at": started + timedelta(minutes=8),
            "sentence": "Heart rate was 140 /min or above for 10 min, up to 148 /min",
            "patient_sentence": "Your heart rate was unusual for you",
            "evidence": {"metric": "heart_rate", "worst": 148.0, "threshold": 140.0},
        } | columns
        row["evidence"] = Jsonb(row["evidence"])
        names = ", ".join(row)
        with self.connection.transaction():
            self.connection.execute(
                f"INSERT INTO alert ({names}) VALUES ({', '.join(['%s'] * len(row))})".encode(), list(row.values())
            )
            self.event(row["id"], patient, "raised", row["priority"], row["late"], row["sentence"])
        return uuid.UUID(str(row["id"]))

    def event(
        self,
        alert: uuid.UUID,
        patient: int,
        change: str,
        priority: str = "high",
        late: bool = False,
        sentence: str = "…",
        *,
        connection: psycopg.Connection[Any] | None = None,
        notify: bool = True,
    ) -> str:
        """Append an event as the processor does, and return its place in the stream, ``xid-id``."""
        used = connection or self.connection
        row = used.execute(
            RAISED.encode(),
            [self.organisation, patient, alert, change, priority, late, NOW, NOW, None, sentence],
        ).fetchone()
        assert row is not None
        if notify:
            used.execute("SELECT pg_notify('keepwell_alert', '')")
        return f"{row[1]}-{row[0]}"

    def enter(self, connection: psycopg.Connection[Any], person: int) -> None:
        """Set on a connection of the API's role what the API sets in each transaction of a person's."""
        connection.execute(
            """SELECT set_config('keepwell.organisation', %s, false), set_config('keepwell.person', %s, false),
                      set_config('keepwell.at', %s, false)""",
            [str(self.organisation), str(person), NOW.isoformat()],
        )

    def frame(self, frame: str, patient: int, device: int, **columns: Any) -> None:
        row = {
            "frame_id": frame,
            "organisation_id": self.organisation,
            "patient_id": patient,
            "device_id": device,
            "received_at": NOW - timedelta(seconds=2),
            "processed_at": NOW,
            "deliveries": 1,
            "stored": 60,
            "duplicate": 0,
            "conflict": 0,
            "quarantined": 0,
            "late": 0,
            "t_first": NOW - timedelta(hours=1),
            "t_last": NOW - timedelta(minutes=1),
        } | columns
        self.connection.execute(
            f"INSERT INTO frame_log ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})".encode(),
            list(row.values()),
        )

    def document(self, key: str = "words", purpose: str = "care", version: int = 1, *, renew: bool = False) -> int:
        """Publish a document of consent."""
        return self._id(
            """INSERT INTO consent_document (organisation_id, key, version, language, purpose, title, text, digest,
                                             requires_renewal, published_at)
               VALUES (%s, %s, %s, 'en', %s, 'Title', 'Text', 'digest', %s, %s) RETURNING id""",
            [self.organisation, key, version, purpose, renew, NOW - timedelta(days=100 - version)],
        )

    def consent(
        self, patient: int, purpose: str, said: str = "given", classes: list[str] | None = None, *,
        at: datetime = NOW, expires: datetime | None = None, relation: str = "self", document: int | None = None,
    ) -> int:  # fmt: skip
        """Write down a decision about a patient's data."""
        return self._id(
            """INSERT INTO consent (organisation_id, patient_id, purpose, data_classes, decision, document_id,
                                    effective_at, expires_at, relation, decided_by, form, reason, recorded_at)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, 'Paul', 'said', '', %s) RETURNING id""",
            [self.organisation, patient, purpose, classes, said, document, at, expires, relation, at],
        )

    def rests(self, age: int = 16, **basis: str) -> None:
        """Say on which basis purposes rest, those left out as by default."""
        self.connection.execute(
            """INSERT INTO consent_rules (organisation_id, version, basis, consent_age, reason, recorded_at)
               SELECT %s, 1 + count(*), %s, %s, 'decided', %s FROM consent_rules WHERE organisation_id = %s""",
            [self.organisation, Jsonb({**DEFAULT_BASIS, **basis}), age, NOW, self.organisation],
        )

    def audit(self, action: str, outcome: str = "allowed") -> list[tuple[int | None, int | None, dict[str, Any]]]:
        """Return (person, patient, detail) of this organisation's audit rows of one action, the oldest first."""
        query = """SELECT person_id, patient_id, detail FROM access_audit
                   WHERE organisation_id = %s AND action = %s AND outcome = %s ORDER BY id"""
        return self.connection.execute(query, [self.organisation, action, outcome]).fetchall()


def minutes(start: datetime, count: int, seed: int = 1, center: float = 64.0) -> tuple[NDArray[np.int64], Any]:
    """Return instants a minute apart and a believable heart rate."""
    t_ms = to_ms(start) + np.arange(count, dtype=np.int64) * 60_000
    hours = t_ms / HOUR_MS % 24
    noise = np.random.default_rng(seed).normal(0, 3, count)
    return t_ms, np.round(center + 9 * np.sin((hours - 9) / 24 * 2 * np.pi) + noise)
