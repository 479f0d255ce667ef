"""The monitoring state of a patient as it stands, for every document and screen that shows the patient."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, LiteralString

from ingest.clock import to_datetime
from services.api.query import Connection, Row, first
from services.api.times import rfc3339

ROWS: Final[LiteralString] = """
    SELECT c.*, p.key AS by_key, p.name AS by_name FROM patient_change c LEFT JOIN person p ON p.id = c.person_id"""

# The state at an instant as ``m.state``, beside a patient ``p``; null where none was ever set.
NOW: Final[LiteralString] = """
    LEFT JOIN LATERAL (
        SELECT CASE WHEN (c.payload ->> 'until_ms')::bigint <= %(now_ms)s THEN 'active'
                    ELSE c.payload ->> 'state' END AS state
        FROM patient_change c
        WHERE c.patient_id = p.id AND c.kind = 'monitoring' AND c.effective_at <= %(now)s
        ORDER BY c.effective_at DESC, c.id DESC LIMIT 1
    ) AS m ON true"""


async def shown(connection: Connection, patient_id: int, now: datetime) -> dict[str, Any]:
    """Return the monitoring state now, the version to name when changing it, and how many findings it kept quiet."""
    row = await first(
        connection,
        ROWS
        + """ WHERE c.patient_id = %s AND kind = 'monitoring' AND effective_at <= %s
              ORDER BY effective_at DESC, c.id DESC LIMIT 1""",
        [patient_id, now],
    )
    version = await first(
        connection,
        "SELECT coalesce(max(version), 0) AS n FROM patient_change WHERE patient_id = %s AND kind = 'monitoring'",
        [patient_id],
    )
    until = until_of(row) if row else None
    over = until is not None and until <= now
    since = (until if over else row["effective_at"]) if row else None
    quiet = await first(
        connection,
        "SELECT count(*) AS n FROM suppressed_finding WHERE patient_id = %s AND found_at >= %s",
        [patient_id, since or now],
    )
    lasting = row if row and not over else None
    return {
        "state": lasting["payload"]["state"] if lasting else "active",
        "since": rfc3339(since),
        "until": rfc3339(until) if lasting else None,
        "reason": lasting["reason"] if lasting else None,
        "by": by(lasting) if lasting else None,
        "version": version["n"] if version else 0,
        "suppressed": quiet["n"] if quiet else 0,
    }


def by(row: Row) -> dict[str, str] | None:
    """Return who made a change; None at the command line."""
    return None if row["person_id"] is None else {"id": row["by_key"], "name": row["by_name"]}


def until_of(row: Row) -> datetime | None:
    """Return where a monitoring state ends by itself."""
    until = row["payload"].get("until_ms")
    return None if until is None else to_datetime(until)
