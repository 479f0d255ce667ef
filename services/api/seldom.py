"""Of which metrics nothing is learned at night, for they are measured too seldom or the device is worn too short.

Else a page would say "learning" for ever. What counts for a night is in ``detectors.coverage``; here are the hours that
are stored, so what is told is how many readings the nights had, not what those stood for.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from detectors.baseline import LEARNED, PAIR_CONTEXT, PAIRS
from detectors.context import SLEEP_FROM, SLEEP_TO
from detectors.protocol import ASLEEP
from ingest.catalogue import catalogue
from services.api.query import Connection, every
from services.api.times import zone

NEEDS: Final = {
    catalogue()[pair.metric].id: pair.least_minutes
    for pair, context in zip(PAIRS, PAIR_CONTEXT.tolist(), strict=True)
    if context == ASLEEP
}
"""Metric → minutes that a night needs."""
LATELY: Final = timedelta(days=14)


async def nights(
    connection: Connection, patient_id: int, time_zone: str, now: datetime, metrics: set[int]
) -> dict[int, dict[str, Any]]:
    """Return of which metrics no night of the last fortnight was enough, what one needs, and the readings it had.

    The readings are those of the median night, at most one a minute; only where LEARNED nights had any, else nobody
    knows yet.
    """
    asked = sorted(metrics & NEEDS.keys())
    rows = await every(
        connection,
        """SELECT metric_id, percentile_disc(0.5) WITHIN GROUP (ORDER BY readings) AS readings
           FROM (SELECT metric_id, ((t0 AT TIME ZONE %(zone)s) + interval '2 hours')::date AS night,
                        sum(least(n, 60))::int AS readings
                 FROM rollup_view
                 WHERE patient_id = %(patient)s AND metric_id = ANY(%(asked)s) AND bucket_s = 3600 AND t0 > %(since)s
                   AND (extract(hour FROM t0 AT TIME ZONE %(zone)s) >= %(from)s
                        OR extract(hour FROM t0 AT TIME ZONE %(zone)s) < %(to)s)
                 GROUP BY 1, 2) AS night
           WHERE NOT EXISTS (SELECT FROM daily_value v WHERE v.patient_id = %(patient)s
                             AND v.metric_id = night.metric_id AND v.context = 'asleep' AND v.day > %(since)s::date)
           GROUP BY 1 HAVING count(*) >= %(nights)s""",
        {
            "zone": str(zone(time_zone)), "patient": patient_id, "asked": asked, "since": now - LATELY,
            "from": SLEEP_FROM // 60, "to": SLEEP_TO // 60, "nights": LEARNED,
        },
    ) if asked else []  # fmt: skip
    return {
        row["metric_id"]: {"needs_minutes": NEEDS[row["metric_id"]], "readings": row["readings"]}
        for row in rows
        if row["readings"] < NEEDS[row["metric_id"]]
    }
