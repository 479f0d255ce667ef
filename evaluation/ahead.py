"""What runs now beside another rule on the same people with the same event: who is ahead, and by more than chance?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from evaluation.budgets import interval, resampled, rounded

RESAMPLED: Final = 2000
Delays = Sequence[float | None]  # a person each, None: not found


def ahead_of(ours: Delays, anyway: Delays, theirs: Delays, their_anyway: Delays, *, wanted: bool) -> dict[str, Any]:
    """Return how many points of the people we are ahead, those found without the event too taken off.

    ``wanted``: the event is to be found; otherwise it is a nuisance, and who says less of it is ahead. The interval
    resamples people; above 0: ours is better.
    """
    found, never, other, nothing = (
        np.array([one is not None for one in column], float) for column in (ours, anyway, theirs, their_anyway)
    )
    each = ((found - never) - (other - nothing)) * (100 if wanted else -100)
    points = resampled(len(each), RESAMPLED) @ each / len(each)
    return {"points": rounded(float(points[0]) + 0.0), "ci": interval(points + 0.0)}


def behind(backgrounds: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return in which cells another rule is ahead with an interval that excludes 0, of how many comparisons.

    ``attained``: there is none. So many comparisons lead to some such intervals by chance alone; none is taken off.
    """
    every = [
        {"background": background, "case": case, "rule": rule, "n": row["n"], **gap}
        for background, one in backgrounds.items()
        for case, row in one["cases"].items()
        for rule, gap in row["ahead"].items()
    ]
    rows = [one for one in every if excludes_zero(one) < 0]
    return {
        "cells": sum(len(one["cases"]) for one in backgrounds.values()),
        "comparisons": len(every),
        "ahead": sum(excludes_zero(one) > 0 for one in every),
        "rows": rows,
        "attained": not rows,
    }


def excludes_zero(gap: Mapping[str, Any]) -> int:
    """Return 1 where the whole interval lies above 0, -1 where below it, else 0.

    >>> [excludes_zero({"ci": ci}) for ci in ([0.1, 9.0], [-9.0, -0.1], [-41.7, 0.0], [None, None])]
    [1, -1, 0, 0]
    """
    low, high = gap["ci"]
    if low is None or high is None:
        return 0
    return int(low > 0) - int(high < 0)
