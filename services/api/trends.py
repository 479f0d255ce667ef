"""Trends: one metric of one patient over any span, with its own-baseline band and the alerts that overlap it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detectors.baseline import LEARNED
from ingest.catalogue import catalogue, nearest
from ingest.clock import to_ms
from services.api import alerts, series, sources, withheld, words
from services.api.downsample import Points, longest_silence, reduce
from services.api.patients import Patient
from services.api.problems import Problem, invalid
from services.api.query import every
from services.api.scope import Scope
from services.api.times import rfc3339

DEFAULT_POINTS: Final = 600
MIN_POINTS, MAX_POINTS = 10, 5000
DEFAULT_SPAN: Final = timedelta(hours=24)
BAND_SPREADS: Final = 2  # an ordinary hour's mean lies within two spreads of the center
HOURLY_BANDS: Final = timedelta(days=31)  # beyond, bands are summed up by day


def vital(key: str) -> int:
    """Return the number of a metric that has trends.

    Raises:
        Problem: unknown, or a waveform or status.
    """
    number = words.metric_id(key)
    if number is None:
        near = nearest(key)
        hint = f" (did you mean {near}?)" if near and near != key else ""
        vitals = ", ".join(name for name, entry in catalogue().items() if entry.kind == "vital")
        raise invalid(key, "metric", f"one of {vitals}{hint}")
    return number


def span(start: datetime | None, end: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """Return the span asked for; by default the last day.

    Raises:
        Problem: it does not go forward.
    """
    end = end or now
    start = start or end - DEFAULT_SPAN
    if start >= end:
        raise invalid(rfc3339(start), "from", f"an instant before to = {rfc3339(end)}")
    return start, end


async def document(
    scope: Scope, patient: Patient, metric: str, start: datetime, end: datetime, points: int
) -> dict[str, Any]:
    """Return the trend of ``[start, end)`` with at most ``points`` points; a null stands for a gap.

    Columns have one length; ``times_ms`` are the readings' instants or the buckets' middles, Unix ms.
    """
    if not MIN_POINTS <= points <= MAX_POINTS:
        raise invalid(points, "points", f"{MIN_POINTS} to {MAX_POINTS}")
    number = vital(metric)
    await withheld.deny_metric(scope, patient.id, number)
    found = await series.read(scope.connection, patient.id, number, start, end)
    kept, gap = reduce(found.points, points)
    decimals = words.metric(number)["decimals"] + 2
    whole = {
        "patient": patient.brief(),
        "time_zone": patient.time_zone,
        "metric": words.metric(number),
        "from": rfc3339(start),
        "to": rfc3339(end),
        "source": "+".join(part.source for part in found.parts),
        "sources": [
            {
                "source": part.source,
                "from_ms": part.from_ms,
                "to_ms": part.to_ms,
                "points_read": len(part.points),
            }
            for part in found.parts
        ],
        "truncated": found.truncated,
        "devices": await sources.document(scope, patient, number, start, end),
        "readings": int(found.points.n.sum()),
        "lowest": _extreme(found.points.low, np.min, decimals),
        "highest": _extreme(found.points.high, np.max, decimals),
        **_columns(kept, gap, decimals),
        "gaps": _gaps(found.points, kept, gap, to_ms(start), to_ms(end)),
        "band": await _band(scope, patient, number, start, end),
        "band_spreads": BAND_SPREADS,
        "alerts": await alerts.overlapping(scope, patient, start, end) if scope.sees("alert") else [],
    }
    return scope.show("trend", whole)


def _extreme(values: NDArray[np.float64], pick: Any, decimals: int) -> float | None:
    return round(float(pick(values)), decimals) if len(values) else None


def _columns(points: Points, gap: NDArray[np.bool_], decimals: int) -> dict[str, list[Any]]:
    """Return the points as columns, with a point of nulls in the middle of each gap."""
    before = np.flatnonzero(gap)
    middle = (points.t_ms[before] + points.width_ms[before] + points.t_ms[before + 1]) // 2
    columns: dict[str, list[Any]] = {"times_ms": np.insert(points.middle_ms, before + 1, middle).tolist()}
    for name in ("low", "high", "mean"):
        values = np.insert(np.round(getattr(points, name), decimals), before + 1, np.nan)
        columns[name] = [None if value != value else value for value in values.tolist()]
    columns["n"] = np.insert(points.n, before + 1, 0).tolist()
    return columns


def _gaps(points: Points, kept: Points, gap: NDArray[np.bool_], start_ms: int, end_ms: int) -> list[dict[str, int]]:
    """Return the stretches without data, those at the span's ends included."""
    if not len(points):
        return [{"from_ms": start_ms, "to_ms": end_ms}]
    ends = kept.t_ms + kept.width_ms
    found = [(int(ends[i]), int(kept.t_ms[i + 1])) for i in np.flatnonzero(gap)]
    limit = longest_silence(points)
    first, last = int(kept.t_ms[0]), int(ends[-1])
    if first - start_ms > limit[0]:
        found.insert(0, (start_ms, first))
    if end_ms - last > limit[-1]:
        found.append((last, end_ms))
    return [{"from_ms": a, "to_ms": b} for a, b in found]


async def _band(scope: Scope, patient: Patient, number: int, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Return the own-baseline band of each closed hour, or over long spans of each day and context."""
    step = timedelta(hours=1) if end - start <= HOURLY_BANDS else timedelta(days=1)
    rows = await every(
        scope.connection,
        """SELECT context, date_bin(%(step)s, t0, 'epoch') AS t0, avg(center) AS center, max(spread) AS spread,
                  max(days) AS days
           FROM baseline_band_view
           WHERE patient_id = %(patient)s AND metric_id = %(metric)s AND t0 > %(first)s AND t0 < %(last)s
           GROUP BY 1, 2 ORDER BY 2, 1""",
        {"step": step, "patient": patient.id, "metric": number, "first": start - step, "last": end},
    )
    width = int(step.total_seconds() * 1000)
    return [
        {
            "from_ms": to_ms(row["t0"]),
            "to_ms": to_ms(row["t0"]) + width,
            "context": row["context"],
            "center": round(row["center"], 3),
            "spread": round(row["spread"], 3),
            "low": round(row["center"] - BAND_SPREADS * row["spread"], 3),
            "high": round(row["center"] + BAND_SPREADS * row["spread"], 3),
            "days": row["days"],
            "learned": row["days"] >= LEARNED,
        }
        for row in rows
    ]


__all__ = ["DEFAULT_POINTS", "Problem", "document", "span", "vital"]
