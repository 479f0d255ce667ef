"""What a worklist row shows of a metric: its last value, its own baseline now, and its last day in small."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from ingest.clock import to_ms
from services.api.query import Connection, Row, every

HOUR: Final = timedelta(hours=1)
BAND_AGE: Final = timedelta(days=2)  # an older band is no longer said to be the usual range now

Pairs = Mapping[int, int]  # patient → metric


def _columns(pairs: Pairs) -> list[list[int]]:
    return [list(pairs), list(pairs.values())]


async def last_values(connection: Connection, pairs: Pairs) -> dict[int, Row]:
    """Return each patient's last value of its metric, where there is one."""
    rows = await every(
        connection,
        """SELECT s.patient_id, s.last_value, s.last_at FROM metric_state s
           JOIN unnest(%s::int[], %s::smallint[]) AS w (patient_id, metric_id) USING (patient_id, metric_id)
           WHERE s.last_at IS NOT NULL""",
        _columns(pairs),
    )
    return {row["patient_id"]: row for row in rows}


async def baselines(connection: Connection, pairs: Pairs, now: datetime) -> dict[int, Row]:
    """Return each patient's latest own-baseline band of its metric, where there is a recent one."""
    rows = await every(
        connection,
        """SELECT w.patient_id, b.context, b.center, b.spread, b.days
           FROM unnest(%s::int[], %s::smallint[]) AS w (patient_id, metric_id)
           CROSS JOIN LATERAL (
               SELECT v.context, v.center, v.spread, v.days FROM baseline_band_view v
               WHERE v.patient_id = w.patient_id AND v.metric_id = w.metric_id AND v.t0 > %s AND v.t0 <= %s
               ORDER BY v.t0 DESC LIMIT 1) AS b""",
        [*_columns(pairs), now - BAND_AGE, now],
    )
    return {row["patient_id"]: row for row in rows}


async def sparklines(connection: Connection, pairs: Pairs, start: datetime, end: datetime) -> dict[int, dict[str, Any]]:
    """Return each patient's closed hours of its metric within a span, as columns."""
    rows = await every(
        connection,
        """SELECT r.patient_id, r.t0, r.low, r.mean, r.high
           FROM unnest(%s::int[], %s::smallint[]) AS w (patient_id, metric_id)
           CROSS JOIN LATERAL (
               SELECT v.patient_id, v.t0, v.low, v.mean, v.high FROM rollup_view v
               WHERE v.patient_id = w.patient_id AND v.metric_id = w.metric_id AND v.bucket_s = 3600
                 AND v.t0 > %s AND v.t0 < %s) AS r
           ORDER BY r.patient_id, r.t0""",
        [*_columns(pairs), start - HOUR, end],
    )
    sparks: dict[int, dict[str, Any]] = {
        patient: {"from_ms": to_ms(start), "to_ms": to_ms(end), "times_ms": [], "low": [], "mean": [], "high": []}
        for patient in pairs
    }
    for row in rows:
        spark = sparks[row["patient_id"]]
        spark["times_ms"].append(to_ms(row["t0"] + HOUR / 2))
        for name in ("low", "mean", "high"):
            spark[name].append(round(row[name], 2))
    return sparks
