"""Made-up wearers for measuring: heart rate, steps and SpO2 in every minute of every day.

Values are seeded and plausible, and no more than that: what is measured is what they cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from detectors.protocol import HEART_RATE, HOUR_MS, MINUTE_MS, STEPS, VITALS, Floats, HourSlice, Readings, blank_hour
from detectors.scores.observations import PARAMETERS

SPO2: Final = VITALS.index("spo2")
WORN: Final = ("heart_rate", "steps", "spo2")
START_MS: Final = 20_400 * 24 * HOUR_MS  # 2025-11-08 00:00 UTC, which is the wearers' local time
MORNING, EVENING = 8, 22
RACING: Final = 165.0  # /min: beyond the safety limits
LOW: Final = 84.0  # %: with it a NEWS2 of 6


def minute_means(hour_ms: int, n: int) -> Floats:
    """Return (n, 60, M) what n wearers measure in the minutes of an hour, NaN for what they do not wear."""
    resting = np.random.default_rng(1).normal(62, 6, n)[:, None]
    rng = np.random.default_rng(hour_ms // HOUR_MS)
    awake = MORNING <= hour_ms // HOUR_MS % 24 < EVENING
    steps = np.where(rng.random((n, 60)) < 0.2, rng.integers(10, 90, (n, 60)), 0) * awake
    means = np.full((n, 60, len(VITALS)), np.nan, np.float32)
    means[:, :, HEART_RATE] = np.rint(resting + 12 * awake + 0.2 * steps + rng.normal(0, 2.5, (n, 60)))
    means[:, :, STEPS] = steps
    means[:, :, SPO2] = np.rint(np.minimum(96.5 + rng.normal(0, 0.7, (n, 60)), 100))
    return means


def worn_hour(rows: Sequence[int], hour_ms: int) -> HourSlice:
    """Return a whole hour of these patients, all of it newly settled."""
    hour = blank_hour(rows, [hour_ms] * len(rows), [0] * len(rows))
    hour.mean[:] = minute_means(hour_ms, len(rows))
    hour.low[:], hour.high[:] = hour.mean, hour.mean
    hour.good[:] = np.isfinite(hour.mean)
    hour.device[:] = 1
    return hour


def scored_of(readings: Readings, *, low: bool = False) -> Readings:
    """Return what NEWS2 looks at of them, as it takes it; ``low``: whose heart races has little oxygen too."""
    metric = np.array(
        [PARAMETERS.index(VITALS[one]) if VITALS[one] in PARAMETERS else -1 for one in range(len(VITALS))]
    )
    racing = low & np.isin(readings.row, readings.row[readings.value == RACING])
    value = np.where(racing & (readings.metric == SPO2), np.float32(LOW), readings.value)
    of_it = metric[readings.metric] >= 0
    return Readings(
        readings.row[of_it], metric[readings.metric][of_it].astype(np.int16), readings.t_ms[of_it], value[of_it],
        readings.good[of_it], readings.at_rest[of_it],
    )  # fmt: skip


def readings_of(hour: HourSlice, minute: int, heart_rates: int, racing: int) -> Readings:
    """Return the readings of one minute: so many heart rates a patient, one of steps and one of SpO2.

    Of the first ``racing`` patients the heart races, at rest.
    """
    n, per = len(hour.rows), heart_rates + 2
    metric = np.array([HEART_RATE] * heart_rates + [STEPS, SPO2], np.int16)
    after_ms = np.append(np.arange(heart_rates) * (MINUTE_MS // heart_rates), [MINUTE_MS - 1] * 2)
    value = hour.mean[:, minute][:, metric]
    value[:racing, :heart_rates] = RACING
    return Readings(
        row=np.repeat(hour.rows, per),
        metric=np.tile(metric, n),
        t_ms=np.repeat(hour.hour_ms + minute * MINUTE_MS, per) + np.tile(after_ms, n),
        value=value.reshape(-1),
        good=np.ones(n * per, bool),
        at_rest=np.ones(n * per, bool),
    )
