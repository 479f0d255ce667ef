"""Made-up people for the detectors' tests: minutes of a day with a night, walks and a given resting rate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detectors.baseline import NIGHT_HEART
from detectors.choices import NOBODYS, Choices
from detectors.daily import LIMITS
from detectors.days import close_days
from detectors.pipeline import Pipeline
from detectors.protocol import DAY_MS, HOUR_MS, STEPS, VITALS, Finding, HourSlice, State, blank_hour
from detectors.settled import Days, Settled

START_MS = 1_760_486_400_000  # a midnight UTC
METRICS = {name: i for i, name in enumerate(VITALS)}


def hour_of(number: int, rate: NDArray[np.float64], seed: int = 0, offset: int = 0) -> HourSlice:
    """Hour ``number`` since START_MS of R people with night heart rates ``rate`` (R,) and quiet noise."""
    rng = np.random.default_rng([seed, number])
    n, local_hour = len(rate), (number + offset // 60) % 24
    hour = blank_hour(list(range(n)), [START_MS + number * HOUR_MS] * n, [offset] * n)
    asleep = local_hour >= 23 or local_hour < 7
    heart = rate[:, None] + (0 if asleep else 12) + rng.normal(0, 2, (n, 60))
    if not asleep and local_hour % 4 == 1:  # a walk
        heart[:, :20] += 30
        hour.mean[:, :20, STEPS] = 100
    fill(hour, "heart_rate", heart)
    fill(hour, "spo2", 96.5 + rng.normal(0, 0.5, (n, 60)))
    fill(hour, "respiratory_rate", 14 + rng.normal(0, 0.6, (n, 60)))
    hour.mean[:, :, STEPS] = np.nan_to_num(hour.mean[:, :, STEPS])
    hour.good[:, :, STEPS] = 1
    return hour


def fill(hour: HourSlice, metric: str, values: NDArray[np.float64]) -> None:
    """Put minute means (R, 60) of four readings each into ``hour``."""
    m = METRICS[metric]
    hour.mean[:, :, m] = values
    hour.low[:, :, m], hour.high[:, :, m] = values - 0.5, values + 0.5
    hour.good[:, :, m] = 4


def live(pipeline: Pipeline, state: State, days: range, rise: NDArray[np.float64], seed: int = 0) -> list[Settled]:
    """Settle whole days for people at 60 /min plus ``rise`` (days, R), each day with its own level."""
    settled = []
    for k, day in enumerate(days):
        level = 60 + np.random.default_rng([seed, day, 7]).normal(0, 1.5, rise.shape[1]) + rise[k]
        settled += [pipeline.settle(state, hour_of(day * 24 - 14 + h, level, seed)) for h in range(24)]
    return settled


def daily(settled: list[Settled]) -> Days:
    """All closed daily values."""
    return Days.join([one.days for one in settled])


def nights(settled: list[Settled]) -> Days:
    """The closed nights of heart rate asleep."""
    days = daily(settled)
    return days.take((days.metric == METRICS["heart_rate"]) & (days.context == 0))


def local_day(day: int) -> int:
    """The number of the local day (at UTC) that ends on day ``day`` of ``live``."""
    return START_MS // DAY_MS + day


def nightly_rates(
    rates: NDArray[np.float64], state: State | None = None, first: int = 1, pair: int = NIGHT_HEART,
    chosen: Choices = NOBODYS,
) -> list[Finding]:  # fmt: skip
    """What the close of each day says of nightly values (days, R) of one baseline alone; NaN is an unknown night."""
    days, people = rates.shape
    state = Pipeline().new_state(people) if state is None else state
    found = []
    for number in range(days):
        day = local_day(first) + number
        known = np.isfinite(rates[number])
        state["open_day"], state["day"]["n"][:, pair] = day, np.where(known, 180, 0)
        state["day"]["sum"][:, pair] = np.rint(np.nan_to_num(rates[number]) * 1000) * 180
        hour = blank_hour(range(people), [day * DAY_MS + 11 * HOUR_MS] * people, [0] * people)
        found += close_days(state, hour, np.arange(people), LIMITS["0.1"], chosen=chosen)[0]
    return found
