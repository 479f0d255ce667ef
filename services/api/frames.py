"""What became of a frame after it was accepted, with links to where its readings can be seen."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote

from services.api import withheld, words
from services.api.patients import link
from services.api.problems import Code, Problem
from services.api.query import Row, every, first
from services.api.scope import Scope
from services.api.times import rfc3339
from services.reasons import explain

MAX_LISTED: Final = 100
AROUND: Final = timedelta(minutes=30)  # a linked trend shows so much before and after the frame


async def document(scope: Scope, frame_id: str) -> dict[str, Any]:
    """Return a frame's fate.

    Raises:
        Problem: nothing of this id was processed yet, it is not this person's to see, or consent does not cover it.
    """
    row = await first(
        scope.connection,
        """SELECT f.*, p.key AS patient_key, d.key AS device_key FROM frame_log f
           JOIN patient p ON p.id = f.patient_id JOIN device d ON d.id = f.device_id WHERE f.frame_id = %s""",
        [frame_id],
    )
    if row is None:
        await withheld.deny(scope, "frame", frame_id)
        detail = (
            f"frame {frame_id[:200]!r} is not processed yet, or not yours to see; "
            "if its 202 was a moment ago, ask again in a second"
        )
        raise Problem(Code.FRAME_NOT_PROCESSED, detail, retry_after_s=1)
    scope.patient_id = row["patient_id"]
    whole = {
        "frame_id": row["frame_id"],
        "patient": link(row["patient_key"]),
        "device": row["device_key"],
        "received_at": rfc3339(row["received_at"]),
        "processed_at": rfc3339(row["processed_at"]),
        "deliveries": row["deliveries"],
        "stored": row["stored"],
        "late": row["late"],
        "duplicate": row["duplicate"],
        "conflict": row["conflict"],
        "quarantined": row["quarantined"],
        "corrected": row["corrected"],
        "erased": row["erased"],
        "first_at": rfc3339(row["t_first"]),
        "last_at": rfc3339(row["t_last"]),
        "quarantined_readings": await _quarantined(scope, frame_id) if row["quarantined"] else [],
        "links": {
            "patient": link(row["patient_key"]),
            "screen": f"/patients/{quote(row['patient_key'], safe='')}",
            "trends": await _trends(scope, row),
        },
    }
    return scope.show("frame", whole)


async def _quarantined(scope: Scope, frame_id: str) -> list[dict[str, Any]]:
    rows = await every(
        scope.connection,
        "SELECT metric_id, t, value, reason FROM quarantined_reading WHERE frame_id = %s ORDER BY t LIMIT %s",
        [frame_id, MAX_LISTED],
    )
    return [
        {
            "metric": words.metric(row["metric_id"])["key"],
            "at": rfc3339(row["t"]),
            "value": row["value"],
            "reason": row["reason"],
            "meaning": explain(row["reason"]).meaning,
        }
        for row in rows
    ]


async def _trends(scope: Scope, frame: Row) -> dict[str, str]:
    """Return a link to the trend of each metric the frame's device has stored in the frame's span."""
    if frame["t_first"] is None:
        return {}
    rows = await every(
        scope.connection,
        """SELECT DISTINCT metric_id FROM reading_block_view
           WHERE patient_id = %s AND device_id = %s AND t0 >= %s AND t0 <= %s AND t_last >= %s ORDER BY 1""",
        [
            frame["patient_id"], frame["device_id"], frame["t_first"] - timedelta(hours=1), frame["t_last"],
            frame["t_first"],
        ],
    )  # fmt: skip
    start, end = rfc3339(frame["t_first"] - AROUND), rfc3339(frame["t_last"] + AROUND)
    keys = [words.metric(row["metric_id"])["key"] for row in rows]
    return {key: f"{link(frame['patient_key'])}/trends?metric={key}&from={start}&to={end}" for key in keys}
