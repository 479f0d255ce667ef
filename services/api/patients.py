"""Patients: who they are, their devices and the data state of each metric."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from detectors.limits import ONLY_BY_PROFILE
from services.api import individual, monitoring, pages, seldom, withheld, words
from services.api.problems import not_found
from services.api.query import Connection, Row, every, first
from services.api.scope import Scope
from services.api.times import rfc3339


@dataclass(frozen=True, slots=True)
class Patient:
    """One patient whom the scope's person may see. Outside, the id is ``key``; ``id`` stays in the database."""

    id: int
    key: str
    name: str
    time_zone: str
    enrolled_at: datetime

    def brief(self) -> dict[str, Any]:
        """Return what names the patient in other things' documents."""
        return {"id": self.key, "name": self.name, "link": link(self.key)}


def link(key: str) -> str:
    """Return the address of a patient's document."""
    return f"/v1/patients/{quote(key, safe='')}"


async def find(scope: Scope, key: str) -> Patient:
    """Return a patient and name it in the scope's audit row.

    Raises:
        Problem: there is none of this id that the person may see, or the patient's consent does not cover it.
    """
    row = await first(
        scope.connection,
        "SELECT id, key, name, time_zone, enrolled_at FROM patient WHERE key = %s AND erased_at IS NULL",
        [key],
    )
    if row is None:
        await withheld.deny(scope, "patient", key)
        raise not_found(key, "patient")
    scope.patient_id = row["id"]
    return Patient(**row)


async def opened(scope: Scope, patient: Patient) -> frozenset[str]:
    """Return what of a patient is open to the scope's person: ``readings``, ``alerts`` or both. A proxy sees what the
    patient lets them; the database holds it, this is for saying so."""
    if scope.person.role != "proxy":
        return frozenset({"readings", "alerts"})
    query = "SELECT what FROM unnest(ARRAY['readings', 'alerts']) AS w (what) WHERE %s = ANY (my_grants(what))"
    return frozenset(row["what"] for row in await every(scope.connection, query, [patient.id]))


async def listed(scope: Scope, limit: int, cursor: str | None) -> dict[str, Any]:
    """Return a page of patients by id, each with its worst data state and its open alerts."""
    after = pages.decode(cursor, 1)[0] if cursor else ""
    rows = await every(
        scope.connection,
        """SELECT p.id, p.key, p.name, p.time_zone, p.enrolled_at,
                  (SELECT max(s.last_at) FROM metric_state s WHERE s.patient_id = p.id) AS last_heard,
                  (SELECT count(*) FROM alert a WHERE a.patient_id = p.id AND a.state = 'active') AS open_alerts
           FROM patient p WHERE p.key > %s AND p.erased_at IS NULL ORDER BY p.key LIMIT %s""",
        [str(after), limit + 1],
    )
    scope.saw([row["id"] for row in rows[:limit]])
    items = [
        {
            "id": row["key"],
            "name": row["name"],
            "link": link(row["key"]),
            "time_zone": row["time_zone"],
            "enrolled_at": rfc3339(row["enrolled_at"]),
            "last_heard": rfc3339(row["last_heard"]),
            "open_alerts": row["open_alerts"],
        }
        for row in rows
    ]
    items = [scope.show("patient", item) for item in items]
    return pages.page(items, limit, [[row["key"]] for row in rows]) | await withheld.count(scope)


async def states(connection: Connection, patient: Patient, now: datetime) -> list[dict[str, Any]]:
    """Return the data state of each of a patient's metrics, the worst first."""
    rows = await every(
        connection,
        """SELECT s.metric_id, s.state, s.cause, s.since, s.last_value, s.last_at
           FROM metric_state s JOIN metric m ON m.id = s.metric_id
           WHERE s.patient_id = %s AND m.kind = 'vital' ORDER BY s.metric_id""",
        [patient.id],
    )
    rows.sort(key=lambda row: words.STATES.index(row["state"]))
    asked = {row["metric_id"] for row in rows}
    nights = await seldom.nights(connection, patient.id, patient.time_zone, now, asked)
    return [_state(row, now) | {"too_seldom": nights.get(row["metric_id"])} for row in rows]


def _state(row: Row, now: datetime) -> dict[str, Any]:
    return {
        "metric": words.metric(row["metric_id"]),
        "state": row["state"],
        "cause": row["cause"],
        "since": rfc3339(row["since"]),
        "value": row["last_value"],
        "at": rfc3339(row["last_at"]),
        "age_s": None if row["last_at"] is None else max(0, int((now - row["last_at"]).total_seconds())),
    }


async def document(scope: Scope, patient: Patient, now: datetime) -> dict[str, Any]:
    """Return everything about a patient but the readings and the alerts themselves."""
    metrics = await states(scope.connection, patient, now)
    devices = await every(
        scope.connection,
        """SELECT d.key, d.model, d.class, a.valid_from, nullif(a.valid_to, 'infinity') AS valid_to
           FROM device_assignment a JOIN device d ON d.id = a.device_id
           WHERE a.patient_id = %s ORDER BY a.valid_from DESC, d.key LIMIT 100""",
        [patient.id],
    )
    counts = await every(
        scope.connection,
        """SELECT kind, priority, count(*) AS n FROM alert WHERE patient_id = %s AND state = 'active'
           GROUP BY kind, priority ORDER BY kind, priority""",
        [patient.id],
    )
    heard = [entry["at"] for entry in metrics if entry["at"]]
    own = await individual.read(scope.connection, patient.id, now)
    individualised, note = individual.note(own, plain=scope.plain)
    whole = {
        **patient.brief(),
        "time_zone": patient.time_zone,
        "enrolled_at": rfc3339(patient.enrolled_at),
        "last_heard": max(heard, default=None),
        "limits_individualised": individualised,
        "limits_note": note,
        "rules_off": [
            {key: rule[key] for key in ("rule", "title", "off_since", "off_reason")}
            for rule in individual.limits(own)
            if rule["state"] == "off" and rule["rule"] not in ONLY_BY_PROFILE
        ],
        "own_limits": [rule for rule in individual.limits(own) if rule.get("origin", "everybody") != "everybody"],
        "consent": None if scope.plain else await withheld.brief(scope, patient.id),
        "monitoring": await monitoring.shown(scope.connection, patient.id, now),
        "worst": _worst(metrics),
        "metrics": metrics,
        "devices": [
            {
                "id": row["key"],
                "model": row["model"],
                "class": row["class"],
                "from": rfc3339(row["valid_from"]),
                "to": rfc3339(row["valid_to"]),
            }
            for row in devices
        ],
        "open_alerts": counts,
        "links": {
            "trends": f"{link(patient.key)}/trends?metric={{metric}}",
            "alerts": f"/v1/alerts?patient={quote(patient.key, safe='')}",
        },
    }
    return scope.show("patient", whole)


def _worst(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the state the patient's row shows; without any metric it is unknown, never normal."""
    if not metrics:
        return {"state": "unknown", "cause": "no_data", "metric": None}
    worst = metrics[0]
    return {"state": worst["state"], "cause": worst["cause"], "metric": worst["metric"]["key"]}
