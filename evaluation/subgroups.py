"""Is anybody served worse? Rates and lift by group, as gaps to everybody else, with intervals; small cells hidden."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from detectors.daily import LIMITS
from detectors.protocol import Doubles
from evaluation import nightly
from evaluation.budgets import RESAMPLED, SEED, Rates, interval, resampled, rounded
from evaluation.days import NotEvaluable, Person
from evaluation.onset import Told, chosen_people, counted
from evaluation.windows import Counts

LEAST: Final = 5  # people in a cell, and outside it; fewer are not told


def evaluate(folder: Path, told: Told = lambda *_: None, resamples: int = RESAMPLED) -> dict[str, Any]:
    """Return the task's document: what runs now at each budget, on daily parameters that name where they come from.

    Raises:
        NotEvaluable: as in ``onset``, or nobody's group is named.
    """
    people, _ = chosen_people(folder)
    if not any(person.group for person in people):
        msg = f"{folder} names no groups; expected is a column `Data source`, a word a person"
        raise NotEvaluable(msg)
    told("groups", 0, 1)
    weights = resampled(len(people), resamples)
    said = {
        budget: [night.active[None, :] for night in nightly.replay(people, limit)] for budget, limit in LIMITS.items()
    }
    return {
        "task": "subgroups",
        "data": folder.name,
        "n": len(people),
        "seed": SEED,
        "rules": {budget: gaps(people, counted(people, paths), weights) for budget, paths in said.items()},
    }


def gaps(people: list[Person], counts: Counts, weights: Doubles) -> dict[str, Any]:
    """Return each group's rate and lift, and how far they are from everybody else's; ``weights`` (B, N)."""
    names = sorted({person.group for person in people})
    found: dict[str, Any] = {}
    for name in names:
        mine = np.array([person.group == name for person in people])
        shown = name or "not named"
        if min(int(mine.sum()), int((~mine).sum())) < LEAST:
            found[shown] = {"n": None, "suppressed": f"fewer than {LEAST} people in the group or outside it"}
            continue
        (rate, lift), (other_rate, other_lift) = (_figures(counts, weights * which) for which in (mine, ~mine))
        found[shown] = {
            "n": int(mine.sum()),
            "rate": rounded(float(rate[0])),
            "rate_gap": rounded(float(rate[0] - other_rate[0])),
            "rate_gap_ci": interval(rate - other_rate),
            "lift": rounded(float(lift[0])),
            "lift_gap": rounded(float(lift[0] - other_lift[0])),
            "lift_gap_ci": interval(lift - other_lift),
        }
    return found


def _figures(counts: Counts, weights: Doubles) -> tuple[Doubles, Doubles]:
    """Return (B,) the rate and the lift in points; NaN where a resample holds nobody."""
    weights = np.where(weights.sum(1, keepdims=True) > 0, weights, np.nan)
    rates = Rates.of(counts, weights)
    return rates.rate[0], (rates.sensitivity[0] - rates.control[0]) * 100
