"""Who a synthetic patient is: constants of body and habits, drawn once from the seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Zones without daylight saving time: the offset is the same all year, and no zone table is needed here.
ZONES: Final[tuple[tuple[str, int], ...]] = (
    ("UTC", 0),
    ("Africa/Lagos", 60),
    ("Africa/Johannesburg", 120),
    ("Africa/Nairobi", 180),
    ("Asia/Kolkata", 330),
    ("America/Bogota", -300),
    ("America/Phoenix", -420),
)
DAYS_REMEMBERED: Final = 1024  # length of the day-to-day drift; longer spans repeat it


@dataclass(frozen=True, slots=True)
class Profile:
    """The constants of one synthetic patient. Rates are per minute, durations in minutes unless said."""

    index: int
    seed: int
    time_zone: str
    utc_offset_min: int
    resting_rate: float  # heart rate awake and sitting
    night_dip: float  # how much lower it is asleep
    circadian: float  # half the awake swing over the day
    rate_per_step: float  # rise of the heart rate for each step a minute
    breaths: float  # breathing rate asleep
    saturation: float  # SpO2 asleep, %
    rmssd: float  # HRV asleep, ms
    skin: float  # skin temperature asleep, Cel
    core: float  # mean body temperature, Cel
    bedtime: float  # minutes after noon
    sleep: float
    walks: float  # walks a day
    exercise: float  # probability of exercise on a day
    alcohol: float  # probability of a drinking evening
    missed_night: float  # probability of a night without the device
    charge_at: float  # minutes after noon at which the device is charged
    phase_ms: int  # when within the minute the device measures
    jitter_ms: int  # how irregular that is; 0 for an even cadence
    frame_min: int  # minutes in one frame
    patch: bool  # the device also measures body temperature
    drift: NDArray[np.float64]  # (DAYS_REMEMBERED,) that day's resting heart rate minus the mean


def draw_profile(seed: int, index: int, *, patch: bool | None = None) -> Profile:
    """Return patient ``index`` of ``seed``: the same two numbers give the same person."""
    rng = np.random.default_rng([seed, index, 0xB0D1])
    zone, offset = ZONES[int(rng.integers(len(ZONES)))]
    resting = min(max(float(rng.normal(67, 5)), 60.0), 80.0)
    has_patch = bool(rng.random() < 0.4)
    return Profile(
        index=index,
        seed=seed,
        time_zone=zone,
        utc_offset_min=offset,
        resting_rate=resting,
        night_dip=float(rng.uniform(8, 12)),
        circadian=float(rng.uniform(1.5, 3.5)),
        rate_per_step=float(rng.uniform(0.20, 0.30)),
        breaths=min(max(float(rng.normal(14.5, 1.2)), 12.0), 17.5),
        saturation=float(rng.uniform(95.6, 97.6)),
        rmssd=float(rng.uniform(25, 65)),
        skin=float(rng.uniform(33.8, 35.0)),
        core=float(rng.normal(36.7, 0.12)),
        bedtime=float(rng.uniform(10.2, 12.0) * 60),
        sleep=float(rng.uniform(400, 490)),
        walks=float(rng.uniform(2, 5)),
        exercise=float(rng.uniform(0.1, 0.5)),
        alcohol=float(rng.uniform(0.0, 0.12)),
        missed_night=float(rng.uniform(0.0, 0.03)),
        charge_at=float(rng.choice([rng.uniform(6.5, 9), rng.uniform(19.5, 21.5)]) * 60),
        phase_ms=int(rng.integers(60)) * 1000,
        jitter_ms=int(rng.choice([0, 0, 4_000, 12_000])),
        frame_min=int(rng.choice([60, 60, 60, 30])),
        patch=has_patch if patch is None else patch,
        drift=_drift(rng, float(rng.uniform(1.4, 2.0))),
    )


def _drift(rng: np.random.Generator, deviation: float, memory: float = 0.6) -> NDArray[np.float64]:
    """Return a first-order autoregressive day-to-day drift of standard deviation ``deviation``."""
    noise = rng.normal(0.0, deviation * np.sqrt(1 - memory**2), DAYS_REMEMBERED + 64)
    kernel = memory ** np.arange(32)
    return np.convolve(noise, kernel)[64 : 64 + DAYS_REMEMBERED]
