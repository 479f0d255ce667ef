"""The course of a patient's last day against those of the weeks before it, from the hours that are stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from detectors.apart import HOURS, most
from detectors.context import DAY_FROM
from detectors.day_shape import CLOCK
from detectors.novelty import DAYS
from detectors.protocol import Doubles
from detectors.shape import LEAST_READINGS, Course, Shape
from ingest.catalogue import catalogue
from services.api.patients import Patient
from services.api.query import Connection, every
from services.api.times import zone

HEART: Final = catalogue()["heart_rate"].id
READ_DAYS: Final = 2 * DAYS  # those it is compared with, and those that say how far ordinary days lie
TO_MIDNIGHT: Final = timedelta(
    hours=HOURS, minutes=-DAY_FROM
)  # a day begins at 10:00 and has the date on which it ends


@dataclass(frozen=True, slots=True)
class Novelty:
    """What was said of one day."""

    day: int  # local, days since 1970
    course: Course  # of one person
    since: int | None  # the local day from which every one that could be judged was unlike
    hour: int | None = None  # the local hour in which it differs most from the day that is the most alike
    by: float | None = None  # by how many /min, the levels taken off


async def read(connection: Connection, patient: Patient, here: datetime, last: int) -> Novelty:
    """Return what is to say of local day ``last``, the newest that is over ``here``.

    Hours are those of the patient's home, an hour that comes twice counts once.
    """
    rows = await every(
        connection,
        """SELECT at::date - date '1970-01-01' AS day, extract(hour FROM at)::int AS hour,
                  sum(n * mean) / sum(n) AS rate
           FROM (SELECT (t0 AT TIME ZONE %(zone)s) + %(to_midnight)s AS at, n, mean FROM rollup_view
                 WHERE patient_id = %(patient)s AND metric_id = %(heart)s AND bucket_s = 3600 AND t0 > %(first)s
                   AND t0 <= %(here)s) AS hours
           GROUP BY 1, 2 HAVING sum(n) >= %(least)s""",
        {
            "zone": str(zone(patient.time_zone)), "to_midnight": TO_MIDNIGHT, "patient": patient.id, "heart": HEART,
            "first": here - timedelta(days=READ_DAYS + 2), "here": here, "least": LEAST_READINGS,
        },
    )  # fmt: skip
    rates = np.full((READ_DAYS, HOURS), np.nan)
    for row in rows:
        if last - READ_DAYS < row["day"] <= last:
            rates[row["day"] - last - 1, row["hour"]] = row["rate"]
    return judge(rates, last)


def judge(rates: Doubles, last: int) -> Novelty:
    """Return what the days (D, 24) of hourly heart rates to local day ``last`` say of that one."""
    shape, first = Shape(), last - len(rates) + 1
    state, rows = shape.new_state(1), np.array([0])
    for at in np.flatnonzero(np.isfinite(rates[:-1]).any(axis=1)).tolist():
        shape.advance(state, rows, np.array([first + at], np.int32), rates[at : at + 1])
    course = shape.advance(state, rows, np.array([last], np.int32), rates[-1:])
    since = int(state["since"][0]) if course.unlike[0] else None
    if not np.isfinite(course.p[0]):
        return Novelty(last, course, since)
    hour, by = most(rates[-1], rates[int(course.nearest[0]) - first])
    return Novelty(last, course, since, CLOCK[hour], by)
