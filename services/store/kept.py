"""What is kept of a patient to rebuild from, for how long, and its replacement by a rebuild."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any, Final

import psycopg

from services.processor.hot import MONTHLY_DAYS
from services.processor.records import Remade

DAILY_DAYS: Final = 35  # a checkpoint a day for five weeks: longer than a baseline remembers is seldom asked for

# Counted in the patient's own event time, from the checkpoint just written.
_THIN_OUT: Final = """
    DELETE FROM baseline_checkpoint c USING unnest(%s::int[], %s::date[]) AS new (patient_id, day)
    WHERE c.patient_id = new.patient_id AND (
        c.day < new.day - %s OR c.day < new.day - %s AND EXISTS (
            SELECT 1 FROM baseline_checkpoint earlier
            WHERE earlier.patient_id = c.patient_id AND earlier.day < c.day
              AND date_trunc('month', earlier.day) = date_trunc('month', c.day)))"""


def day_of(number: int) -> date:
    """Return the date of a day counted from 1970."""
    return date(1970, 1, 1) + timedelta(days=number)


async def thin_out(connection: psycopg.AsyncConnection, newest: dict[int, date]) -> None:
    """Delete the checkpoints that are too old to be kept beside the newest one (patient → its day)."""
    if newest:
        await connection.execute(_THIN_OUT, [list(newest), list(newest.values()), MONTHLY_DAYS, DAILY_DAYS])


async def replace(connection: psycopg.AsyncConnection, remade: Remade) -> None:
    """Delete what a rebuild makes anew, and put its checkpoints in place; bands and days follow with the effects."""
    patient = remade.patient_id
    for statement, bound in (
        ("DELETE FROM baseline_band WHERE patient_id = %s AND t0 >= to_timestamp(%s)", remade.bands_from_ms / 1000),
        (
            "DELETE FROM suppressed_finding WHERE patient_id = %s AND found_at >= to_timestamp(%s)",
            remade.suppressed_from_ms / 1000,
        ),
        ("DELETE FROM daily_value WHERE patient_id = %s AND day >= %s", remade.days_from),
        ("DELETE FROM baseline_checkpoint WHERE patient_id = %s AND day >= %s", remade.checkpoints_from),
    ):
        await connection.execute(statement.encode(), [patient, bound])
    rows: list[tuple[Any, ...]] = remade.checkpoints
    await connection.cursor().executemany(
        "INSERT INTO baseline_checkpoint (patient_id, day, hot, state, layout) VALUES (%s, %s, %s, %s, %s)", rows
    )
