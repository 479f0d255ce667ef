"""Whose wear is falling, and of whom hardly anything comes any more: a list for whoever organises care.

It says of many what `statements.wear` says of one on their page, by the same function of the same days; it holds no
clinical value, alerts nobody and is stored nowhere. Of everybody at once: three queries, however many patients.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString

import numpy as np

from detectors.courses import ENOUGH_HOURS, Wear, wear
from detectors.regularity import HOURS
from detectors.trends import SPAN, Daily
from services.api import withheld
from services.api.patients import link
from services.api.query import Row, every
from services.api.scope import Scope
from services.api.times import rfc3339, zone
from services.api.weeks import words
from services.api.weeks.days import HEART, not_asked
from services.api.weeks.quantities import day_of, iso

READ: Final = timedelta(days=SPAN + 2)  # in UTC, so that every zone's days are whole

# Whom the person's teams look after, but for whom consent withholds something of the data that are counted here;
# ``before``: a heart rate came before the days that are read.
_PATIENTS: LiteralString = """
    SELECT p.id, p.key, p.name, p.time_zone, s.last_heard,
           coalesce((SELECT true FROM rollup_view r WHERE r.patient_id = p.id AND r.metric_id = %(heart)s
                     AND r.bucket_s = 86400 AND r.t0 < %(before)s LIMIT 1), false) AS before
    FROM patient p
    LEFT JOIN (SELECT patient_id, max(last_at) AS last_heard FROM metric_state GROUP BY patient_id) s
      ON s.patient_id = p.id
    WHERE p.erased_at IS NULL AND p.id IN (SELECT patient_id FROM my_team_patient)
      AND p.id <> ALL (ARRAY(SELECT w.patient_id FROM my_withholding() w)) ORDER BY p.key"""
# Hours of a UTC day as bits, patient by patient along the index: no sort of every hour, and no plan that scans more.
_HOURS: LiteralString = """
    SELECT q.id AS patient_id, h.day, h.hours
    FROM unnest(%(ids)s::int[]) AS q (id) CROSS JOIN LATERAL (
        SELECT array_agg(day) AS day, array_agg(hours) AS hours
        FROM (SELECT (t0 AT TIME ZONE 'UTC')::date - date '1970-01-01' AS day,
                     bit_or(1 << extract(hour FROM t0 AT TIME ZONE 'UTC')::int) AS hours
              FROM rollup_view WHERE patient_id = q.id AND metric_id = %(heart)s AND bucket_s = 3600
                AND t0 >= %(start)s AND t0 <= %(now)s GROUP BY 1) AS one) AS h
    WHERE h.day IS NOT NULL"""
_MONITORED: LiteralString = """
    SELECT patient_id, payload, effective_at FROM patient_change
    WHERE kind = 'monitoring' AND patient_id = ANY (%(ids)s) AND effective_at <= %(now)s ORDER BY effective_at, id"""


async def document(scope: Scope, now: datetime, limit: int) -> dict[str, Any]:
    """Return of whom less comes than before, those of whom hardly anything comes first, then by days lost."""
    rows, found = await _patients(scope, now), []
    said = await _wear(scope, rows, now)
    for row in rows:
        one = said[row["id"]]
        if one.stopped or one.state == "falling":
            found.append((row, one))
    found.sort(key=lambda pair: (not pair[1].stopped, -_lost(pair[1]), pair[0]["key"]))
    shown = found[:limit]
    scope.saw([row["id"] for row, _ in shown])
    return {
        "at": rfc3339(now),
        "patients": len(rows),
        "unknown": sum(one.state == "unknown" and one.expected > 0 and not one.stopped for one in said.values()),
        "stopped": sum(one.stopped for _, one in found),
        "falling": sum(not one.stopped for _, one in found),
        "items": [scope.show("wearing", _item(row, one)) for row, one in shown],
        **await withheld.count(scope, wholly=False),
    }


async def _patients(scope: Scope, now: datetime) -> list[Row]:
    return await every(scope.connection, _PATIENTS, {"heart": HEART, "before": now - READ})


async def _wear(scope: Scope, rows: list[Row], now: datetime) -> dict[int, Wear]:
    """Return patient → what is said of their wear, as on their own page."""
    asked = {"ids": [row["id"] for row in rows], "heart": HEART, "start": now - READ, "now": now}
    found = await every(scope.connection, _HOURS, asked, prepare=False)  # a plan for any dates takes 5 times as long
    hours = {row["patient_id"]: row for row in found}
    monitored: dict[int, list[Row]] = defaultdict(list)
    for row in await every(scope.connection, _MONITORED, asked):
        monitored[row["patient_id"]].append(row)
    calendars = {name: _Calendar(name, now) for name in {row["time_zone"] for row in rows}}
    return {
        one: _of(row, calendars[row["time_zone"]].worn(hours.get(one)), monitored[one], calendars[row["time_zone"]])
        for row in rows
        for one in [row["id"]]
    }


class _Calendar:
    """The local days of the hours that are read, in one time zone."""

    def __init__(self, name: str, now: datetime) -> None:
        self.here = now.astimezone(zone(name))
        self.today = day_of(self.here)
        self._first = int((now - READ).timestamp()) // 86400 * HOURS
        hours = range(self._first, int(now.timestamp()) // 3600 + HOURS)
        self._day = np.array([day_of(datetime.fromtimestamp(hour * 3600, self.here.tzinfo)) for hour in hours])

    def worn(self, row: Row | None) -> Daily:
        """Return the hours of each local day with a heart rate, of UTC days with their hours as bits."""
        if row is None:
            return Daily.of([], [])
        worn = np.array(row["hours"])[:, None] >> np.arange(HOURS) & 1 == 1
        hour = np.array(row["day"])[:, None] * HOURS + np.arange(HOURS)
        days, hours = np.unique(self._day[hour[worn] - self._first], return_counts=True)
        return Daily.of(days.tolist(), hours.tolist())


def _of(patient: Row, hours: Daily, monitored: list[Row], calendar: _Calendar) -> Wear:
    today, began = calendar.today, patient["before"]
    start = today - SPAN if began else int(min(hours.day, default=today)) + 1  # nobody wore it before they had it
    asked = set(range(max(start, today - SPAN), today)) - not_asked(monitored, calendar.here)
    return wear(hours, np.array(sorted(asked), np.int64), today - 1)


def _lost(one: Wear) -> float:
    """Return how many of a fortnight's days with enough data were lost against the one before."""
    before = one.expected - one.expected_lately
    return (one.enough - one.enough_lately) / max(before, 1) - one.enough_lately / max(one.expected_lately, 1)


def _item(row: Row, one: Wear) -> dict[str, Any]:
    return {
        "patient": {"id": row["key"], "name": row["name"], "link": link(row["key"])},
        "time_zone": row["time_zone"],
        "state": "stopped" if one.stopped else "falling",
        "hours_needed": ENOUGH_HOURS,
        "days_with_enough": one.enough_lately,
        "days_expected": one.expected_lately,
        "days_with_enough_before": one.enough - one.enough_lately,
        "days_expected_before": one.expected - one.expected_lately,
        "longest_gap_days": one.longest_gap,
        "gap_since": iso(one.gap_since),
        "last_heard": rfc3339(row["last_heard"]),
        "sentence": words.wearing(one),
    }
