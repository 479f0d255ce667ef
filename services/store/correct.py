"""Corrections written: the block that holds the instant is rewritten, the old value kept beside."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import psycopg
from numpy.typing import NDArray

from ingest.clock import to_datetime
from services.processor.readings import Table
from services.processor.records import Corrections

_FIND: Final = """
    SELECT t0, (extract(epoch FROM t0) * 1000)::bigint, step_us, offsets_ms, value, quality FROM reading_block
    WHERE patient_id = %s AND metric_id = %s AND device_id = %s
      AND t0 <= %s AND t0 >= %s::timestamptz - interval '1 hour' AND t_last >= %s"""
_REWRITE: Final = """
    UPDATE reading_block SET value = %s, quality = %s
    WHERE patient_id = %s AND metric_id = %s AND device_id = %s AND t0 = %s"""


async def write(
    connection: psycopg.AsyncConnection, corrections: Corrections, names: list[str], patient_of: NDArray[np.int32]
) -> None:
    """Write a batch's corrections, after its new readings; ``names``: the batch's frame ids.

    Raises:
        LookupError: a reading to be corrected is not stored; nothing of the batch is written.
    """
    rows: Table = corrections.rewritten
    columns = (patient_of[rows.slot], rows.metric, rows.device, rows.t_ms, rows.value, rows.quality)
    for patient, metric, device, t_ms, value, quality in zip(*(column.tolist() for column in columns), strict=True):
        await _rewrite(connection, (patient, metric, device), t_ms, value, quality)
    many = connection.cursor().executemany
    if corrections.superseded:
        await many(
            """INSERT INTO reading_superseded (patient_id, metric_id, device_id, t, value, revision, frame_id)
               VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
            [
                (s.patient_id, s.metric_id, s.device_id, to_datetime(s.t_ms), s.value, s.revision, names[s.frame])
                for s in corrections.superseded
            ],
        )
    if corrections.revisions:
        await many(
            """INSERT INTO reading_revision (patient_id, metric_id, device_id, t, revision) VALUES (%s, %s, %s, %s, %s)
               ON CONFLICT (patient_id, metric_id, device_id, t) DO UPDATE SET revision = excluded.revision""",
            [(p, m, d, to_datetime(t), revision) for p, m, d, t, revision in corrections.revisions],
        )
    if corrections.settled:
        await many(
            """DELETE FROM reading_conflict WHERE (patient_id, metric_id, device_id, t) = (%s, %s, %s, %s)
                 AND value = %s::real""",
            [(p, m, d, to_datetime(t), value) for p, m, d, t, value in corrections.settled],
        )


async def _rewrite(
    connection: psycopg.AsyncConnection, series: tuple[int, int, int], t_ms: int, value: float, quality: int
) -> None:
    at = to_datetime(t_ms)
    for t0, t0_ms, step_us, offsets, values, qualities in await (
        await connection.execute(_FIND, [*series, at, at, at], binary=True)
    ).fetchall():
        place = _place(t_ms - int(t0_ms), step_us, offsets, len(values))
        if place is None:
            continue
        values[place] = value
        codes = qualities or [0] * len(values)
        codes[place] = quality
        await connection.execute(_REWRITE, [values, codes if any(codes) else None, *series, t0])
        return
    msg = f"a correction at {t_ms} ms of patient, metric, device {series} finds no stored reading"
    raise LookupError(msg)


def _place(ahead_ms: int, step_us: int, offsets: list[int] | None, n: int) -> int | None:
    instants: Any = offsets if offsets is not None else [i * step_us // 1000 for i in range(n)]
    return next((i for i, instant in enumerate(instants) if instant == ahead_ms), None)
