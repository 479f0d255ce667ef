"""Figures at an alert budget, with intervals that resample whole people, and rules compared where they cost the same.

A rule's threshold at a budget is the least strict one, coming from the strict end, at which the rate of alert episodes
in healthy spans is still within it; a rule that is always on begins few episodes, so thresholds below the peak of the
rate are never taken. The choice is made anew in each resample: the interval holds the doubt of choosing too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from detectors.protocol import Doubles, Rows
from evaluation.windows import Counts

BUDGETS: Final = (0.1, 0.2, 0.3)
RESAMPLED: Final = 2000
SEED: Final = 20_261_128
LEVEL: Final = 0.95


def resampled(n: int, times: int = RESAMPLED, seed: int = SEED) -> Doubles:
    """Return (1 + times, n) how often each person counts: first everybody once, then people drawn with replacement."""
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=times) if n else np.zeros((times, 0))
    return np.concatenate([np.ones((1, n)), draws.astype(np.float64)])


@dataclass(frozen=True, slots=True)
class Rates:
    """A rule in each of B resamples; (T + 1, B) each, the last threshold being "never"."""

    sensitivity: Doubles
    control: Doubles
    started: Doubles
    started_control: Doubles
    rate: Doubles  # alert episodes a patient-week in healthy spans

    @classmethod
    def of(cls, counts: Counts, weights: Doubles) -> Rates:
        """Return the shares and rates of ``counts`` (T, N) under ``weights`` (B, N)."""
        people, windows, weeks = weights.sum(1), weights @ counts.windows, weights @ counts.weeks

        def share(what: Doubles, of: Doubles) -> Doubles:
            found = (what @ weights.T) / np.where(of > 0, of, np.nan)
            return np.asarray(np.concatenate([found, np.zeros((1, len(weights)))]))

        return cls(
            share(counts.hit, people), share(counts.flagged, windows), share(counts.started, people),
            share(counts.started_flagged, windows), share(counts.episodes, weeks),
        )  # fmt: skip

    def at(self, place: Rows) -> Doubles:
        """Return (5, B): sensitivity, control, the same by start, rate at threshold ``place`` (B,) of each resample."""
        every = np.arange(len(place))
        columns = (self.sensitivity, self.control, self.started, self.started_control, self.rate)
        return np.stack([column[place, every] for column in columns])

    def within(self, budget: float | Doubles) -> Rows:
        """Return (B,) the threshold at a budget."""
        return _first_within(self.rate, budget)

    def cost(self, what: str, value: Doubles) -> tuple[Doubles, Doubles]:
        """Return (B,) sensitivity and control where ``rate`` or ``control`` is exactly ``value`` (B,).

        Between two thresholds the rule is taken as a mixture of both. Where it never costs so much: at its peak.
        """
        axis = self.rate if what == "rate" else self.control
        strict = _first_within(axis, value)
        loose = np.maximum(strict - 1, np.argmax(axis, axis=0))
        every = np.arange(len(strict))
        low, high = axis[strict, every], axis[loose, every]
        room = high - low
        share = np.where(room > 0, np.clip((value - low) / np.where(room > 0, room, 1), 0, 1), 0)
        found = [c[strict, every] * (1 - share) + c[loose, every] * share for c in (self.sensitivity, self.control)]
        return found[0], found[1]


def _first_within(axis: Doubles, bound: float | Doubles) -> Rows:
    """Return (B,) the least strict place from which on ``axis`` (T, B) stays within ``bound``, not below its peak."""
    over = axis > np.asarray(bound) + 1e-12
    last_over = len(axis) - 1 - np.argmax(over[::-1], axis=0)
    first = np.where(over.any(axis=0), last_over + 1, 0)
    return np.asarray(np.maximum(first, np.argmax(axis, axis=0)), np.intp)


def interval(values: Doubles) -> list[float | None]:
    """Return the percentile interval of resampled values (B,), the first of which is the estimate itself."""
    drawn = values[1:][np.isfinite(values[1:])]
    if not len(drawn):
        return [None, None]
    tail = (1 - LEVEL) / 2
    return [rounded(float(q)) for q in np.quantile(drawn, [tail, 1 - tail])]


def rounded(value: float) -> float | None:
    """Return a number for the JSON: four decimals, None where it is unknown."""
    return round(value, 4) if np.isfinite(value) else None


def row(figures: Doubles, thresholds: Doubles | None = None, place: Rows | None = None) -> dict[str, Any]:
    """Return one operating point from ``figures`` (5, B) in the order of ``Rates.at``; shares, lift in points."""
    sensitivity, control, started, started_control, rate = figures
    at: dict[str, Any] = {}
    if thresholds is not None and place is not None:
        first = int(place[0])
        at["threshold"] = rounded(float(thresholds[first])) if first < len(thresholds) else None
    return at | {
        "rate": rounded(float(rate[0])),
        "rate_ci": interval(rate),
        **_lift(sensitivity, control),
        "started": _lift(started, started_control),
    }


def _lift(sensitivity: Doubles, control: Doubles) -> dict[str, Any]:
    lift = (sensitivity - control) * 100
    return {
        "sensitivity": rounded(float(sensitivity[0])),
        "sensitivity_ci": interval(sensitivity),
        "control": rounded(float(control[0])),
        "control_ci": interval(control),
        "lift": rounded(float(lift[0])),
        "lift_ci": interval(lift),
    }


def budget_rows(rates: Rates, thresholds: Doubles) -> dict[str, Any]:
    """Return the operating points at the budgets."""
    places = {str(budget): rates.within(budget) for budget in BUDGETS}
    return {name: row(rates.at(place), thresholds, place) for name, place in places.items()}


def beside(ours: Doubles, theirs: Rates) -> dict[str, Any]:
    """Return by how many points our lift is above a reference's, person by person, where it costs the same.

    ``ours`` (5, B) in the order of ``Rates.at``. ``at_rate``: the reference begins as many alerts in healthy spans;
    ``at_control``: it is active in as many control windows. Positive: ours is better.
    """
    found = {}
    for name, axis, cost in (("at_rate", "rate", ours[4]), ("at_control", "control", ours[1])):
        sensitivity, control = theirs.cost(axis, cost)
        difference = ((ours[0] - ours[1]) - (sensitivity - control)) * 100
        reached = control if axis == "control" else theirs.rate.max(axis=0)
        found[name] = {
            "lift_difference": rounded(float(difference[0])),
            "ci": interval(difference),
            "reference_sensitivity": rounded(float(sensitivity[0])),
            "reference_control": rounded(float(control[0])),
            "reached": bool(reached[0] >= cost[0] - 1e-9),
        }
    return found
