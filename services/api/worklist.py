"""The worklist: one row a patient, whoever needs somebody first.

The order is the product: an unacknowledged clinical alert by priority, then late findings nobody has looked at,
then what is acknowledged, then technical trouble, then patients of whom nothing or not all is known, then the
others.
Within one rank whoever waits longest comes first. It is made in SQL, so that a page costs a page.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, LiteralString

from detectors.baseline import LEARNED
from detectors.rules import ADAPTIVE
from ingest.clock import to_ms
from services.api import incidents, monitoring, pages, withheld, words
from services.api.alerts import BEHIND, etag, metric_of
from services.api.incidents import Found
from services.api.patients import link
from services.api.query import Row, every
from services.api.scope import Scope
from services.api.spark import baselines, last_values, sparklines
from services.api.times import rfc3339
from services.monitoring import STATES

ATTENTION: Final = ("unacknowledged", "late", "acknowledged", "technical", "unknown", "none")
PREFERRED: Final = "heart_rate"  # shown where no alert says what to show
ENDED: Final = [name for name, state in STATES.items() if state.closes]  # on the list only while an alert is open
SPARK: Final = timedelta(hours=24)
STALE: Final = timedelta(minutes=15)  # an older value is shown with its age, never as if it were now's

# rank: index into ATTENTION; urgency: the alert's priority, else nothing known before something unknown, else the
# data state's place from the worst.
_RANKED: LiteralString = (
    """
    WITH open_alert AS (
        SELECT a.*, count(*) OVER (PARTITION BY a.patient_id) AS open_alerts,
               CASE WHEN a.kind = 'technical' THEN 3 WHEN a.acknowledged_at IS NOT NULL THEN 2
                    WHEN a.late THEN 1 ELSE 0 END AS rank,
               CASE a.priority WHEN 'high' THEN 0 WHEN 'medium' THEN 1 ELSE 2 END
                   + CASE WHEN a.kind = 'technical' AND a.acknowledged_at IS NOT NULL THEN 3 ELSE 0 END AS urgency
        FROM alert a WHERE a.state = 'active' AND NOT """  # noqa: S608 - constants only
    + BEHIND
    + """
    ), top_alert AS (
        SELECT DISTINCT ON (patient_id) * FROM open_alert
        ORDER BY patient_id, rank, urgency, rule = ANY (%(adaptive)s), started_at, id
    ), vital_state AS (
        SELECT s.*, CASE s.state WHEN 'unknown' THEN 0 WHEN 'unusual' THEN 1 WHEN 'learning' THEN 2 ELSE 3 END
               AS place
        FROM metric_state s JOIN metric m ON m.id = s.metric_id WHERE m.kind = 'vital'
    ), worst_state AS (
        SELECT DISTINCT ON (patient_id) * FROM vital_state ORDER BY patient_id, place, since, metric_id
    ), states AS (
        SELECT patient_id, max(last_at) AS last_heard,
               count(*) FILTER (WHERE state = 'unknown') AS unknown,
               count(*) FILTER (WHERE state = 'unusual') AS unusual,
               count(*) FILTER (WHERE state = 'learning') AS learning,
               count(*) FILTER (WHERE state = 'normal') AS normal
        FROM vital_state GROUP BY patient_id
    ), ranked AS (
        SELECT p.id AS patient_id, p.key AS patient_key, p.name AS patient_name, p.time_zone,
               t.id, t.rule, t.kind, t.priority, t.state, t.provisional, t.late, t.sentence, t.evidence,
               t.started_at, t.acknowledged_at, t.unknown_since, coalesce(t.open_alerts, 0) AS open_alerts,
               w.metric_id AS worst_metric, w.state AS worst_state, w.cause AS worst_cause, w.since AS worst_since,
               s.last_heard, s.unknown, s.unusual, s.learning, s.normal, coalesce(m.state, 'active') AS monitoring,
               coalesce(t.rank, CASE WHEN coalesce(w.place, 0) = 0 THEN 4 ELSE 5 END) AS rank,
               coalesce(t.urgency, CASE WHEN w.place > 0 THEN w.place
                                        WHEN s.unusual + s.learning + s.normal > 0 THEN 1 ELSE 0 END) AS urgency,
               coalesce(t.started_at, w.since, p.enrolled_at) AS since
        FROM patient p LEFT JOIN top_alert t ON t.patient_id = p.id
        LEFT JOIN worst_state w ON w.patient_id = p.id LEFT JOIN states s ON s.patient_id = p.id"""
    + monitoring.NOW
    + """
        WHERE p.erased_at IS NULL AND (t.id IS NOT NULL OR coalesce(m.state, 'active') <> ALL (%(ended)s))
    )"""
)

_PAGE: LiteralString = (
    _RANKED  # noqa: S608 - constants only
    + """
    SELECT * FROM ranked
    WHERE %(rank)s::int IS NULL
       OR (rank, urgency, since, patient_key) > (%(rank)s, %(urgency)s, %(since)s::timestamptz, %(key)s)
    ORDER BY rank, urgency, since, patient_key LIMIT %(limit)s"""
)
_SUMMARY: LiteralString = _RANKED + " SELECT rank, count(*) AS n FROM ranked GROUP BY rank"  # noqa: S608


async def page(scope: Scope, now: datetime, limit: int, cursor: str | None) -> dict[str, Any]:
    """Return a page of the worklist, and how many of the person's patients want which attention."""
    rank, urgency, since, key = pages.decode(cursor, 4) if cursor else (None, None, None, None)
    present = {"now": now, "now_ms": to_ms(now), "ended": ENDED, "adaptive": list(ADAPTIVE)}
    rows = await every(
        scope.connection,
        _PAGE,
        present | {"rank": rank, "urgency": urgency, "since": since, "key": key, "limit": limit + 1},
    )
    shown = rows[:limit]
    scope.saw([row["patient_id"] for row in shown])
    pairs = {row["patient_id"]: _metric(row) for row in shown}
    values = await last_values(scope.connection, pairs)
    usual = await baselines(scope.connection, pairs, now)
    sparks = await sparklines(scope.connection, pairs, now - SPARK, now)
    opened = await incidents.open_of(scope.connection, list(pairs))
    counts = {row["rank"]: row["n"] for row in await every(scope.connection, _SUMMARY, present)}
    items = []
    for row in shown:
        patient = row["patient_id"]
        item = _item(row, pairs[patient], values.get(patient), usual.get(patient), sparks[patient], now)
        item |= _beside(row, opened.get(patient, []))
        items.append(scope.show("worklist", item))
    more = len(rows) > limit
    return {
        "at": rfc3339(now),
        "summary": {name: counts.get(rank, 0) for rank, name in enumerate(ATTENTION)},
        "items": items,
        "next": pages.encode(_key(shown[-1])) if more else None,
        **await withheld.count(scope),
    }


def _key(row: Row) -> list[Any]:
    return [row["rank"], row["urgency"], row["since"].isoformat(), row["patient_key"]]


def _metric(row: Row) -> int:
    """Return the metric a row shows: the alert's, else the preferred one."""
    key = metric_of(row["evidence"]) if row["id"] else None
    number = words.metric_id(key or PREFERRED)
    assert number is not None  # noqa: S101 - both are keys of vital signs
    return number


def _item(
    row: Row, metric_id: int, last: Row | None, usual: Row | None, spark: dict[str, Any], now: datetime
) -> dict[str, Any]:
    has_alert = row["id"] is not None
    worst = words.metric(row["worst_metric"]) if row["worst_metric"] is not None else None
    title = worst["title"] if worst else ""
    known = sum(row[state] or 0 for state in words.STATES if state != "unknown")
    sentence = row["sentence"] or words.no_alert(
        row["worst_state"], row["worst_cause"], title, row["worst_since"], now, known, worst["key"] if worst else None
    )
    return {
        "patient": {"id": row["patient_key"], "name": row["patient_name"], "link": link(row["patient_key"])},
        "time_zone": row["time_zone"],
        "monitoring": row["monitoring"],
        "attention": ATTENTION[row["rank"]],
        "priority": row["priority"],
        "alert": _alert(row) if has_alert else None,
        "open_alerts": row["open_alerts"],
        "sentence": sentence,
        "since": rfc3339(row["since"]),
        "age_s": max(0, int((now - row["since"]).total_seconds())),
        "metric": words.metric(metric_id),
        "value": last and {"value": last["last_value"], "at": rfc3339(last["last_at"])},
        "stale": last is None or now - last["last_at"] > STALE,
        "baseline": usual
        and {key: usual[key] for key in ("center", "spread", "context", "days")}
        | {"learned": usual["days"] >= LEARNED},
        "data": {
            "state": row["worst_state"] or "unknown",
            "cause": row["worst_cause"] if row["worst_state"] else "no_data",
            "metric": worst and worst["key"],
            "title": title or None,
            "counts": {state: row[state] or 0 for state in words.STATES},
        },
        "last_heard": rfc3339(row["last_heard"]),
        "spark": spark,
    }


def _beside(row: Row, opened: list[Found]) -> dict[str, Any]:
    """Return the incident of a row's alert, as acknowledging it asks for, and the patient's other open alerts."""
    ours = next((one for one in opened if row["id"] in [alert["id"] for alert in one.open]), None)
    rest = [alert for one in opened if one is not ours for alert in one.open]
    others = [alert for alert in (*(ours.open if ours else ()), *rest) if alert["id"] != row["id"]]
    incident = ours and {
        "id": ours.id,
        "unacknowledged": [str(alert["id"]) for alert in ours.waiting],
        "link": incidents.address(row["patient_key"], ours.id),
    }
    return {"incident": incident, "others": [_alert(alert) for alert in others]}


def _alert(row: Row) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "rule": row["rule"],
        "title": words.rule_title(row["rule"]),
        "kind": row["kind"],
        "priority": row["priority"],
        "provisional": row["provisional"],
        "late": row["late"],
        "acknowledged": row["acknowledged_at"] is not None,
        "unknown_since": rfc3339(row["unknown_since"]),
        "etag": etag(row),
        "link": f"/v1/alerts/{row['id']}",
    }
