"""What baselines take up of an event: of a week of it, and how long they take to learn one that stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from detectors.protocol import Doubles
from evaluation.heard import Heard, Nights
from evaluation.injector import Event
from evaluation.rivals import baselines
from simulators.series import DAY_MS, MINUTE_MS

QUESTION: Final = "resting_heart_rate_new_normal"
LEARNED_BPM: Final = 4.0  # of 5: the new normal is learned


def contamination(
    events: list[Event], offsets_min: Sequence[int], before: list[Heard], heard: list[Heard]
) -> dict[str, Any]:
    """Return how far each baseline lies above where it would lie, one day and 14 days after a week of +5 /min."""
    found: dict[str, Any] = {}
    for label, days in (("after_1_d", 1), ("after_14_d", 14)):
        biases: dict[str, list[float]] = {}
        for event, offset, plain, each in zip(events, offsets_min, before, heard, strict=True):
            day = (event.end_ms + offset * MINUTE_MS) // DAY_MS + days
            for name, difference in _differences(plain.nights, each.nights).items():
                near = np.flatnonzero((each.nights.day >= day) & (each.nights.day < day + 3))
                if len(near) and np.isfinite(difference[near[0]]):
                    biases.setdefault(name, []).append(float(difference[near[0]]))
        found[label] = {name: _spread(values) for name, values in biases.items()}
    return found


def relearning(
    events: list[Event], offsets_min: Sequence[int], before: list[Heard], heard: list[Heard]
) -> dict[str, Any]:
    """Return after how many days each baseline has taken up 4 of a lasting 5 /min; missing: not within the data.

    Beside it of how many it is asked whether it is a new normal, and of how many that is asked without it too.
    """
    found: dict[str, Any] = {}
    followed = []
    for event, offset, plain, each in zip(events, offsets_min, before, heard, strict=True):
        start = (event.start_ms + offset * MINUTE_MS) // DAY_MS
        followed.append(int(each.nights.day[-1]) - start if len(each.nights.day) else 0)
        for name, difference in _differences(plain.nights, each.nights).items():
            learned = np.flatnonzero((difference >= LEARNED_BPM) & (each.nights.day > start))
            days = float(each.nights.day[learned[0]] - start) if len(learned) else None
            found.setdefault(name, []).append(days)
    return {
        "followed_days_median": float(np.median(followed)) if followed else None,
        "asked": _asked(events, heard) | {"anyway": _asked(events, before)["asked"]},
        **{
            name: {
                "n": len(days),
                "learned": sum(one is not None for one in days),
                "days_median_of_learned": float(np.median([d for d in days if d is not None])) if any(days) else None,
            }
            for name, days in found.items()
        },
    }


def _asked(events: list[Event], heard: list[Heard]) -> dict[str, Any]:
    each = [
        min((alert.found_ms - event.start_ms for alert in one.alerts if alert.rule == QUESTION
             and alert.found_ms > event.start_ms), default=None)
        for event, one in zip(events, heard, strict=True)
    ]  # fmt: skip
    days = [ms / DAY_MS for ms in each if ms is not None]
    return {"n": len(each), "asked": len(days), "days_median": float(np.median(days)) if days else None}


def _differences(plain: Nights, injected: Nights) -> dict[str, Doubles]:
    """Return (D,) each baseline with the event less without it, on the nights of the injected run; NaN where none."""
    found = {}
    for name, with_it in baselines(injected).items():
        without = dict(zip(plain.day.tolist(), baselines(plain)[name].tolist(), strict=True))
        found[name] = with_it - np.array([without.get(day, np.nan) for day in injected.day.tolist()])
    return found


def _spread(values: list[float]) -> dict[str, Any]:
    low, middle, high = (float(q) for q in np.quantile(values, [0.1, 0.5, 0.9]))
    return {"n": len(values), "median": round(middle, 2), "p10": round(low, 2), "p90": round(high, 2)}
