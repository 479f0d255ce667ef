"""Stored points of one metric, from the source that fits: blocks, or rollups per minute, hour or day.

The source is chosen by how many points it would make us read, never by the span alone: a year of weights is
read from its blocks, a day of a value a second from its minutes. Rollups exist for closed buckets only, so what
came after the last one is read from the next finer source, and at the end from the blocks.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from psycopg import AsyncConnection

from ingest.clock import to_datetime, to_ms
from ingest.frame import NOT_WORN
from services.api.downsample import Points

MAX_READINGS: Final = 50_000  # read from blocks at most
MAX_BUCKETS: Final = 10_000  # read from rollups at most
MAX_BLOCKS: Final = 60_000  # rows; only a flood of single readings within open buckets comes near
MINUTE, HOUR, DAY = 60, 3600, 86400
NAMES: Final = {0: "readings", MINUTE: "minute", HOUR: "hour", DAY: "day"}
BY_HOURS: Final = timedelta(days=14)  # up to here amounts are estimated from hours, beyond from days


# Of the rollup ``r``: an hour's without minutes.
_SLOW_HOUR: Final = """
    bucket_s = 3600 AND NOT EXISTS (
        SELECT 1 FROM rollup_view AS m
        WHERE m.patient_id = r.patient_id AND m.metric_id = r.metric_id AND m.bucket_s = 60
          AND m.t0 >= r.t0 AND m.t0 < r.t0 + interval '1 hour')"""


class Part(NamedTuple):
    """A stretch of a series read from one source."""

    source: str
    from_ms: int
    to_ms: int
    points: Points


class Series(NamedTuple):
    """All points of a span in order of time, and where they came from."""

    parts: list[Part]
    points: Points
    truncated: bool  # more blocks than MAX_BLOCKS: the oldest of the open stretch are missing


async def read(
    connection: AsyncConnection[Any], patient_id: int, metric_id: int, start: datetime, end: datetime
) -> Series:
    """Read the points of ``[start, end)`` from the coarsest source needed and, where it ends, from finer ones."""
    bucket = await _choose(connection, patient_id, metric_id, start, end)
    parts: list[Part] = []
    at = start
    while bucket:
        points = await _buckets(connection, patient_id, metric_id, bucket, at, end)
        if len(points):
            until = min(end, to_datetime(int(points.t_ms[-1] + points.width_ms[-1])))
            parts.append(Part(NAMES[bucket], to_ms(at), to_ms(until), points))
            at = until
        bucket = HOUR if bucket == DAY else 0
    points, truncated = await _readings(connection, patient_id, metric_id, at, end)
    if len(points) or not parts:
        parts.append(Part(NAMES[0], to_ms(at), to_ms(end), points))
    return Series(parts, Points.joined([part.points for part in parts]), truncated)


async def _choose(
    connection: AsyncConnection[Any], patient_id: int, metric_id: int, start: datetime, end: datetime
) -> int:
    """Return the finest source within bounds: 0 for blocks, else the bucket in seconds."""
    unit = HOUR if end - start <= BY_HOURS else DAY
    cursor = await connection.execute(
        """SELECT count(*), coalesce(sum(n), 0)::bigint FROM rollup_view
           WHERE patient_id = %s AND metric_id = %s AND bucket_s = %s AND t0 > %s AND t0 < %s""",
        [patient_id, metric_id, unit, start - timedelta(seconds=unit), end],
    )
    row = await cursor.fetchone()
    buckets, readings = row or (0, 0)
    if readings <= MAX_READINGS:
        return 0
    if buckets * (unit // MINUTE) <= MAX_BUCKETS and await _has_minutes(connection, patient_id, metric_id, start, end):
        return MINUTE
    return HOUR if buckets * (unit // HOUR) <= MAX_BUCKETS else DAY


async def _has_minutes(
    connection: AsyncConnection[Any], patient_id: int, metric_id: int, start: datetime, end: datetime
) -> bool:
    cursor = await connection.execute(
        """SELECT 1 FROM rollup_view
           WHERE patient_id = %s AND metric_id = %s AND bucket_s = 60 AND t0 >= %s AND t0 < %s LIMIT 1""",
        [patient_id, metric_id, start, end],
    )
    return await cursor.fetchone() is not None


async def _buckets(
    connection: AsyncConnection[Any],
    patient_id: int,
    metric_id: int,
    bucket: int,
    start: datetime,
    end: datetime,
) -> Points:
    """Read every closed bucket that overlaps ``[start, end)``; as columns, which spares a tuple a bucket.

    Only hours that were fast have minutes; of the others their hour stands among the minutes.
    """
    slow = f"OR ({_SLOW_HOUR})" if bucket == MINUTE else ""
    cursor = await connection.cursor(binary=True).execute(
        f"""SELECT array_agg(t_ms), array_agg(bucket_s), array_agg(low), array_agg(high), array_agg(mean), array_agg(n)
           FROM (SELECT (extract(epoch FROM t0) * 1000)::bigint AS t_ms, bucket_s, low, high, mean, n
                 FROM rollup_view AS r
                 WHERE patient_id = %(patient)s AND metric_id = %(metric)s AND (bucket_s = %(bucket)s {slow})
                   AND t0 > %(first)s AND t0 < %(last)s
                 ORDER BY t0 LIMIT %(most)s) AS bucket""".encode(),  # noqa: S608 - a constant or nothing
        {
            "patient": patient_id, "metric": metric_id, "bucket": bucket,
            "first": start - timedelta(seconds=bucket), "last": end, "most": 3 * MAX_BUCKETS,
        },
    )  # fmt: skip
    row = await cursor.fetchone()
    if row is None or row[0] is None:
        return Points.empty()
    t_ms, width_s, low, high, mean, n = row
    return Points(
        np.array(t_ms, np.int64), np.array(width_s, np.int64) * 1000, np.array(low, np.float64),
        np.array(high, np.float64), np.array(mean, np.float64), np.array(n, np.int64),
    )  # fmt: skip


async def _readings(
    connection: AsyncConnection[Any], patient_id: int, metric_id: int, start: datetime, end: datetime
) -> tuple[Points, bool]:
    """Decode the blocks of ``[start, end)``; readings taken while not worn are no part of a trend."""
    cursor = await connection.cursor(binary=True).execute(
        """SELECT (extract(epoch FROM t0) * 1000)::bigint, step_us, offsets_ms, value, quality
           FROM reading_block_view
           WHERE patient_id = %s AND metric_id = %s AND t0 >= %s AND t0 < %s AND t_last >= %s
           ORDER BY t0 DESC LIMIT %s""",
        [patient_id, metric_id, start - timedelta(hours=1), end, start, MAX_BLOCKS + 1],
    )
    rows = await cursor.fetchall()
    truncated = len(rows) > MAX_BLOCKS
    t_ms, value, quality = unpack(rows[:MAX_BLOCKS])
    kept = (t_ms >= to_ms(start)) & (t_ms < to_ms(end)) & (quality != NOT_WORN) & np.isfinite(value)
    t_ms, value = t_ms[kept], value[kept]
    order = np.argsort(t_ms, kind="stable")
    return Points.readings(t_ms[order], value[order]), truncated


BlockRow = tuple[int, int, list[int] | None, list[float], list[int] | None]


def unpack(rows: list[BlockRow]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Return (instants in Unix ms, values, qualities) of blocks (t0 ms, step us, offsets, values, qualities)."""
    if not rows:
        return np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.int64)
    lengths = np.array([len(row[3]) for row in rows], np.intp)
    place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    steps = np.repeat(np.array([row[1] for row in rows], np.int64), lengths)
    t_ms = np.repeat(np.array([row[0] for row in rows], np.int64), lengths) + place * steps // 1000
    t_ms += np.concatenate([_or_zeros(row[2], len(row[3])) for row in rows])
    value = np.concatenate([np.array(row[3], np.float64) for row in rows])
    quality = np.concatenate([_or_zeros(row[4], len(row[3])) for row in rows])
    return t_ms, value, quality


def _or_zeros(values: list[int] | None, n: int) -> NDArray[np.int64]:
    return np.zeros(n, np.int64) if values is None else np.array(values, np.int64)
