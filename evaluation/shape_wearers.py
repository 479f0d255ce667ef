"""Does the course of the day tell that somebody else wears the device? ``evaluation.exchanged``'s exchanges once more.

The scores of days follow one another as the nights' of ``detectors.wearer`` do: a mean that follows by a quarter. It is
asked where that passes a limit, the least one at which own days are asked about as seldom as allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from scipy.stats import norm

from detectors.protocol import Bools, Doubles
from detectors.shape import Shape
from detectors.wearer import MEAN_MOST, NIGHT_MOST, SHARE
from evaluation.exchanged import NIGHTS, OTHERS, exchange, worn_by
from evaluation.injected import Subject
from evaluation.seeds import share
from evaluation.shape_events import hourly
from simulators.series import DAY_MS, MINUTE_MS, Series

ALLOWED: Final = (0.005, 0.05)  # questions a week
LIMITS: Final = np.arange(0.0, MEAN_MOST + 0.01, 0.02)
CLOSES_MS: Final = 14 * 3_600_000  # from a day's end to midnight


def evaluate(people: Sequence[Subject]) -> dict[str, Any]:
    """Return how many exchanges are asked about within how many nights, by how often own days are."""
    own = [_means(one, one.streams["heart_rate"])[1] for one in people]
    weeks = sum(len(means) for means in own) / 7
    began = np.array([_begins(means).sum(axis=1) for means in own]).sum(axis=0)
    asked: list[Bools] = []  # an exchange each, (T, nights)
    for step in range(1, OTHERS + 1):
        for i, one in enumerate(people):
            event = exchange(people, i, step)
            if event is None:
                continue
            heart = worn_by(one, people[event.other], event)["heart_rate"]
            first, means = _means(one, heart)
            start = (event.start_ms + one.offset_min * MINUTE_MS + CLOSES_MS) // DAY_MS
            inside = slice(start - first, start - first + max(NIGHTS))
            asked.append(_begins(means)[:, inside])
    found = {}
    for allowed in ALLOWED:
        over = np.flatnonzero(began > allowed * weeks)
        place = min(int(over[-1]) + 1 if len(over) else 0, len(LIMITS) - 1)
        nights = {str(n): sum(bool(one[place, :n].any()) for one in asked) for n in NIGHTS}
        found[f"{allowed:g}"] = {
            "limit": round(float(LIMITS[place]), 2), "own": int(began[place]),
            "nights": {n: {"found": count, **vars(share(count, len(asked)))} for n, count in nights.items()},
        }  # fmt: skip
    return {"exchanges": len(asked), "weeks": round(weeks, 1), "allowed": found}


def _means(one: Subject, heart: Series) -> tuple[int, Doubles]:
    """Return the first day and (D,) the mean score of a person's days, as it stands after each."""
    first, rates = hourly(heart, one.offset_min)
    shape, mean, found = Shape(), 0.0, []
    state = shape.new_state(1)
    for at, rate in enumerate(rates):
        p = float(shape.advance(state, np.array([0]), np.array([at + 1], "i4"), rate[None]).p[0])
        if np.isfinite(p):
            score = float(np.clip(norm.isf(p), -NIGHT_MOST, NIGHT_MOST))
            mean = float(np.clip(mean + SHARE * (score - mean), -MEAN_MOST, MEAN_MOST))
        found.append(mean)
    return first, np.array(found)


def _begins(means: Doubles) -> Bools:
    """Return (T, D) where a mean passes each of LIMITS."""
    above = means > LIMITS[:, None]
    return np.asarray(above & ~np.concatenate([np.zeros((len(LIMITS), 1), bool), above[:, :-1]], axis=1))
