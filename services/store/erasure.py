"""Erasure of a patient: which tables lose the patient's rows, and which keep them and why. One place, tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

import psycopg
from psycopg.types.json import Jsonb

from ingest.partition import record_key
from services.store import audit
from services.store.audit import Entry

# In this order: `patient` is blanked before and `alert` goes before its events, so that whoever writes to them at the
# same moment has either committed before, and is deleted, or finds nothing any more.
DELETED: Final = (
    "alert", "alert_event", "suppressed_finding", "reading_block", "waveform_block", "reading_conflict",
    "reading_superseded", "reading_revision",
    "quarantined_reading", "rollup", "baseline_band", "daily_value", "metric_state", "frame_log",
    "patient_state", "patient_baseline", "baseline_checkpoint", "silence_judgement", "control_event", "patient_change",
    "care_team_patient", "proxy_grant",
    "enrolment", "enrolment_event", "consent",
)  # fmt: skip

KEPT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "access_audit": "who looked at whose data must be known afterwards; it says what was opened, not what it said",
        "erasure": "the proof: who asked, when, and how many rows went",
        "break_glass": "who saw the patient outside their team, and what came of the review; the words are blanked",
        "person": "the patient's own account is blanked and its tokens revoked; others' names are in the audit",
        "device_assignment": "ended; it tells a late frame of the erased patient, which is then counted and not stored",
    }
)


async def erase(connection: psycopg.AsyncConnection[Any], patients: Sequence[int], now: datetime) -> None:
    """Delete every row of these patients, in the caller's fenced transaction. Done again, it changes nothing."""
    for patient_id in patients:
        await _erase(connection, patient_id, now)


async def _erase(connection: psycopg.AsyncConnection[Any], patient_id: int, now: datetime) -> None:
    cursor = await connection.execute(
        """INSERT INTO erasure (patient_id, organisation_id, reason, asked_at)
           SELECT patient_id, organisation_id, reason, recorded_at FROM patient_change
           WHERE patient_id = %s AND kind = 'erase' ORDER BY id LIMIT 1
           ON CONFLICT (patient_id) DO NOTHING""",
        [patient_id],
    )
    await connection.execute(
        """UPDATE patient SET key = 'erased:' || id, name = '', erased_at = %s
           WHERE id = %s AND erased_at IS NULL""",
        [now, patient_id],
    )
    await connection.execute("SELECT set_config('keepwell.erasing', 'on', true)")
    counts: dict[str, int] = {}
    for table in DELETED:
        cursor = await connection.execute(f"DELETE FROM {table} WHERE patient_id = %s".encode(), [patient_id])
        counts[table] = cursor.rowcount
    await connection.execute("SELECT set_config('keepwell.erasing', '', true)")
    for table in ("dead_letter", "outbox"):
        cursor = await connection.execute(
            f"DELETE FROM {table} WHERE record_key = %s".encode(), [record_key(patient_id)]
        )
        counts[table] = cursor.rowcount
    counts |= await _end_devices(connection, patient_id, now) | await _end_account(connection, patient_id, now)
    cursor = await connection.execute(
        """UPDATE erasure SET done_at = %s, counts = %s WHERE patient_id = %s AND done_at IS NULL
           RETURNING organisation_id""",
        [now, Jsonb({table: count for table, count in counts.items() if count}), patient_id],
    )
    done = [
        Entry(now, organisation, "service", "patient.erased", name="processor", patient_id=patient_id,
              purpose=audit.OPERATIONS)
        for (organisation,) in await cursor.fetchall()
    ]  # fmt: skip
    await audit.write_async(connection, done)


async def _end_devices(connection: psycopg.AsyncConnection[Any], patient_id: int, now: datetime) -> dict[str, int]:
    """End the patient's assignments, and revoke the tokens of devices that were never anybody else's."""
    tokens = await connection.execute(
        """UPDATE device_token SET revoked_at = %(now)s
           WHERE revoked_at IS NULL
             AND device_id IN (SELECT device_id FROM device_assignment WHERE patient_id = %(patient)s)
             AND device_id NOT IN (SELECT device_id FROM device_assignment WHERE patient_id <> %(patient)s)""",
        {"now": now, "patient": patient_id},
    )
    assignments = await connection.execute(
        """UPDATE device_assignment SET valid_to = greatest(%s, valid_from)
           WHERE patient_id = %s AND valid_to = 'infinity'""",
        [now, patient_id],
    )
    return {"device_token revoked": tokens.rowcount, "device_assignment ended": assignments.rowcount}


async def _end_account(connection: psycopg.AsyncConnection[Any], patient_id: int, now: datetime) -> dict[str, int]:
    """Blank the patient's own account and what was written when somebody opened their data; revoke its tokens."""
    tokens = await connection.execute(
        """UPDATE person_token SET revoked_at = %s
           WHERE revoked_at IS NULL AND person_id IN (SELECT id FROM person WHERE patient_id = %s)""",
        [now, patient_id],
    )
    await connection.execute("UPDATE person SET key = 'erased:' || id, name = '' WHERE patient_id = %s", [patient_id])
    opened = await connection.execute(
        "UPDATE break_glass SET reason = '', note = '' WHERE patient_id = %s", [patient_id]
    )
    return {"person_token revoked": tokens.rowcount, "break_glass blanked": opened.rowcount}
