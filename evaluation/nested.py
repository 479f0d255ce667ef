"""Choosing inside the fold: configuration and limit from the other people, judged on those left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np

from detectors.protocol import Doubles, Rows
from evaluation.budgets import BUDGETS, SEED, Rates, resampled, row
from evaluation.windows import Counts

FOLDS: Final = 10


@dataclass(frozen=True, slots=True)
class Nested:
    """What came of it: the people's counts, each by a choice they had no part in."""

    counts: dict[float, Counts]  # by budget; one threshold each
    chosen: dict[str, int]  # configuration → in how many folds it was chosen

    def figures(self, weights: Doubles) -> dict[str, Doubles]:
        """Return the operating point (5, B) at each budget."""
        first = np.zeros(len(weights), np.intp)
        return {str(budget): Rates.of(counts, weights).at(first) for budget, counts in self.counts.items()}

    def document(self, weights: Doubles) -> dict[str, Any]:
        """Return the operating points at the budgets; the rate got is that of the people left out."""
        return {name: row(figures) for name, figures in self.figures(weights).items()}


def folds(n: int, seed: int = SEED) -> list[Rows]:
    """Return who is left out in each fold: everybody once, groups as equal as can be.

    >>> sorted(int(i) for fold in folds(23) for i in fold) == list(range(23))
    True
    """
    return [fold for fold in np.array_split(np.random.default_rng(seed).permutation(n), min(FOLDS, n)) if len(fold)]


def nested(configurations: Mapping[str, Counts]) -> Nested:
    """Choose by the mean lift over the budgets among the people of each fold, the limit of each budget with it."""
    n = len(next(iter(configurations.values())).windows)
    parts: dict[float, list[Counts]] = {budget: [] for budget in BUDGETS}
    order: list[int] = []
    chosen: Counter[str] = Counter()
    for out in folds(n):
        others = np.setdiff1d(np.arange(n), out)
        found = {name: _choose(of_people(counts, others)) for name, counts in configurations.items()}
        best = max(found, key=lambda name: found[name][0])
        chosen[best] += 1
        order += out.tolist()
        for budget in BUDGETS:
            parts[budget].append(at_threshold(of_people(configurations[best], out), found[best][1][budget]))
    back = np.argsort(order)
    return Nested({budget: of_people(_joined(some), back) for budget, some in parts.items()}, dict(chosen))


def _choose(counts: Counts) -> tuple[float, dict[float, int]]:
    """Return the mean lift over the budgets, and each budget's threshold."""
    rates = Rates.of(counts, resampled(len(counts.windows), 0))
    places = {budget: rates.within(budget) for budget in BUDGETS}
    lifts = [float((found := rates.at(place))[0, 0] - found[1, 0]) for place in places.values()]
    return float(np.mean(lifts)), {budget: int(place[0]) for budget, place in places.items()}


def of_people(counts: Counts, which: Rows) -> Counts:
    """Return the counts of some people, in that order."""
    return Counts(*(getattr(counts, field.name)[..., which] for field in fields(Counts)))


def at_threshold(counts: Counts, place: int) -> Counts:
    """Return the counts at one threshold; the place after the last is "never"."""
    columns = {}
    for field in fields(Counts):
        values = getattr(counts, field.name)
        if values.ndim == 2:
            values = values[place : place + 1] if place < len(values) else np.zeros((1, values.shape[1]))
        columns[field.name] = values
    return Counts(**columns)


def _joined(parts: list[Counts]) -> Counts:
    return Counts(*(np.concatenate([getattr(part, f.name) for part in parts], axis=-1) for f in fields(Counts)))
