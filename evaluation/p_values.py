"""Do p-values say what they promise: how often does one of at most 0.05 come on an ordinary day?

Beside Student's t, from which they are made, on nights' heart rates. Nobody is judged by what was taken from them: the
reference of each fold is that of the other people; made-up people are judged by the one that is shipped. A person's own
counts are always those of the days before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from detectors.baseline import LEARNED
from detectors.daily import LIMITS, SUSPICIOUS_SHARE
from detectors.protocol import Bools, Doubles
from detectors.score import BOUNDS, REFERENCE, TAIL_DTYPE, count, p_value, student
from evaluation.budgets import interval, resampled
from evaluation.cells import AGES
from evaluation.nested import folds
from evaluation.nightly import Nights

LEVELS: Final = (0.05, 0.01)
UNSUSPECTED: Final = "nothing suspected before"
EVERY: Final = "every healthy day"
BINS: Final = 10
LEAST: Final = 28  # days of a person who is asked how far people differ


def evaluate(nights: Sequence[Nights], healthy: Sequence[Bools], *, held_out: bool) -> dict[str, Any]:
    """Return what share of days has a small p-value, by age of the baseline, by Student's t and as it is told.

    ``held_out``: the reference is taken from the other people, fold by fold; else it is the one shipped.
    """
    judged = [np.isfinite(one.z) & (one.n_days >= LEARNED) for one in nights]
    free = [known & unsuspected(one) for one, known in zip(nights, judged, strict=True)]
    plain = [student(one.z, one.n_days) for one in nights]
    references = [REFERENCE] * len(nights)
    for out in folds(len(nights)) if held_out else ():
        others = np.setdiff1d(np.arange(len(nights)), out)
        days = np.concatenate([plain[i][free[i] & healthy[i]] for i in others])
        for i in out.tolist():
            references[i] = np.maximum((days[:, None] <= BOUNDS).mean(axis=0), BOUNDS) if len(days) else REFERENCE
    told = [_told(*one) for one in zip(nights, plain, free, references, strict=True)]
    ages = [np.arange(1, len(one.day) + 1) for one in nights]
    spans = {f"days {first} {f'to {last}' if last < 10_000 else 'on'}": (first, last) for first, last in AGES}
    which = {EVERY: [k & w for k, w in zip(judged, healthy, strict=True)]}
    which[UNSUSPECTED] = [f & w for f, w in zip(free, healthy, strict=True)]
    for name, (first, last) in spans.items():
        which[name] = [w & (age >= first) & (age <= last) for w, age in zip(which[UNSUSPECTED], ages, strict=True)]
    return {
        name: {"student": _shares(plain, days), "told": _shares(told, days), "n": int(sum(map(np.sum, days)))}
        for name, days in which.items()
    }


def unsuspected(one: Nights) -> Bools:
    """Return (D,) whether no rise was told, or halfway to it, before the day began, at the limit for 0.1 a week."""
    quiet = (one.sum <= SUSPICIOUS_SHARE * LIMITS["0.1"]) & ~one.active
    return np.concatenate([[True], quiet[:-1]]) if len(quiet) else quiet


def _told(one: Nights, plain: Doubles, free: Bools, reference: Doubles) -> Doubles:
    """Return (D,) the p-values of one person's days, each by the days before it."""
    own = np.zeros(1, TAIL_DTYPE)
    found = np.full(len(plain), np.nan)
    for i in range(len(plain)):
        found[i] = p_value(one.z[i : i + 1], one.n_days[i : i + 1], own, reference)[0]
        count(own, plain[i : i + 1], free[i : i + 1])
    return found


def _shares(p: Sequence[Doubles], which: Sequence[Bools]) -> dict[str, Any]:
    """Return the shares of days at each level with intervals that resample people, and the histogram of p."""
    values = [one[days] for one, days in zip(p, which, strict=True)]
    n = np.array([len(one) for one in values], np.float64)
    weights = resampled(len(values))
    found: dict[str, Any] = {}
    for level in LEVELS:
        small = np.array([(one <= level).sum() for one in values], np.float64)
        of = weights @ n
        shares = (weights @ small) / np.where(of > 0, of, np.nan)
        found[str(level)] = {
            "share": round(float(shares[0]), 4) if n.sum() else None,
            "ci": interval(shares),
            "between_people": _between(small, n),
        }
    histogram = np.histogram(np.concatenate(values), BINS, (0, 1))[0]
    return found | {"histogram": (histogram / max(n.sum(), 1)).round(4).tolist()}


def _between(small: Doubles, n: Doubles) -> float | None:
    """Return the SD between people's own shares, chance taken off; None where too few have enough days."""
    small, n = small[n >= LEAST], n[n >= LEAST]
    if len(n) < 2:
        return None
    shares, mean = small / n, small.sum() / n.sum()
    return round(float(np.sqrt(max(0.0, float(np.var(shares) - (mean * (1 - mean) / n).mean())))), 4)
