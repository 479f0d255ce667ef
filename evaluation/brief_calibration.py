"""What calibration comes to, in sentences: rates, p-values and bands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectors.baseline import NIGHT_HEART, PAIRS
from evaluation.sheet import between, number, share


def calibration(d: Mapping[str, Any]) -> list[str]:
    """Return the sentences."""
    made_up = d["made_up"]
    ours, theirs = (group["criterion"]["processor"] for group in (d, made_up))
    cells = {
        f"days {age}, {100 * float(missing):.0f} % missing, at {asked}": cell
        for missing, one in made_up["missing"].items()
        for asked, row in one["processor"].items()
        for age, cell in row["ages"].items()
        if age != "all"
    }
    worst = max(cells, key=lambda name: cells[name]["rate"] / float(name.rpartition(" ")[2]))
    rates = (
        "**Rates asked are rates got**, by the slow rule alone: the interval reaches below 1.25 times the budget in "
        f"{ours['held']} of {ours['cells']} cells of real and {theirs['held']} of {theirs['cells']} of made-up people "
        "(3 budgets, 4 ages of the baseline, 0 to 50 % of days missing). Real people are few, 40 alerts and more are "
        f"expected in {ours['enough']} cells; so {made_up['n']} made-up people stand beside them (at least "
        f"{number(theirs['expected_least'], 0)} expected), whose whole interval lies below in {theirs['shown']}. The "
        f"worst of these: {worst} {between(cells[worst]['rate'], cells[worst]['ci'], 2)} a week."
    )
    return [rates, _p_values(d), f"{_bands(d['missing']['0.0']['coverage'])} {_first_days(d)}"]


def _p_values(d: Mapping[str, Any]) -> str:
    quiet, every = (d["p_values"][days] for days in ("nothing suspected before", "every healthy day"))
    made_up = d["made_up"]["p_values"]["nothing suspected before"]

    def part(one: Mapping[str, Any], how: str, level: str) -> str:
        return f"{number(100 * one[how][level]['share'], 1)} %"

    return (
        f"**p-values**, of nights on which nothing was suspected before: {part(quiet, 'told', '0.05')} have one of "
        f"at most 0.05 and {part(quiet, 'told', '0.01')} of at most 0.01, with the reference of the other people "
        f"({part(quiet, 'student', '0.05')} and {part(quiet, 'student', '0.01')} by Student's t); of made-up "
        f"people, by the reference shipped, {part(made_up, 'told', '0.05')} and {part(made_up, 'told', '0.01')}. Of "
        f"all healthy nights, those in a rise that was told or suspected too, it is {part(every, 'told', '0.05')}: p "
        "is that of an ordinary time."
    )


def _bands(coverage: Mapping[str, Any]) -> str:
    quiet, every = (coverage[when] for when in ("while nothing is told", "every day"))

    def held(band: Mapping[str, Any]) -> str:
        low, middle, high = (f"{100 * band['share'][q]:.0f}" for q in ("p10", "median", "p90"))
        width = between(band["width"]["median"], [band["width"]["p10"], band["width"]["p90"]])
        people = f"({low} to {high} from the 10th to the 90th percentile of people)"
        return f"a median of {middle} % of a person's healthy days {people}, {width} /min wide"

    return (
        f"**Bands of 95 %** hold {held(quiet)}, while nothing is told; of all days {held(every)}: while a rise is "
        "told, or halfway to it, they stand still."
    )


def _first_days(d: Mapping[str, Any]) -> str:
    first, second = (d["first_days"][day] for day in ("1", "2"))
    return (
        "Of somebody of whom nothing is known yet the band is the population's, "
        f"{number(first['width'], 1)} /min wide about the {number(PAIRS[NIGHT_HEART].center, 0)} of nights: it holds "
        f"{share(first)} of first days of these people, whose median is {number(d['usual'], 0)}; on the second day, at "
        f"{number(second['width'], 1)} /min, {share(second)}."
    )
