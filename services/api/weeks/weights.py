"""A patient's weighings as they are stored: from the beginning and lately, as days are."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import numpy as np

from detectors.weights import Weighings
from ingest.catalogue import catalogue
from ingest.clock import to_datetime
from ingest.frame import GOOD, IMPLAUSIBLE
from services.api.query import Connection
from services.api.series import unpack

WEIGHT: Final = catalogue()["weight"].id


async def read(
    connection: Connection, patient_id: int, here: datetime, beginning: timedelta, lately: timedelta
) -> Weighings:
    """Return the first weighing of each local day of ``beginning`` from the first on, and of ``lately`` to ``here``.

    Good is what the rule `weight_gain` takes: not doubted by the device.
    """
    cursor = await connection.cursor(binary=True).execute(
        """WITH w AS MATERIALIZED (
             SELECT t0, step_us, offsets_ms, value, quality FROM reading_block_view
             WHERE patient_id = %(patient)s AND metric_id = %(weight)s AND t0 <= %(now)s)
           SELECT (extract(epoch FROM t0) * 1000)::bigint, step_us, offsets_ms, value, quality FROM w
           WHERE t0 > %(lately)s OR t0 < (SELECT min(t0) FROM w) + %(beginning)s""",
        {"patient": patient_id, "weight": WEIGHT, "now": here, "lately": here - lately, "beginning": beginning},
    )
    t_ms, value, quality = unpack(await cursor.fetchall())
    good = np.isin(quality, (GOOD, IMPLAUSIBLE)) & np.isfinite(value)
    offsets = [to_datetime(at).astimezone(here.tzinfo).utcoffset() for at in t_ms[good].tolist()]
    ahead = np.array([(offset or timedelta(0)) // timedelta(milliseconds=1) for offset in offsets], np.int64)
    return Weighings.of(t_ms[good] + ahead, value[good])
