"""The days of weeks as they are stored: values of nights, and of calendar days the hours with data and the steps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

import numpy as np

from detectors.baseline import DAYS
from detectors.protocol import Longs
from detectors.regularity import HOURS, WALKED_STEPS, nightly
from detectors.trends import SPAN, Daily
from detectors.wear import ENOUGH_HOURS
from detectors.weights import Weighings
from ingest.catalogue import catalogue
from services.api import monitoring
from services.api.patients import Patient
from services.api.query import Connection, Row, every, first
from services.api.times import zone
from services.api.weeks import weights
from services.api.weeks.quantities import QUANTITIES, day_of
from services.monitoring import STATES

BEGINNING, LATELY = 4 * DAYS, 4 * SPAN  # days of hours that are read: from the first on, and to the last
HEART, STEPS = catalogue()["heart_rate"].id, catalogue()["steps"].id
NOTHING: Final = Daily.of([], [])
CALENDAR: Final = ("steps", "rest_regularity", "wear")  # made of closed hours


@dataclass(frozen=True, slots=True)
class Days:
    """A patient's days by quantity, and the local days on which data were asked for, of those that were read."""

    of: dict[str, Daily]
    expected: Longs
    weighings: Weighings
    heard: bool  # a heart rate was received, if only today


async def read(connection: Connection, patient: Patient, here: datetime, today: int) -> Days:
    """Return what is stored of a patient's days; ``here`` is now in the patient's time zone."""
    nights = [quantity for quantity in QUANTITIES.values() if quantity.context]
    rows = await every(
        connection,
        """SELECT m.key, v.context, array_agg(v.day - date '1970-01-01') AS day, array_agg(v.value) AS value,
                  array_agg(v.used) AS used
           FROM daily_value v JOIN metric m ON m.id = v.metric_id
           JOIN unnest(%s::text[], %s::text[]) AS q (key, context) ON (q.key, q.context) = (m.key, v.context)
           WHERE v.patient_id = %s GROUP BY 1, 2""",
        [[night.metric for night in nights], [night.context for night in nights], patient.id],
    )
    found = {(row["key"], row["context"]): Daily.of(row["day"], row["value"], row["used"]) for row in rows}
    of = {night.key: found.get((night.metric, night.context), NOTHING) for night in nights}
    spans = [timedelta(days=days) for days in (BEGINNING, LATELY)]
    weighings = await weights.read(connection, patient.id, here, *spans)
    of["weight"] = weighings.daily()
    by_day = {row["day"]: row for row in await _hours(connection, patient, here)}
    worn = [day for day, row in by_day.items() if row["hours"]]
    if not worn:
        heard = await _heard(connection, patient)
        return Days(of | dict.fromkeys(CALENDAR, NOTHING), np.zeros(0, np.int64), weighings, heard)
    start = min(worn) + 1  # nobody wore the device before they had it
    asked = (set(range(start, start + BEGINNING)) | set(range(today - LATELY, today))) & set(range(start, today))
    asked -= not_asked(await _monitored(connection, patient, here), here)
    return Days(of | _calendar(by_day, asked), np.array(sorted(asked), np.int64), weighings, heard=True)


def _calendar(by_day: dict[int, Row], asked: set[int]) -> dict[str, Daily]:
    """Return hours with heart rate, none where nothing came, the steps of days that have enough of them, and nights.

    Few steps of a device in a drawer are no quiet day.
    """
    hours = {day: by_day[day]["hours"] if day in by_day else 0 for day in asked}
    steps = {day: by_day[day]["steps"] for day, worn in hours.items() if worn >= ENOUGH_HOURS}
    walked = {day: count for day, count in steps.items() if count is not None}
    return {
        "steps": Daily.of(list(walked), list(walked.values())),
        "rest_regularity": _regularity([by_day[day] for day in sorted(asked & by_day.keys())]),
        "wear": Daily.of(list(hours), list(hours.values())),
    }


def _regularity(rows: list[Row]) -> Daily:
    """Return how alike nights are, of days on which steps were counted at all."""
    counted = [row for row in rows if row["steps"] is not None]
    masks = [np.array([row[name] or 0 for row in counted], np.int64) for name in ("worn", "walked")]
    known, walked = (mask[:, None] >> np.arange(HOURS) & 1 == 1 for mask in masks)
    return nightly(np.array([row["day"] for row in counted], np.int64), known, walked)


async def _heard(connection: Connection, patient: Patient) -> bool:
    row = await first(
        connection,
        "SELECT 1 AS one FROM metric_state WHERE patient_id = %s AND metric_id = %s AND last_at IS NOT NULL",
        [patient.id, HEART],
    )
    return row is not None


async def _hours(connection: Connection, patient: Patient, here: datetime) -> list[Row]:
    """Return of each calendar day that is read the closed hours with a heart rate, the steps, and hours of walking."""
    began = await first(  # of days, for row-level security looks at every row of a view
        connection,
        "SELECT min(t0) AS at FROM rollup_view WHERE patient_id = %s AND metric_id = %s AND bucket_s = 86400",
        [patient.id, HEART],
    )
    if began is None or began["at"] is None:
        return []
    return await every(
        connection,
        """SELECT (t0 AT TIME ZONE %(zone)s)::date - date '1970-01-01' AS day,
                  count(*) FILTER (WHERE metric_id = %(heart)s) AS hours,
                  sum(n * mean) FILTER (WHERE metric_id = %(steps)s) AS steps,
                  bit_or(1 << extract(hour FROM t0 AT TIME ZONE %(zone)s)::int)
                    FILTER (WHERE metric_id = %(heart)s) AS worn,
                  bit_or(1 << extract(hour FROM t0 AT TIME ZONE %(zone)s)::int)
                    FILTER (WHERE metric_id = %(steps)s AND n * mean >= %(walked)s) AS walked
           FROM rollup_view
           WHERE patient_id = %(patient)s AND metric_id IN (%(heart)s, %(steps)s) AND bucket_s = 3600
             AND (t0 < %(beginning)s OR t0 > %(lately)s) GROUP BY 1""",
        {
            "zone": str(zone(patient.time_zone)), "heart": HEART, "steps": STEPS, "patient": patient.id,
            "walked": WALKED_STEPS,
            "beginning": began["at"] + timedelta(days=BEGINNING + 3), "lately": here - timedelta(days=LATELY + 2),
        },
    )  # fmt: skip


async def _monitored(connection: Connection, patient: Patient, here: datetime) -> list[Row]:
    return await every(
        connection,
        monitoring.ROWS
        + " WHERE c.patient_id = %s AND kind = 'monitoring' AND effective_at <= %s ORDER BY effective_at, c.id",
        [patient.id, here],
    )


def not_asked(rows: list[Row], here: datetime) -> set[int]:
    """Return the local days on which silence was in order: a pause, a stay in hospital, and the like.

    ``rows`` of what was monitored, in the order it took effect.
    """
    days: set[int] = set()
    for row, following in pairwise([*rows, {"effective_at": here}]):
        if not STATES[row["payload"]["state"]].silence:
            until = min(monitoring.until_of(row) or here, following["effective_at"])
            begin, end = (day_of(at.astimezone(here.tzinfo)) for at in (row["effective_at"], until))
            days |= set(range(begin, end + 1))
    return days
