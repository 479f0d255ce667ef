"""Made-up people day by day: what ``made_up_hours`` comes to at the close of each day, without its minutes.

A person's day takes milliseconds here, so that many events can be put into many people. The slow rule is about as loud
as in the whole pipeline (``evaluation.joint``): 0.082, 0.178 and 0.299 alerts a week of 250 people, 0.085, 0.173 and
0.275 there. What hours and minutes decide (rules within a day, days with an hour far out) is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from detectors import devices, windows
from detectors.baseline import (
    ACTIVE_HEART,
    NIGHT_BREATH,
    NIGHT_HEART,
    NIGHT_HRV,
    NIGHT_SKIN,
    NIGHT_SPO2,
    PAIR_CONTEXT,
    PAIR_METRIC,
    PAIRS,
    REST_HEART,
)
from detectors.days import close_days
from detectors.pipeline import Pipeline
from detectors.protocol import DAY_MS, HOUR_MS, Bools, Doubles, Longs, State, blank_hour
from detectors.rise import LEAST_STEPS_MINUTES
from detectors.sums import THOUSAND
from evaluation.made_up import SEED
from evaluation.made_up_hours import (
    DAY_BEGINS,
    HOUR_FREEDOM,
    HOURS_ALIKE,
    NIGHT_HOURS,
    REST_HOURS,
    Bodies,
    bodies,
)

FIRST_DAY: Final = 20_000  # local days are counted from 1970 and must be above 0
CLOSES_MS: Final = 11 * HOUR_MS  # the first hour after a day's end
MINUTES: Final[Mapping[int, int]] = MappingProxyType(
    {NIGHT_HEART: 480, REST_HEART: 600, ACTIVE_HEART: 120, NIGHT_SPO2: 480,
     NIGHT_BREATH: 96, NIGHT_SKIN: 96, NIGHT_HRV: 96}
)  # fmt: skip
"""With a value, of a day on which it was worn."""
_MINUTES: Final = np.array([MINUTES.get(pair, 0) for pair in range(len(PAIRS))])
_BY_DAY: Final = (REST_HEART, ACTIVE_HEART)
WALKING: Final = 20  # /min above rest
FIRST_SHARE: Final = 10 / 12  # of a day's minutes at rest that are measured by a device which comes at noon


@dataclass(frozen=True, slots=True)
class People:
    """N made-up people's D days."""

    values: Doubles  # (N, D, P) means by baseline, NaN where nothing was worn
    steps: Doubles  # (N, D)

    def other(self, pair: int, values: Doubles) -> People:
        """Return them with other values (N, D) of one baseline."""
        changed = self.values.copy()
        changed[:, :, pair] = values
        return replace(self, values=changed)


@dataclass(frozen=True, slots=True)
class Told:
    """What was said of N people's D days."""

    told: Mapping[str, Bools]  # (N, D) by rule: raised, or told to have become worse
    z: Doubles  # (N, D, P) spreads from the usual, NaN where it can't be judged

    def of(self, rule: str) -> Bools:
        """Return (N, D) when a rule told something."""
        return self.told.get(rule, np.zeros(self.z.shape[:2], bool))


def people(n: int, days: int, first: int = 0) -> People:
    """Return so many people, from the ``first`` on, healthy throughout."""
    of = bodies(n, days, first)
    night, rest = _with_hours(of)
    values = np.full((n, days, len(PAIRS)), np.nan)
    values[:, :, REST_HEART], values[:, :, ACTIVE_HEART] = rest, rest + WALKING
    asleep = {
        NIGHT_HEART: night, NIGHT_BREATH: of.breath, NIGHT_SKIN: of.skin, NIGHT_SPO2: of.spo2, NIGHT_HRV: of.rmssd
    }  # fmt: skip
    for pair, level in asleep.items():
        values[:, :, pair] = np.where(of.worn, level, np.nan)
    return People(values, of.steps)


def _with_hours(of: Bodies) -> tuple[Doubles, Doubles]:
    """Return (N, D) heart rates asleep and at rest with what their hours, drawn as there, add to a day."""
    n, days = of.night.shape
    apart, sums, hours = np.zeros(n), np.zeros((2, n, days)), np.zeros((2, days))
    for number in range(DAY_BEGINS, DAY_BEGINS + 24 * days):
        rng = np.random.default_rng([SEED, 77, number])
        new = rng.standard_t(HOUR_FREEDOM, n) * np.sqrt((HOUR_FREEDOM - 2) / HOUR_FREEDOM)
        apart = HOURS_ALIKE * apart + np.sqrt(1 - HOURS_ALIKE**2) * new
        day, local = (number - DAY_BEGINS) // 24, number % 24
        if local in (7, 22):  # awake in bed: counted as asleep by the clock, and left out here
            continue
        which = int(8 <= local < 22)
        sums[which, :, day] += apart
        hours[which, day] += 1
    night, rest = sums / hours[:, None]
    return of.night + NIGHT_HOURS * night, of.rest + REST_HOURS * rest


def live(
    given: People, limit: float, swap: Longs | None = None, opened: Sequence[windows.Window] | None = None
) -> Told:
    """Let people live their days through ``detectors.days.close_days``, as the pipeline does.

    ``limit`` of the slow rule; ``swap`` (N,) the day at whose noon another device comes, None: nobody's; ``opened``
    what is expected of everybody, by `began_ms`.
    """
    n, days, pairs = given.values.shape
    state = Pipeline().new_state(n)
    told: dict[str, Bools] = {}
    z = np.full((n, days, pairs), np.nan)
    pair_of = {(int(PAIR_METRIC[pair]), int(PAIR_CONTEXT[pair])): pair for pair in MINUTES}
    everybody = np.arange(n)
    expected = None if opened is None else windows.Windows(dict.fromkeys(range(n), windows.timeline(opened)))
    for day in range(days):
        _open(state, given, day)
        _measure(state, day, np.full(n, days) if swap is None else swap)
        hour = blank_hour(range(n), [(FIRST_DAY + day) * DAY_MS + CLOSES_MS] * n, [0] * n)
        room = None if expected is None else expected.at(everybody, hour.hour_ms)
        if room is not None:
            windows.begin(state, room)
        findings, table = close_days(state, hour, everybody, limit, opened=expected)
        windows.end(state, room)
        for one in findings:
            if one.change != "cleared":
                told.setdefault(one.rule, np.zeros((n, days), bool))[one.row, day] = True
        cells = [pair_of[key] for key in zip(table.metric.tolist(), table.context.tolist(), strict=True)]
        z[table.row, day, cells] = table.z
    return Told(told, z)


def began_ms(day: int) -> int:
    """Return the midnight before a day's nights and hours."""
    return (FIRST_DAY + day) * DAY_MS


def _open(state: State, given: People, day: int) -> None:
    value = given.values[:, day]
    minutes = np.where(np.isfinite(value), _MINUTES, 0)
    state["open_day"] = FIRST_DAY + day
    state["day"]["n"] = minutes
    state["day"]["sum"] = np.rint(np.nan_to_num(value) * THOUSAND).astype(np.int64) * minutes
    state["day"]["steps"] = np.rint(given.steps[:, day])
    state["day"]["steps_minutes"] = LEAST_STEPS_MINUTES


def _measure(state: State, day: int, swap: Longs) -> None:
    """Say which device measured: 1 before the swap's noon, 2 after it."""
    number = np.where(day >= swap, 2, 1)
    for place, pair in enumerate(devices.WATCHED):
        one = state["devices"][:, place]
        foreign = one["number"][:, devices.PRESENT] != number
        share = np.where((day == swap) & (pair in _BY_DAY), FIRST_SHARE, 1.0)
        one["minutes"][:, 1] = np.where(foreign, np.rint(state["day"]["n"][:, pair] * share), 0)
        one["other"] = np.where(foreign, number, 0)
