"""How often a fast gain of weight is told of made-up people, well and gaining: ``python -m evaluation.weights``.

A morning's weight is 80 kg and noise of some SD, to 0.1 kg; people step on the scale on so many of the mornings, and on
some of them twice. A gain is spread evenly over so many days, and stays. No real weights were at hand: how weights vary
is assumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.protocol import DAY_MS, HOUR_MS, MINUTE_MS, Doubles, Finding, Readings
from detectors.weight_gain import WEIGHT, WeightGain
from detectors.weights import GAIN_DAYS, GAIN_KG
from evaluation.made_up import SEED

START_MS: Final = 20_500 * DAY_MS + 7 * HOUR_MS
USUAL: Final = 80.0
REPEATED: Final = 0.1  # kg, SD between two readings of one weighing
PEOPLE, DAYS, GAINS_ON = 500, 84, 28


@dataclass(frozen=True, slots=True)
class Way:
    """How people weigh themselves: SD of their mornings, shares of mornings, and of those twice or somebody else."""

    sd: float
    weighed: float = 1.0
    twice: float = 0.0
    somebody_else: float = 0.0  # 15 kg less, in place of the person


def mornings(way: Way, people: int, days: int, gain: float = 0.0, over: int = GAIN_DAYS) -> Readings:
    """Return so many people's readings; ``gain`` kg come over so many days from day ``GAINS_ON`` on."""
    rng = np.random.default_rng([SEED, 77])
    rises = gain * np.clip((np.arange(days) - GAINS_ON + 1) / over, 0, 1)
    level = USUAL + rises + way.sd * rng.normal(size=(people, days))
    level -= 15 * (rng.random((people, days)) < way.somebody_else)
    shown = np.stack([level, level + REPEATED * rng.normal(size=(people, days))], axis=2)
    there = rng.random((people, days, 2)) < np.array([way.weighed, way.twice])
    there[:, :, 1] &= there[:, :, 0]
    row, day, which = np.nonzero(there)
    t_ms = START_MS + day * DAY_MS + which * MINUTE_MS
    value = np.round(shown[row, day, which], 1).astype(np.float32)
    yes = np.ones(len(row), bool)
    return Readings(row, np.full(len(row), WEIGHT, np.int16), t_ms, value, yes, yes)


def told(readings: Readings, people: int) -> list[Finding]:
    """Return what the rule finds of them."""
    gains = WeightGain()
    return gains.update(gains.new_state(people), readings)


def once(readings: Readings, people: int, days: int) -> int:
    """Return how often one reading alone would have told it: on how many days, less those right after one."""
    weight = np.full((people, days), np.nan)
    day = (readings.t_ms - START_MS) // DAY_MS
    weight[readings.row[::-1], day[::-1]] = readings.value[::-1]  # the first of a day stays
    beyond = np.zeros((people, days), bool)
    for at in range(1, days):
        before = weight[:, max(0, at - GAIN_DAYS) : at]
        low = np.fmin.reduce(before, axis=1)
        beyond[:, at] = np.round(weight[:, at] - low, 2) > GAIN_KG
    beyond[:, 1:] &= ~beyond[:, :-1]
    return int(beyond.sum())


def well(way: Way, people: int = PEOPLE, days: int = DAYS) -> dict[str, float]:
    """Return the alerts of people whose weight stays, a patient-week, and how many of them became worse."""
    readings, weeks = mornings(way, people, days), people * days / 7
    changes = [one.change for one in told(readings, people)]
    raised, worsened = changes.count("raised"), changes.count("worsened")
    return {
        "raised": raised, "a_week": raised / weeks, "worsened_a_week": worsened / weeks,
        "once_a_week": once(readings, people, days) / weeks,
    }  # fmt: skip


def gaining(way: Way, gain: float, over: int, people: int = PEOPLE) -> dict[str, float]:
    """Return which share of gains is told within a week of their end, and how many days after their beginning."""
    days = GAINS_ON + over + 7
    found = told(mornings(way, people, days, gain, over), people)
    began = START_MS + GAINS_ON * DAY_MS
    first: dict[int, int] = {}
    for one in found:
        if one.change == "raised" and one.at_ms >= began:
            first.setdefault(one.row, (one.at_ms - began) // DAY_MS + 1)
    after: Doubles = np.array([*first.values()], np.float64)
    return {"told": len(first) / people, "days": float(np.median(after)) if len(after) else float("nan")}


if __name__ == "__main__":
    for way in [
        *(Way(sd) for sd in (0.4, 0.6, 0.8, 1.0)), Way(0.6, weighed=0.7), Way(0.6, twice=0.3),
        Way(0.6, somebody_else=0.05), Way(0.6, weighed=0.4),
    ]:  # fmt: skip
        found = well(way)
        print(f"{way}: {found['raised']:.0f} in {PEOPLE * DAYS // 7} patient-weeks, {found['a_week']:.4f} a week, "  # noqa: T201
              f"worse {found['worsened_a_week']:.4f}; by one reading alone {found['once_a_week']:.3f}")  # fmt: skip
    for way in (Way(0.4), Way(0.6), Way(0.4, weighed=0.7), Way(0.4, weighed=0.4)):
        for gain, over in ((2.5, 3), (3.0, 3), (4.0, 3), (4.0, 7), (2.0, 21)):
            seen = gaining(way, gain, over)
            print(f"{way}, {gain} kg over {over} days: told {seen['told']:.0%}, day {seen['days']:.0f}")  # noqa: T201
