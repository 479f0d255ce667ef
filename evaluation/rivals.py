"""Other rules and baselines on the same nights, for the injected events: each as loud as what runs now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from detectors.daily import LIMITS, Daily
from detectors.protocol import Bools, Doubles, Ints
from evaluation.heard import Nights
from evaluation.references import MEMORY, RATE, REFERENCES

SLOW, FORTNIGHT = "slow mean (alerts)", "fortnight (bands)"  # what runs now
Active = Callable[[Ints, Doubles], Bools]  # (day (D,), value (D,)) → (D,)


EVERY: Final[Mapping[str, tuple[Callable[[Ints, Doubles], Bools], Doubles]]] = {
    name: (reference.active, reference.thresholds) for name, reference in REFERENCES.items()
}
"""(T, D) paths by rule, with the thresholds (T,), strictest last."""


def begins(active: Bools) -> Bools:
    """Return where an alert begins, along the last axis."""
    before = np.concatenate([np.zeros((*active.shape[:-1], 1), bool), active[..., :-1]], axis=-1)
    return np.asarray(active & ~before)


def as_loud(nights: list[Nights], episodes: int) -> dict[str, Active]:
    """Return each rule at the least strict threshold at which it begins at most so many alerts on these nights."""
    chosen: dict[str, Active] = {}
    for name, (paths, _) in EVERY.items():
        counts = np.sum([begins(paths(one.day, one.value)).sum(1) for one in nights], axis=0)
        over = np.flatnonzero(counts > episodes)
        first = max(int(over[-1]) + 1 if len(over) else 0, int(np.argmax(counts)))
        chosen[name] = _at(paths, min(first, len(counts) - 1))
    return chosen


def _at(paths: Callable[[Ints, Doubles], Bools], place: int) -> Active:
    return lambda day, value: np.asarray(paths(day, value)[place])


def baselines(nights: Nights) -> dict[str, Doubles]:
    """Return (D,) where each baseline lay before each night."""
    value = nights.value
    ewma, slow_mean, median = (np.full(len(value), np.nan) for _ in range(3))
    mean = 0.0
    detector = Daily()
    state = detector.new_state(1)
    for i in range(len(value)):
        ewma[i], slow_mean[i] = mean, float(state["mean"][0, 0])
        median[i] = np.median(value[max(0, i - MEMORY) : i]) if i else 0.0
        mean += max(RATE, 1 / (i + 1)) * (value[i] - mean)
        values = np.full((1, len(detector.channels)), np.nan)
        values[0, 0] = value[i]
        detector.advance(state, np.array([0]), nights.day[i : i + 1], values, LIMITS["0.1"])
    return {SLOW: slow_mean, FORTNIGHT: nights.center, "ewma_0.05": ewma, "median_28": median}
