"""Made-up people: nights and days that vary as real people's do, where the real ones are too few for a figure.

FROZEN: this file was fixed before any detector's figure on these people was seen, and what it draws must not change
afterwards. Everything follows from SEED, the person's number and the quantity.

A quantity of a person's days is their own mean, plus their own spread times the sum of what changes over a month, what
lasts a few days, what is of the day alone, and the weekday. What is new of a day has heavy tails, and goes up further
than down where the real days do. Sources: (a) summary statistics of the healthy days of the 58 people of
``onset_daily`` who have 28 or more (medians over people; no single person was matched), (b) the same of the nights of
``wearable_hr``, (c) papers, (d) assumed; which it is, is written beside each constant.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from scipy.signal import lfilter
from scipy.special import beta

from detectors.protocol import Doubles
from evaluation.days import CHANNELS, Person

SEED: Final = 20_261_129
SETTLING: Final = 120  # days drawn before the first one that is used
SLOW_MEMORY: Final = 0.97  # of what changes over a month, from day to day (a: 1.4 /min between two months of heart)
FAR_FROM_ILL: Final = 1000  # first day: nobody here falls ill
WEEKDAY: Final = 0.18  # spreads between weekdays (a: 0.70 of 3.97 /min, 676 of 3,573 steps)


class Quantity(NamedTuple):
    """How a daily quantity varies; units are its own."""

    center: float
    between: float  # SD between people's means
    spread: float  # SD of a person's days, the median of people
    spreads: float  # SD of the logarithm of that between people
    slow: float  # share of the variance that changes over a month
    lasting: float  # share that lasts some days; the rest is of the day alone
    memory: float  # of the lasting part, from day to day
    freedom: float  # of Student's t: how heavy the tails are
    upward: float = 1.0  # how much further up than down, each way


HEART: Final = Quantity(77.8, 7.15, 4.2, 0.30, 0.28, 0.64, 0.58, 6, 1.2)
"""(a) Basal heart rate, /min: SD within a person 3.97 (3.2 to 6.6 for four fifths); days are alike by 0.56, 0.32, 0.24,
0.15 after 1, 2, 3, 7 days; of the changes from one day to the next 1.1 % are beyond 3 robust SDs, twice as many up."""
LOG_STEPS: Final = Quantity(8.81, 0.46, 0.85, 0.45, 0.10, 0.35, 0.45, 2.3)
"""(a) The natural logarithm of 1 + steps: robust SD 0.51 (0.29 to 0.97); alike by 0.24, 0.15, 0.09, 0.08; 3.9 % of the
changes are beyond 3 robust SDs."""
WITH_STEPS: Final = 0.28
"""(a) Correlation of a day's heart rate with the logarithm of its steps."""
MOST_LOG_STEPS: Final = 10.6  # 40,000 steps
NAMES: Final = ("heart", "log_steps", "rest", "breath", "skin", "spo2", "log_rmssd", "log_falls", "habits")


def draws(name: str, number: int) -> np.random.Generator:
    """Return the source of one person's one quantity."""
    return np.random.default_rng([SEED, number, NAMES.index(name)])


def course(quantity: Quantity, rng: np.random.Generator, days: int) -> Doubles:
    """Return (days,) how far a person's days lie from their mean, in their own spreads."""
    n = days + SETTLING
    slow = _remembering(rng.standard_normal(n), SLOW_MEMORY)
    lasting = _remembering(_new(quantity, rng, n), quantity.memory)
    alone = _new(quantity, rng, n)
    rest = 1 - quantity.slow - quantity.lasting
    total = np.sqrt(quantity.slow) * slow + np.sqrt(quantity.lasting) * lasting + np.sqrt(rest) * alone
    weekdays = WEEKDAY * rng.standard_normal(7)
    return np.asarray(total[SETTLING:] + weekdays[np.arange(days) % 7])


def person_of(quantity: Quantity, rng: np.random.Generator) -> tuple[float, float]:
    """Return a person's own mean and spread."""
    mean = quantity.center + quantity.between * float(np.clip(rng.standard_normal(), -2.5, 2.5))
    return mean, quantity.spread * float(np.exp(quantity.spreads * np.clip(rng.standard_normal(), -2.5, 2.5)))


def with_steps(heart: Doubles, steps: Doubles) -> Doubles:
    """Return a course of the heart rate that goes with that of the steps."""
    return np.asarray(np.sqrt(1 - WITH_STEPS**2) * heart + WITH_STEPS * steps)


def nights(people: int, days: int) -> list[Person]:
    """Return people with a basal rate and steps on each of so many days, far from any illness.

    >>> one = nights(3, 150)[2]
    >>> len(one.day), bool((np.abs(one.value[:, 0] - 78) < 60).all())
    (150, True)
    >>> bool((nights(9, 150)[2].value[:, 0] == one.value[:, 0]).all())  # whoever is beside
    True
    """
    return [_nights(number, days) for number in range(people)]


def _nights(number: int, days: int) -> Person:
    of_heart, of_steps = draws("heart", number), draws("log_steps", number)
    mean, spread = person_of(HEART, of_heart)
    usual_steps, steps_spread = person_of(LOG_STEPS, of_steps)
    steps = course(LOG_STEPS, of_steps, days)
    value = np.full((days, len(CHANNELS)), np.nan)
    value[:, CHANNELS.index("basal")] = mean + spread * with_steps(course(HEART, of_heart, days), steps)
    walked = np.clip(usual_steps + steps_spread * steps, 0, MOST_LOG_STEPS)
    value[:, CHANNELS.index("steps")] = np.rint(np.expm1(walked))
    return Person(f"made-up-{number:03d}", np.arange(days, dtype=np.int32) + FAR_FROM_ILL, value, "")


def _remembering(new: Doubles, memory: float) -> Doubles:
    return np.asarray(lfilter([np.sqrt(1 - memory**2)], [1, -memory], new))


def _new(quantity: Quantity, rng: np.random.Generator, n: int) -> Doubles:
    """Return (n,) of mean 0 and SD 1: Student's t, its upper half wider than the lower."""
    freedom, up = quantity.freedom, quantity.upward
    drawn = rng.standard_t(freedom, n) * np.sqrt((freedom - 2) / freedom)
    stretched = np.where(drawn > 0, drawn * up, drawn / up)
    half = np.sqrt(freedom - 2) / ((freedom - 1) * beta(0.5, freedom / 2))  # half the mean of |drawn|
    mean = half * (up - 1 / up)
    return np.asarray((stretched - mean) / np.sqrt((up**2 + up**-2) / 2 - mean**2))
