"""What the onset task comes to, in sentences: the lift, what it is beside published rules, and what it is by start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from evaluation.ahead import excludes_zero
from evaluation.sheet import BUDGETS, between, gap, listed, number

CUSUM: Final = "cusum_k0.5"
AIM: Final = 10  # points of lift over the best reference at equal control share


def onset(d: Mapping[str, Any]) -> list[str]:
    """Return the sentences."""
    lines = [_lifts(d), _best(d), _at_rate(d), _by_start(d)]
    return [*lines, _folds(d)] if d["nested_cv"] else lines


def _lifts(d: Mapping[str, Any]) -> str:
    rows = [d["processor"][asked] for asked in BUDGETS]
    return (
        f"**What runs now**, with the limits shipped for {listed(BUDGETS)} incidents a patient-week, got "
        f"{listed([number(row['rate']) for row in rows])} on {d['n']} people before an illness: a lift of "
        f"{listed([between(row['lift'], row['lift_ci']) for row in rows])} points. At 0.1 it was active before "
        f"{100 * rows[0]['sensitivity']:.0f} % of the illnesses and in {100 * rows[0]['control']:.0f} % of control "
        "windows."
    )


def _best(d: Mapping[str, Any]) -> str:
    """Say how far ahead of the best reference, the worst one and a plain CUSUM it is at equal control share."""
    every = [_gaps(d, "processor", asked, "at_control") for asked in BUDGETS]
    best, worst = (
        [(name := pick(gaps, key=lambda one: gaps[one]["points"]), gaps[name]) for gaps in every] for pick in (min, max)
    )
    reached = [asked for asked, (_, one) in zip(BUDGETS, best, strict=True) if one["points"] >= AIM]
    shown = [asked for asked, gaps in zip(BUDGETS, every, strict=True) if _all_clear(gaps)]
    return (
        f"**Better than every published rule is {f'shown at {listed(shown)}' if shown else 'not shown'}.** At an "
        f"equal share of control windows, by which it is to be judged, it has at {listed(BUDGETS)}, in turn, "
        f"{_each(best)} points more than the best of them, {_each(worst)} more than the worst and "
        f"{listed([gap(gaps[CUSUM]) for gaps in every])} more than a plain CUSUM (`{CUSUM}`). "
        f"{_clear(d, 'at_control')} The aim of {AIM} points over the best one is "
        f"**{f'reached at {listed(reached)}' if reached else 'not reached'}**. Which one is best is told by these "
        "same people, which is a little to Keepwell's disfavour."
    )


def _each(pairs: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    return listed([f"{gap(one)[:-1]}; `{name}`)" for name, one in pairs])


def _all_clear(gaps: Mapping[str, Mapping[str, Any]]) -> bool:
    return all(excludes_zero(one) > 0 for one in gaps.values())


def _clear(d: Mapping[str, Any], at: str) -> str:
    """Say of which comparisons the interval excludes 0."""
    budgets: dict[int, dict[str, list[str]]] = {1: {}, -1: {}}
    for asked in BUDGETS:
        for name, one in _gaps(d, "processor", asked, at).items():
            if sign := excludes_zero(one):
                budgets[sign].setdefault(name, []).append(asked)
    said = {sign: [f"`{name}` at {listed(at)}" for name, at in by.items()] for sign, by in budgets.items()}
    n = len(BUDGETS) * len(d["references"])
    ahead = (
        f"an interval excludes 0 beside {listed(said[1])} alone"
        if said[1]
        else "every interval holds 0 or lies below it"
    )
    behind = f", and beside {listed(said[-1])} the reference is ahead" if said[-1] else ""
    return f"Of {n} comparisons {ahead}{behind}."


def _at_rate(d: Mapping[str, Any]) -> str:
    said = listed([gap(_gaps(d, "processor", asked, "at_rate")[CUSUM]) for asked in BUDGETS])
    return (
        f"**At an equal rate of alerts** instead it has {said} points more than a plain CUSUM. {_clear(d, 'at_rate')} "
        "A rule that begins as few alerts may be active for longer: the control share counts that, the rate does not."
    )


def _by_start(d: Mapping[str, Any]) -> str:
    rows = [d["processor"][asked]["started"] for asked in BUDGETS]
    said = []
    for asked, row in zip(BUDGETS, rows, strict=True):
        more = {
            name: points[asked]["started"]["lift"]
            for name, points in d["references"].items()
            if points[asked]["started"]["lift"] > row["lift"]
        }
        names = listed([f"`{name}` ({number(lift, 1)})" for name, lift in more.items()])
        said.append(f"at {asked} less than {names}" if more else f"at {asked} more than every reference")
    return (
        "**By alerts that begin in the 8 days** the lift is "
        f"{listed([between(row['lift'], row['lift_ci']) for row in rows])} points: {'; '.join(said)}, each at the "
        "same budget. Part of the lift comes from alerts that began before."
    )


def _folds(d: Mapping[str, Any]) -> str:
    rows = [d["budgets"][asked] for asked in BUDGETS]
    best = []
    for asked in BUDGETS:
        gaps = _gaps(d, d["detector"], asked, "at_control")
        name = min(gaps, key=lambda name: gaps[name]["points"])
        best.append(f"{gap(gaps[name])} (`{name}`)")
    return (
        "The shipped configuration was seen by these people. Chosen inside the folds, the detector has "
        f"{listed([between(row['lift'], row['lift_ci']) for row in rows])} at "
        f"{listed([number(row['rate']) for row in rows])} a week; over the best reference at equal control share "
        f"{listed(best)}."
    )


def _gaps(d: Mapping[str, Any], rule: str, asked: str, at: str) -> dict[str, dict[str, Any]]:
    """Return by reference the points of lift more than it, with their interval."""
    rows = {name: points[rule][asked][at] for name, points in d["beside"].items()}
    return {name: {"points": row["lift_difference"], "ci": row["ci"]} for name, row in rows.items()}
