"""Made-up people with all vitals, minute by minute, as the pipeline takes them; healthy throughout.

FROZEN, as ``made_up``, whose sources (a) to (d) are meant here too. Days go from 10:00 to 10:00 local time, which is
UTC; asleep from 23:00 to 07:00. Heart rate, steps and oxygen saturation come every minute, the saturation asleep only;
breathing, skin temperature and RMSSD every fifth minute asleep. 3 % of nights nothing is worn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detectors.protocol import HOUR_MS, STEPS, VITALS, Doubles, HourSlice, Rows, blank_hour
from evaluation.made_up import (
    HEART,
    LOG_STEPS,
    MOST_LOG_STEPS,
    SEED,
    Quantity,
    course,
    draws,
    person_of,
    with_steps,
)

START_MS: Final = 1_760_486_400_000  # a midnight UTC
DAY_BEGINS: Final = 10  # local hour

# (c) mean: Quer 2020, 92,457 people. (b) spread: six people's nights, 2.6 to 6.8. How days are alike: as (a).
NIGHT_HEART: Final = HEART._replace(center=65, between=8, spread=3.9, spreads=0.35)
# (b) heart rate at rest by day, eight people: 3.5 to 7.4 /min.
REST_HEART: Final = HEART._replace(center=10, between=3, spread=3.75)  # center: above the night's
REST_WITH_NIGHT: Final = 0.5  # (d)
# (c) Natarajan 2021, 10,000 people: 90 % from 11.8 to 19.2 /min, mean 15.4; coefficient of variation over 14 days 2.3
# to 9.5 % at 20 to 24 years, 2.5 to 21.7 % at 65 to 69: 5 % about the middle. (d) how days are alike, and the tails.
BREATH: Final = Quantity(15.4, 2.25, 0.77, 0.48, 0.15, 0.40, 0.50, 5, 1.1)
# (c) wrist asleep 34.98 SD 0.55 and 34.97 SD 0.34 (JMIR mHealth 2021;9:e26462); a vendor's manual calls 1 degree from
# one night to the next usual. (d) the rest; a cycle for some, half of it warmer.
SKIN: Final = Quantity(34.9, 0.45, 0.45, 0.35, 0.15, 0.35, 0.50, 5, 0.85)
CYCLES, CYCLE_DAYS, LUTEAL = 0.4, 28, 0.3
# (d) the priors of ``detectors.baseline``, which are rounded too; a logarithmic normal distribution of falls an hour.
SPO2: Final = Quantity(96, 1.0, 0.6, 0.35, 0.15, 0.40, 0.50, 5, 0.9)
LOG_FALLS: Final = Quantity(0.7, 0.9, 0.35, 0.3, 0.15, 0.35, 0.50, 8)
# (d) 18 % from night to night: 34 % is the median of 28 people's short sessions by day (``hrv_sessions``), and
# a night's mean varies less.
LOG_RMSSD: Final = Quantity(3.6, 0.45, 0.18, 0.30, 0.20, 0.40, 0.50, 6, 0.9)

REST_HOURS, HOURS_ALIKE, HOUR_FREEDOM = 5.05, 0.58, 10  # (b) SD of an hour about its day, /min; lag one hour
NIGHT_HOURS: Final = 3.5  # (b) 3.2 to 6.8, which holds hours awake in bed
REST_MINUTES, NIGHT_MINUTES = 3.9, 3.3  # (b) SD of a minute about its hour
WALK_RATE, WALK_STEPS, AWAKE_HOURS = 25, 100, 16  # (d)
MISSED_NIGHT: Final = 0.03  # (d)
METRIC: Final = {name: place for place, name in enumerate(VITALS)}


@dataclass(frozen=True, slots=True)
class Bodies:
    """N people's levels of D days; (N, D) each."""

    night: Doubles  # heart rate asleep, /min
    rest: Doubles  # the same at rest by day
    steps: Doubles
    breath: Doubles
    skin: Doubles
    spo2: Doubles
    rmssd: Doubles
    falls: Doubles  # of the saturation, an hour
    worn: NDArray[np.bool_]  # at night


def bodies(people: int, days: int, first: int = 0) -> Bodies:
    """Return so many people, from the ``first`` on; each is the same however many there are."""
    each = (_body(one, days) for one in range(first, first + people))
    return Bodies(*(np.stack(column) for column in zip(*each, strict=True)))


def _body(number: int, days: int) -> tuple[NDArray[Any], ...]:
    rngs = {name: draws(name, number) for name in ("heart", "log_steps", "rest", "habits")}
    mean, spread = person_of(NIGHT_HEART, rngs["heart"])
    usual_steps, steps_spread = person_of(LOG_STEPS, rngs["log_steps"])
    steps = course(LOG_STEPS, rngs["log_steps"], days)
    night = with_steps(course(NIGHT_HEART, rngs["heart"], days), steps)
    gap, rest_spread = person_of(REST_HEART, rngs["rest"])
    by_day = REST_WITH_NIGHT * night + np.sqrt(1 - REST_WITH_NIGHT**2) * course(REST_HEART, rngs["rest"], days)
    walked = np.expm1(np.clip(usual_steps + steps_spread * steps, 0, MOST_LOG_STEPS))
    habits = rngs["habits"]
    phase = (np.arange(days) + int(habits.integers(CYCLE_DAYS))) % CYCLE_DAYS >= CYCLE_DAYS // 2
    luteal = LUTEAL * phase * (habits.random() < CYCLES)
    worn = habits.random(days) >= MISSED_NIGHT
    return (
        np.clip(mean + spread * night, 40, 110), np.clip(mean + gap + rest_spread * by_day, 45, 125), walked,
        _daily("breath", BREATH, number, days), _daily("skin", SKIN, number, days) + luteal,
        _daily("spo2", SPO2, number, days), np.exp(_daily("log_rmssd", LOG_RMSSD, number, days)),
        np.exp(_daily("log_falls", LOG_FALLS, number, days)), worn,
    )  # fmt: skip


def _daily(name: str, quantity: Quantity, number: int, days: int) -> Doubles:
    rng = draws(name, number)
    mean, spread = person_of(quantity, rng)
    return np.asarray(mean + spread * course(quantity, rng, days))


def hours(of: Bodies) -> Iterator[HourSlice]:
    """Yield everybody's hours, in order; each is new, and all are whole."""
    people, days = of.night.shape
    apart = np.zeros(people)  # of this hour from its day
    for number in range(DAY_BEGINS, DAY_BEGINS + 24 * days):
        rng = np.random.default_rng([SEED, 77, number])
        new = rng.standard_t(HOUR_FREEDOM, people) * np.sqrt((HOUR_FREEDOM - 2) / HOUR_FREEDOM)
        apart = HOURS_ALIKE * apart + np.sqrt(1 - HOURS_ALIKE**2) * new
        day = (number - DAY_BEGINS) // 24
        local = number % 24
        asleep, in_bed = local >= 23 or local < 7, local >= 22 or local < 8
        hour = blank_hour(range(people), [START_MS + number * HOUR_MS] * people, [0] * people)
        (_asleep if asleep else _awake)(hour, of, day, apart, rng)
        if in_bed:
            _take_off(hour, np.flatnonzero(~of.worn[:, day]))
        yield hour


def _awake(hour: HourSlice, of: Bodies, day: int, apart: Doubles, rng: np.random.Generator) -> None:
    n = len(apart)
    walk = np.minimum(rng.exponential(of.steps[:, day] / WALK_STEPS / AWAKE_HOURS), 45)[:, None]
    since = np.arange(60) - rng.integers(0, 15, n)[:, None]  # of the walk's beginning
    walking = (since >= 0) & (since < walk)
    heart = of.rest[:, day, None] + REST_HOURS * apart[:, None] + REST_MINUTES * rng.standard_normal((n, 60))
    rising = np.clip(np.minimum(since + 1, walk + 2 - since) / 2, 0, 1)  # within two minutes
    _fill(hour, "heart_rate", heart + WALK_RATE * rising)
    _fill(hour, "steps", np.where(walking, WALK_STEPS, 0.0))


def _asleep(hour: HourSlice, of: Bodies, day: int, apart: Doubles, rng: np.random.Generator) -> None:
    n = len(apart)

    def about(level: Doubles, minute: float) -> Doubles:
        return np.asarray(level[:, day, None] + minute * rng.standard_normal((n, 60)))

    _fill(hour, "heart_rate", about(of.night, NIGHT_MINUTES) + NIGHT_HOURS * apart[:, None])
    _fill(hour, "steps", np.zeros((n, 60)))
    falling = rng.random((n, 60)) < of.falls[:, day, None] / 60
    fall = np.where(falling, rng.uniform(4, 9, (n, 60)), 0)
    _fill(hour, "spo2", np.rint(np.clip(about(of.spo2, 0.8) - fall, 60, 100)))
    every = np.arange(0, 60, 5)
    _fill(hour, "respiratory_rate", about(of.breath, 1.2), every)
    _fill(hour, "skin_temperature", about(of.skin, 0.25), every)
    _fill(hour, "hrv_rmssd", of.rmssd[:, day, None] * np.exp(0.25 * rng.standard_normal((n, 60))), every)


def _fill(hour: HourSlice, metric: str, value: Doubles, minutes: Rows | slice = slice(None)) -> None:
    place = METRIC[metric]
    for name in ("mean", "low", "high"):
        getattr(hour, name)[:, minutes, place] = value[:, minutes]
    if place != STEPS:
        hour.low[:, minutes, place] -= 0.1  # no minute is the very same throughout: no sensor that hangs
    hour.good[:, minutes, place] = 1


def _take_off(hour: HourSlice, rows: Rows) -> None:
    hour.good[rows] = 0
    for name in ("mean", "low", "high"):
        getattr(hour, name)[rows] = np.nan
