"""What the rules against the own normal go by where somebody chose it: the bounds of drifts, and the alert budget.

Source: none; what a clinician sets for a person, and what a team agreed to be told (``services.adaptive`` says within
which range). Both are looked at when a day closes, and hold as they stand at its end. Nothing of them is in the state:
what was told, or called the new normal, is kept as a distance, whatever the bound is later. Safety limits know of
neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from detectors.daily import LIMITS, Budget
from detectors.drift import BOUND, WATCHED
from detectors.in_time import InTime
from detectors.protocol import Doubles, Longs, Rows

ALL_TOGETHER: Final = "adaptive_rules"  # in place of a rule: what is said of all of them together


class Choice(NamedTuple):
    """What holds for one person at a time; None: what holds for everybody."""

    budget: Budget | None = None  # incidents from all adaptive rules, a patient-week
    bounds: tuple[float | None, ...] = (None,) * len(WATCHED)  # in the order of ``drift.WATCHED``
    set_by: Mapping[str, str] = MappingProxyType({})  # rule, or ALL_TOGETHER → whose word it is


class Held(NamedTuple):
    """What R patients' day is judged by."""

    limit: Doubles  # (R,) of the rising resting heart rate's sum: what the budget comes to
    bound: Doubles  # (R, W) of the drifts, in each metric's unit
    set_by: Sequence[Mapping[str, str]]  # of each patient, as in Choice


class Choices:
    """What was chosen for each row at each instant; ``timelines``: row → (from which instant on, what holds), in order.

    >>> budget, bound = Choice(budget="0.2"), Choice(bounds=(6, None, None, None))
    >>> choices = Choices({1: [(1_000, budget), (2_000, bound)]})
    >>> held = choices.at(np.array([0, 1, 1]), np.array([1_500, 1_500, 2_000]), 4.5)
    >>> held.limit.tolist(), held.bound[:, :2].tolist()
    ([4.5, 2.5, 4.5], [[8.0, 2.0], [8.0, 2.0], [6.0, 2.0]])
    """

    def __init__(self, timelines: Mapping[int, Sequence[tuple[int, Choice]]] = MappingProxyType({})) -> None:
        entries = [(row, mark, choice) for row in sorted(timelines) for mark, choice in timelines[row]]
        self._time = InTime((row, mark) for row, mark, _ in entries)
        said = [*(choice for *_, choice in entries), Choice()]  # the last one is of whom nothing is said
        self._limit = np.array([np.nan if one.budget is None else LIMITS[one.budget] for one in said])
        self._bound = np.array([[np.nan if bound is None else bound for bound in one.bounds] for one in said])
        self._set_by = [one.set_by for one in said]

    def at(self, rows: Rows, t_ms: Longs, limit: float) -> Held:
        """Return what holds for R rows at an instant each; ``limit``: of those of whom no budget is said."""
        which = self._time.at(rows, t_ms)
        own, bound = self._limit[which], self._bound[which]
        return Held(
            np.where(np.isnan(own), limit, own),
            np.where(np.isnan(bound), BOUND, bound),
            [self._set_by[place] for place in which.tolist()],
        )


NOBODYS: Final = Choices()
