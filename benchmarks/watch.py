"""Made-up wearers for measuring: heart rate, steps and SpO2, each with a reading in every minute.

Values are plausible, seeded, and no more than that: what is measured is what they cost.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.protocol import HEART_RATE, HOUR_MS, MINUTE_MS, STEPS, VITALS, Floats, HourSlice, Readings, blank_hour

WORN: Final = (HEART_RATE, STEPS, VITALS.index("spo2"))
"""The metrics of these wearers, as places in VITALS."""

START_MS: Final = 20_400 * 24 * HOUR_MS  # 2025-11-08
MORNING, EVENING = 8, 22  # local time is UTC
RACING: Final = 165.0  # /min, beyond the limit at rest


def minute_means(hour_ms: int, n: int, seed: int = 1) -> Floats:
    """Return (n, 60, M) minute means of n wearers in one hour; the same seed gives the same people."""
    people = np.random.default_rng(seed)
    resting = people.normal(62, 6, n)[:, None]
    rng = np.random.default_rng([seed, hour_ms // HOUR_MS])
    awake = MORNING <= hour_ms // HOUR_MS % 24 < EVENING
    means = np.full((n, 60, len(VITALS)), np.nan, np.float32)
    steps = np.where(rng.random((n, 60)) < 0.2, rng.integers(10, 90, (n, 60)), 0) * awake
    means[:, :, HEART_RATE] = np.rint(resting + 12 * awake + 0.2 * steps + rng.normal(0, 2.5, (n, 60)))
    means[:, :, STEPS] = steps
    means[:, :, WORN[2]] = np.rint(np.minimum(96.5 + rng.normal(0, 0.7, (n, 60)), 100))
    return means


def worn_hour(rows: range, hour_ms: int) -> HourSlice:
    """Return a whole hour of these patients, all of it newly settled."""
    hour = blank_hour(rows, [hour_ms] * len(rows), [0] * len(rows))
    hour.mean[:] = minute_means(hour_ms, len(rows), seed=rows.start + 1)
    hour.low[:], hour.high[:] = hour.mean, hour.mean
    hour.good[:] = np.isfinite(hour.mean)
    return hour


def minute_of(rows: range, hour: HourSlice, minute: int, heart_rates: int = 1, racing: int = 0) -> Readings:
    """Return the readings of one minute, by patient and instant.

    ``heart_rates`` in the minute, one of steps and SpO2 each; of the first ``racing`` patients the heart races.
    """
    n, per = len(rows), heart_rates + len(WORN) - 1
    metric = np.array([HEART_RATE] * heart_rates + list(WORN[1:]), np.int16)
    offset = np.array([*(np.arange(heart_rates) * (MINUTE_MS // heart_rates)), *[MINUTE_MS - 1] * 2], np.int64)
    value = hour.mean[:, minute][:, metric]
    value[:racing, :heart_rates] = RACING
    return Readings(
        row=np.repeat(np.arange(rows.start, rows.stop), per),
        metric=np.tile(metric, n),
        t_ms=np.tile(int(hour.hour_ms[0]) + minute * MINUTE_MS + offset, n),
        value=value.reshape(-1),
        good=np.ones(n * per, bool),
        at_rest=np.ones(n * per, bool),
    )
