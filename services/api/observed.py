"""The newest good value of each parameter of the clinical scores, read back from what is stored.

Good is what counts for the safety limits: not doubted by the device, and of pulse and breathing taken at rest, for the
scores were made for people in bed. Nothing of the future counts, whatever a device's clock says.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from detectors.scores.observations import MAX_AGE_S, PARAMETERS
from ingest.catalogue import catalogue
from ingest.clock import to_datetime, to_ms
from ingest.frame import GOOD, IMPLAUSIBLE
from services.api.query import Connection, every
from services.api.series import unpack
from services.processor.readings import Table
from services.processor.safety import REST_WINDOW_MS, STEPS, at_rest

AT_REST: Final = ("heart_rate", "respiratory_rate")
IDS: Final = {catalogue()[key].id: key for key in PARAMETERS}
BLOCK: Final = timedelta(hours=1)  # a block spans no more


class Observed(NamedTuple):
    """One value of a parameter; ``at`` None: it holds by the patient's profile."""

    value: float
    at: datetime | None
    doubt: Literal["doubted", "rest_unknown"] | None = None  # why it does not count, though heard in time

    def age_s(self, now: datetime) -> float:
        """Return how old it is, 0 of what simply holds or bears an instant of the future."""
        return 0.0 if self.at is None else max(0.0, (now - self.at).total_seconds())


async def newest(connection: Connection, patient_id: int, now: datetime, *, sees_steps: bool) -> dict[str, Observed]:
    """Return parameter → the newest good value that is not too old, else what was heard last.

    Whoever sees no steps is not told that somebody was at rest: row-level security hides them as if none were taken.
    """
    found = await _heard(connection, patient_id, now)
    table = await _within_bounds(connection, patient_id, now)
    good = np.isin(table.quality, (GOOD, IMPLAUSIBLE)) & (table.t_ms <= to_ms(now))
    rest = at_rest(table)
    for key in PARAMETERS:
        since = to_ms(now) - MAX_AGE_S[key] * 1000
        mine = good & (table.metric == catalogue()[key].id) & (table.t_ms >= since)
        if key in AT_REST:
            mine &= rest
        if mine.any():
            last = int(np.flatnonzero(mine)[-1])
            doubt: Literal["rest_unknown"] | None = None if sees_steps or key not in AT_REST else "rest_unknown"
            found[key] = Observed(_plain(table.value[last]), to_datetime(int(table.t_ms[last])), doubt)
    return found


async def _heard(connection: Connection, patient_id: int, now: datetime) -> dict[str, Observed]:
    """Return what was heard last of each parameter, good or not: too old, else doubted, the future's too."""
    rows = await every(
        connection,
        """SELECT metric_id, last_value, last_at FROM metric_state
           WHERE patient_id = %s AND metric_id = ANY(%s) AND last_at IS NOT NULL""",
        [patient_id, list(IDS)],
    )
    found = {}
    for row in rows:
        key = IDS[row["metric_id"]]
        too_old = (now - row["last_at"]).total_seconds() > MAX_AGE_S[key]
        found[key] = Observed(_plain(row["last_value"]), row["last_at"], None if too_old else "doubted")
    return found


async def _within_bounds(connection: Connection, patient_id: int, now: datetime) -> Table:
    """Return the readings of the parameters that are not too old, and the steps around them, by instant.

    Of one instant the device with the lower number comes last: it is preferred (`services.processor.sources`).
    """
    since = {number: now - timedelta(seconds=MAX_AGE_S[key]) for number, key in IDS.items()}
    moving = max(MAX_AGE_S[key] for key in AT_REST)
    since[STEPS] = now - timedelta(seconds=moving, milliseconds=REST_WINDOW_MS)
    cursor = await connection.cursor(binary=True).execute(
        """SELECT b.metric_id, b.device_id, (extract(epoch FROM b.t0) * 1000)::bigint, b.step_us, b.offsets_ms, b.value,
                  b.quality
           FROM unnest(%(metrics)s::smallint[], %(since)s::timestamptz[]) AS w (metric_id, since)
           JOIN reading_block_view b USING (metric_id)
           WHERE b.patient_id = %(patient)s AND b.t0 >= %(oldest)s AND b.t0 <= %(now)s
             AND b.t0 >= w.since - %(block)s AND b.t_last >= w.since""",
        {
            "metrics": list(since), "since": list(since.values()), "patient": patient_id,
            "oldest": min(since.values()) - BLOCK, "now": now, "block": BLOCK,
        },
    )  # fmt: skip
    return _table(await cursor.fetchall())


def _table(rows: list[tuple[Any, ...]]) -> Table:
    t_ms, value, quality = unpack([row[2:] for row in rows])
    lengths = [len(row[5]) for row in rows]
    metric = np.repeat(np.array([row[0] for row in rows], np.int16), lengths)
    device = np.repeat(np.array([row[1] for row in rows], np.int32), lengths)
    table = Table(
        np.zeros(len(t_ms), np.intp), device, metric, t_ms, value.astype(np.float32), quality.astype(np.uint8),
        np.full(len(t_ms), -1, np.int32),
    )  # fmt: skip
    return table.sorted(table.t_ms, -table.device)


def _plain(value: float) -> float:
    """Return a stored float32 as the short decimal it was."""
    return round(float(value), 4)
