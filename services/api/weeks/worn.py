"""How many people wore their devices: the hours of their local days, and what is said of each.

Read in slices, so that no statement is long and nothing else waits for the counting.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, LiteralString, NamedTuple

import numpy as np

from detectors.protocol import Doubles, Longs
from detectors.regularity import HOURS
from detectors.trends import SPAN
from detectors.wear import Wear, wears
from services.api.query import Connection, Row, every
from services.api.times import zone
from services.api.weeks.days import HEART, not_asked
from services.api.weeks.quantities import day_of

SLICE: Final = 250
READ: Final = timedelta(days=SPAN + 2)  # in UTC, so that every zone's days are whole

# Hours of a UTC day as bits, patient by patient along the index: no sort of every hour, and no plan that scans more.
# ``before``: a heart rate came before the days that are read; ``heard``: one came at all, if only just now.
_HOURS: LiteralString = """
    SELECT q.id, h.day, h.hours, s.last_heard, coalesce(s.heard, false) AS heard,
           EXISTS (SELECT FROM rollup_view r WHERE r.patient_id = q.id AND r.metric_id = %(heart)s
                   AND r.bucket_s = 86400 AND r.t0 < %(start)s) AS before
    FROM unnest(%(ids)s::int[]) AS q (id) CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(day), '{}') AS day, coalesce(array_agg(hours), '{}') AS hours
        FROM (SELECT (t0 AT TIME ZONE 'UTC')::date - date '1970-01-01' AS day,
                     bit_or(1 << extract(hour FROM t0 AT TIME ZONE 'UTC')::int) AS hours
              FROM rollup_view WHERE patient_id = q.id AND metric_id = %(heart)s AND bucket_s = 3600
                AND t0 >= %(start)s AND t0 <= %(now)s GROUP BY 1) AS one) AS h
    CROSS JOIN LATERAL (SELECT max(last_at) AS last_heard, bool_or(metric_id = %(heart)s) AS heard
                        FROM metric_state WHERE patient_id = q.id AND last_at IS NOT NULL) AS s"""
_MONITORED: LiteralString = """
    SELECT patient_id, payload, effective_at FROM patient_change
    WHERE kind = 'monitoring' AND patient_id = ANY (%(ids)s) AND effective_at <= %(now)s ORDER BY effective_at, id"""


class Worn(NamedTuple):
    """What is said of somebody's wear, as on their own page."""

    wear: Wear
    heard: bool  # a heart rate was received
    last_heard: datetime | None  # anything


async def read(connection: Connection, zones: dict[int, str], now: datetime) -> dict[int, Worn]:
    """Return patient → what is said of their wear; ``zones`` patient → time zone.

    Raises:
        psycopg.errors.QueryCanceled: it took too long.
    """
    calendars = {name: _Calendar(name, now) for name in set(zones.values())}
    ids = list(zones)
    found: dict[int, Worn] = {}
    for start in range(0, len(ids), SLICE):
        asked = {"ids": ids[start : start + SLICE], "heart": HEART, "start": now - READ, "now": now}
        rows = await every(connection, _HOURS, asked, prepare=False)  # a plan for any dates takes 5 times as long
        monitored: dict[int, list[Row]] = defaultdict(list)
        for row in await every(connection, _MONITORED, asked):
            monitored[row["patient_id"]].append(row)
        here: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            here[zones[row["id"]]].append(row)
        for name, of_zone in here.items():
            found |= _said(calendars[name], of_zone, monitored)
    return found


def _said(calendar: _Calendar, rows: Sequence[Row], monitored: dict[int, list[Row]]) -> dict[int, Worn]:
    hours, days = calendar.hours(rows), calendar.days
    worn, before = hours > 0, np.array([row["before"] for row in rows])
    since = np.where(worn.any(axis=1), days[worn.argmax(axis=1)] + 1, calendar.today)  # nobody wore it before that
    asked = days >= np.where(before, calendar.today - SPAN, since)[:, None]
    for i, row in enumerate(rows):
        if row["id"] in monitored:
            asked[i] &= ~np.isin(days, list(not_asked(monitored[row["id"]], calendar.here)))
    looked = (days >= calendar.today - SPAN) & (days < calendar.today)
    said = wears(hours[:, looked], asked[:, looked], calendar.today - 1)
    heard = worn.any(axis=1) | before
    return {
        row["id"]: Worn(one, bool(known) or row["heard"], row["last_heard"])
        for row, one, known in zip(rows, said, heard.tolist(), strict=True)
    }


class _Calendar:
    """The local days of the hours that are read, in one time zone."""

    def __init__(self, name: str, now: datetime) -> None:
        self.here = now.astimezone(zone(name))
        self.today = day_of(self.here)
        self._first = int((now - READ).timestamp()) // 86400
        local = self._local(range(self._first * HOURS, (int(now.timestamp()) // 86400 + 1) * HOURS))
        self.days: Longs = np.arange(min(local.min(), self.today - SPAN), self.today + 1)
        self._bits = np.zeros((len(local) // HOURS, len(self.days)), np.int64)  # UTC day, local day → its hours
        for hour, day in enumerate(local.tolist()):
            if day <= self.today:
                self._bits[hour // HOURS, day - self.days[0]] |= 1 << hour % HOURS

    def _local(self, hours: Sequence[int]) -> Longs:
        return np.array([day_of(datetime.fromtimestamp(hour * 3600, self.here.tzinfo)) for hour in hours])

    def hours(self, rows: Sequence[Row]) -> Doubles:
        """Return of each patient how many hours of each local day have a heart rate."""
        known = np.zeros((len(rows), len(self._bits)), np.int64)
        for i, row in enumerate(rows):
            known[i, np.array(row["day"], np.int64) - self._first] = row["hours"]
        hours = np.zeros((len(rows), len(self.days)))
        for day, local in zip(*np.nonzero(self._bits), strict=True):
            hours[:, local] += np.bitwise_count(known[:, day] & self._bits[day, local])
        return hours
