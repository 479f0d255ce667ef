"""How often NEWS2 is told of made-up people who are well: ``python -m evaluation.early``.

Heart rate, saturation and breathing are those of ``made_up_hours``, minute by minute: the latter two asleep only. Where
asked, a cuff and a thermometer are used at 8 and at 20 o'clock; what they show is assumed, like that the people of one
variant are all on oxygen at home, which gives 2 points by itself and is no picture of anybody's lungs.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from detectors.context import STILL_MINUTES
from detectors.early_occasions import Holds, Timelines
from detectors.early_warning import EarlyWarning
from detectors.protocol import MINUTE_MS, STEPS, VITALS, Doubles, HourSlice, Readings
from detectors.scores.observations import PARAMETERS
from evaluation.made_up import SEED
from evaluation.made_up_hours import START_MS, bodies, hours

MEASURED: Final = tuple(key for key in PARAMETERS if key in VITALS and key != "body_temperature")
BY_HAND: Final = {  # mean, SD between people, SD within one
    "systolic_pressure": (125.0, 12.0, 8.0),
    "body_temperature": (36.6, 0.25, 0.25),
}
AT: Final = (8, 20)
MOVING: Final = 50  # steps in the minutes before
PEOPLE, DAYS, FIRST = 100, 28, 3000


def told(people: int, days: int, *, by_hand: bool, home_oxygen: bool) -> list[tuple[int, int]]:
    """Return the alerts of so many people who are well: of whom, and the level at the end."""
    early, rng = EarlyWarning(), np.random.default_rng([SEED, 91])
    state, holds = early.new_state(people), _holds(people, home_oxygen=home_oxygen)
    usual = {key: rng.normal(mean, between, people) for key, (mean, between, _) in BY_HAND.items()}
    worst: dict[tuple[int, int], int] = {}
    before = np.zeros((people, STILL_MINUTES))
    for hour in hours(bodies(people, days, FIRST)):
        steps = np.nan_to_num(hour.mean[:, :, STEPS]).astype(np.float64)
        given = _readings(hour, _still(before, steps), usual if by_hand else {}, rng)
        before = steps[:, -STILL_MINUTES:]
        for one in early.advance(state, given, holds):
            worst[one.row, one.start_ms] = one.level
    return [(row, level) for (row, _), level in sorted(worst.items())]


def _holds(people: int, *, home_oxygen: bool) -> Timelines:
    return {row: [(START_MS, Holds(home_oxygen=True))] for row in range(people)} if home_oxygen else {}


def _still(before: Doubles, steps: Doubles) -> Doubles:
    """Return (R, 60) the steps of each minute and of those before it."""
    total = np.cumsum(np.concatenate([np.zeros((len(steps), 1)), before, steps], axis=1), axis=1)
    return np.asarray(total[:, STILL_MINUTES + 1 :] - total[:, : -STILL_MINUTES - 1])


def _readings(hour: HourSlice, moved: Doubles, usual: dict[str, Doubles], rng: np.random.Generator) -> Readings:
    """Return an hour as readings of its whole minutes."""
    columns: list[tuple[Any, ...]] = []
    for key in MEASURED:
        value = hour.mean[:, :, VITALS.index(key)]
        row, minute = np.nonzero(np.isfinite(value))
        columns.append(
            (row, np.full(len(row), PARAMETERS.index(key)), minute, value[row, minute], moved[row, minute] < MOVING)
        )
    if int(hour.hour_ms[0]) // (60 * MINUTE_MS) % 24 in AT:
        for key, center in usual.items():
            n = len(center)
            shown = rng.normal(center, BY_HAND[key][2])
            columns.append((np.arange(n), np.full(n, PARAMETERS.index(key)), np.zeros(n, int), shown, np.ones(n, bool)))
    row, metric, minute, value, rest = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.lexsort((minute, row))
    t_ms = hour.hour_ms[row] + minute * MINUTE_MS
    return Readings(
        row[order], metric[order].astype(np.int16), t_ms[order], value[order].astype(np.float32),
        np.ones(len(row), bool), rest[order],
    )  # fmt: skip


if __name__ == "__main__":
    for by_hand in (False, True):
        for home_oxygen in (False, True):
            found = told(PEOPLE, DAYS, by_hand=by_hand, home_oxygen=home_oxygen)
            weeks = PEOPLE * DAYS // 7
            print(  # noqa: T201 - what it is for
                f"{weeks} patient-weeks, cuff and thermometer {by_hand}, oxygen at home {home_oxygen}: "
                f"{len(found)} told, {sum(level for _, level in found)} of 7 and more, "
                f"of {len({row for row, _ in found})} people"
            )
