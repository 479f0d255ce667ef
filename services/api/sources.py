"""Which device a trend comes from, hour by hour: where a patient wears two, which one was preferred."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from ingest.clock import to_ms
from services.api.patients import Patient
from services.api.query import every
from services.api.scope import Scope

HOUR: Final = timedelta(hours=1)
MAX_SPANS: Final = 500
HOURLY: Final = timedelta(days=62)  # beyond, days instead of hours


async def document(scope: Scope, patient: Patient, metric: int, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Return the stretches of closed hours (over long spans: days) of ``[start, end)`` by their source.

    Each names the ``preferred`` device, whose readings the trend and the baseline use, and the ``others`` that measured
    too (theirs are stored, and watched by the safety limits). At most 500 stretches, the newest.
    """
    unit = 3600 if end - start <= HOURLY else 86400
    rows = await every(
        scope.connection,
        """SELECT t0, devices FROM rollup_view
           WHERE patient_id = %s AND metric_id = %s AND bucket_s = %s AND t0 > %s AND t0 < %s ORDER BY t0""",
        [patient.id, metric, unit, start - timedelta(seconds=unit), end],
    )
    known = sorted({device for row in rows for device in row["devices"] or ()})
    named = await every(scope.connection, "SELECT id, key FROM device WHERE id = ANY(%s)", [known]) if known else []
    keys = {row["id"]: row["key"] for row in named}
    spans: list[dict[str, Any]] = []
    last: list[int] | None = None
    for row in rows:
        devices, from_ms = row["devices"] or [], to_ms(row["t0"])
        if spans and devices == last:
            spans[-1]["to_ms"] = from_ms + unit * 1000
            continue
        names = [keys.get(device, str(device)) for device in devices]
        spans.append(
            {
                "from_ms": from_ms,
                "to_ms": from_ms + unit * 1000,
                "preferred": names[0] if names else None,
                "others": names[1:],
            }
        )
        last = devices
    return spans[-MAX_SPANS:]
