"""Rates got by age of the baseline, and whether each cell keeps to what was asked.

A cell is a budget, an age and a share of days missing. It is *held* where the interval of its rate reaches below 1.25
times the budget: nothing shows that it is louder. It is *shown* where the whole interval lies there. What a cell can
say follows from the alerts expected in it, budget times patient-weeks; from 40 on an interval is about a third of the
rate to either side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from scipy.stats import chi2

from detectors.protocol import Bools
from evaluation.rivals import begins
from evaluation.seeds import rate

AGES: Final = ((1, 14), (15, 28), (29, 56), (57, 10_000))  # valid days of a person, the first being 1
FORTNIGHT: Final = "1 to 14"
ALL: Final = "all"
ALLOWED: Final = 1.25  # times the budget
ENOUGH: Final = 40  # alerts expected in a cell


def by_age(
    paths: Sequence[Bools], healthy: Sequence[Bools], places: Sequence[int], asked: float
) -> dict[str, dict[str, Any]]:
    """Return alert episodes a healthy patient-week by age of the baseline, and over all ages.

    ``paths`` (T, D) a person, of which ``places`` is taken; ``asked`` the budget. Intervals are exact (Poisson, 95 %);
    in the first fortnight ``lower`` and ``upper`` are each a one-sided 95 % bound.
    """
    rows = {}
    for first, last in (*AGES, (1, 10_000)):
        events, days = 0, 0
        for path, well, place in zip(paths, healthy, places, strict=True):
            age = np.arange(1, len(well) + 1)
            inside = well & (age >= first) & (age <= last)
            events += int((begins(path[place]) & inside).sum())
            days += int(inside.sum())
        name = ALL if (first, last) == (1, 10_000) else f"{first} to {last}" if last < 10_000 else f"{first} on"
        rows[name] = _cell(events, days / 7, asked, one_sided=name == FORTNIGHT)
    return rows


def _cell(events: int, weeks: float, asked: float, *, one_sided: bool) -> dict[str, Any]:
    expected = {"events": events, "weeks": round(weeks, 2), "expected": round(asked * weeks, 1)}
    if not weeks:
        return expected | {"rate": None, "ci": [None, None], "lower": None, "upper": None, "held": None, "shown": None}
    exact = rate(events, weeks)
    lower, upper = exact.low, exact.high
    if one_sided:
        lower = float(chi2.ppf(0.05, 2 * events)) / 2 / weeks if events else 0.0
        upper = float(chi2.ppf(0.95, 2 * events + 2)) / 2 / weeks
    return expected | {
        "rate": round(exact.value, 4),
        "ci": [round(exact.low, 4), round(exact.high, 4)],
        "lower": round(lower, 4),
        "upper": round(upper, 4),
        "held": lower < ALLOWED * asked,
        "shown": upper < ALLOWED * asked,
    }


def criterion(missing: Mapping[str, Mapping[str, Any]], rule: str) -> dict[str, Any]:
    """Return in how many cells a rule keeps to its budget, and the bad ones by name; "all" is no cell."""
    known = [(name, cell) for name, cell in _cells(missing, rule) if cell["held"] is not None]
    return {
        "cells": len(known),
        "held": sum(cell["held"] for _, cell in known),
        "shown": sum(cell["shown"] for _, cell in known),
        "not_held": [name for name, cell in known if not cell["held"]],
        "enough": sum(cell["expected"] >= ENOUGH for _, cell in known),
        "expected_least": min((cell["expected"] for _, cell in known), default=None),
        "expected_most": max((cell["expected"] for _, cell in known), default=None),
    }


def _cells(missing: Mapping[str, Mapping[str, Any]], rule: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for share, one in missing.items():
        for asked, row in one[rule].items():
            for age, cell in row["ages"].items():
                if age != ALL:
                    yield f"{asked} a week, days {age}, {100 * float(share):.0f} % missing", cell
