"""One day of a synthetic body, minute by minute, from local noon to local noon so that a night is whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulators.profile import DAYS_REMEMBERED, Profile
from simulators.series import DAY_MS, MINUTE_MS

MINUTES: Final = 1440
NOON_MS: Final = DAY_MS // 2
TOP_RATE: Final = 166.0  # nobody here trains harder than this
_MINUTE = np.arange(MINUTES)
_LAG = np.exp(-np.arange(24) / 2.0)  # how the heart follows effort: first order, two minutes
_LAG /= _LAG.sum()
_SLOW = 0.9 ** np.arange(48)  # minute-to-minute wandering
_SLOW *= np.sqrt(1 - 0.9**2)


@dataclass(slots=True)
class Minutes:
    """What is true of a body and its device in each of a day's 1,440 minutes. Effects change it."""

    t_ms: NDArray[np.int64]  # start of the minute, Unix ms UTC
    asleep: NDArray[np.bool_]
    steps: NDArray[np.float64]
    rate: NDArray[np.float64]  # heart rate, /min
    breaths: NDArray[np.float64]
    saturation: NDArray[np.float64]
    rmssd: NDArray[np.float64]
    skin: NDArray[np.float64]
    core: NDArray[np.float64]
    worn: NDArray[np.bool_]
    charging: NDArray[np.bool_]
    poor: NDArray[np.bool_]  # the sensor has no good contact
    battery: NDArray[np.float64]


def day_of(profile: Profile, t_ms: int) -> int:
    """Return the number of the noon-to-noon day that holds ``t_ms``."""
    return (t_ms + profile.utc_offset_min * MINUTE_MS - NOON_MS) // DAY_MS


def day_start_ms(profile: Profile, day: int) -> int:
    """Return the local noon at which ``day`` begins, Unix ms UTC."""
    return day * DAY_MS + NOON_MS - profile.utc_offset_min * MINUTE_MS


def draw_day(profile: Profile, day: int) -> Minutes:
    """Return an undisturbed day of ``profile``; the same arguments give the same day."""
    rng = np.random.default_rng([profile.seed, profile.index, day, 1])
    asleep = _sleep(profile, day, rng)
    effort, steps = _activity(profile, asleep, rng)
    alcohol = rng.random() < profile.alcohol
    rate = _heart(profile, day, asleep, effort, rng, alcohol=alcohol)
    wander = _wander(rng, MINUTES)
    worn, charging = _wear(profile, asleep, rng)
    return Minutes(
        t_ms=day_start_ms(profile, day) + _MINUTE * MINUTE_MS,
        asleep=asleep,
        steps=steps,
        rate=rate,
        breaths=profile.breaths + np.where(asleep, 0.0, 2.0) + 0.5 * wander + 0.04 * effort,
        saturation=profile.saturation + np.where(asleep, 0.0, 0.6) + 0.5 * _wander(rng, MINUTES),
        rmssd=profile.rmssd * (0.75 if alcohol else 1.0) * np.exp(0.18 * _wander(rng, MINUTES)),
        skin=profile.skin + rng.normal(0.0, 0.15) + 0.2 * _wander(rng, MINUTES),
        core=profile.core + 0.3 * np.cos((_MINUTE - 5 * 60) / MINUTES * 2 * np.pi) + 0.05 * wander,
        worn=worn,
        charging=charging,
        poor=np.zeros(MINUTES, bool),
        battery=_battery(charging, profile),
    )


def _wander(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Return slow noise of mean 0 and standard deviation 1."""
    return np.convolve(rng.standard_normal(n + len(_SLOW)), _SLOW)[len(_SLOW) : len(_SLOW) + n]


def _sleep(profile: Profile, day: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    weekend = 35.0 if (day + 4) % 7 in (5, 6) else 0.0  # Friday and Saturday; day 0 is a Thursday
    bed = profile.bedtime + weekend + rng.normal(0, 22)
    wake = min(bed + profile.sleep + rng.normal(0, 28), MINUTES - 60)
    asleep = (bed <= _MINUTE) & (wake > _MINUTE)
    for start in rng.uniform(bed + 40, wake - 30, int(rng.integers(1, 5))):
        asleep[int(start) : int(start + rng.integers(2, 8))] = False
    return asleep


def _activity(
    profile: Profile, asleep: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (effort, steps) a minute; effort is in steps a minute, exercise counting for more."""
    steps = np.zeros(MINUTES)
    extra = np.zeros(MINUTES)
    awake = np.flatnonzero(~asleep)
    for start in rng.choice(awake, int(rng.poisson(34))):  # about the house
        steps[start : start + rng.integers(1, 6)] = rng.uniform(8, 55)
    for start in rng.choice(awake, int(rng.poisson(profile.walks))):
        length = int(rng.integers(8, 28))
        steps[start : start + length] = rng.normal(rng.uniform(88, 112), 6, len(steps[start : start + length]))
    if rng.random() < profile.exercise:
        start, length = int(rng.uniform(4.5, 8.5) * 60), int(rng.integers(25, 50))
        steps[start : start + length] = rng.normal(156, 5, length)
        extra[start : start + length] = rng.uniform(110, 190) * np.minimum(1, np.arange(length) / 8)
    steps[asleep] = 0.0
    steps = np.rint(steps.clip(0, 185))
    return np.where(asleep, 0.0, steps + extra), steps


def _heart(
    profile: Profile,
    day: int,
    asleep: NDArray[np.bool_],
    effort: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    alcohol: bool,
) -> NDArray[np.float64]:
    rest = profile.resting_rate + profile.drift[day % DAYS_REMEMBERED]
    depth = np.convolve(asleep, np.full(31, 1 / 31), "same")  # falling asleep takes a while
    night = profile.night_dip * depth + 2.0 * depth * np.sin(np.cumsum(asleep) / max(asleep.sum(), 1) * np.pi)
    swing = profile.circadian * np.cos((_MINUTE - 5 * 60) / MINUTES * 2 * np.pi) * (1 - depth)
    quiet = rest - night + swing
    if alcohol:
        onset = np.clip((_MINUTE - (profile.bedtime - 150)) / 120, 0, 1)
        quiet = quiet + rng.uniform(4, 9) * onset * np.exp(-np.clip(_MINUTE - profile.bedtime - 60, 0, None) / 200)
    follow = np.convolve(profile.rate_per_step * effort, _LAG)[:MINUTES]
    noise = _wander(rng, MINUTES) * np.where(asleep, 1.5, 3.2)
    rate: NDArray[np.float64] = np.minimum(quiet + follow + noise, np.maximum(TOP_RATE - np.abs(noise), quiet))
    return rate


def _wear(
    profile: Profile, asleep: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    charging = np.zeros(MINUTES, bool)
    start = int(profile.charge_at + rng.normal(0, 15))
    charging[start : start + int(rng.integers(30, 75))] = True
    worn = ~charging
    if rng.random() < profile.missed_night:
        night = np.flatnonzero(asleep)
        worn[max(0, night[0] - 20) : night[-1] + 10] = False
    return worn, charging


def _battery(charging: NDArray[np.bool_], profile: Profile) -> NDArray[np.float64]:
    end = int(np.flatnonzero(charging)[-1])
    since = (_MINUTE - end) % MINUTES
    level = np.asarray(100.0 - since * (50.0 / MINUTES), np.float64)
    length = int(charging.sum())
    level[charging] = 52.0 + np.arange(length) * (48.0 / max(length - 1, 1))
    return level
