"""The onset task as tables: what each rule did, and by how much Keepwell's is better where both cost the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from evaluation.sheet import BUDGETS, Sheet, between, number, percent

NOW: Final = "what runs now"
_OPERATING: Final = ("rule", "asked", "rate got", "found", "control", "lift, points", "lift by start, points")


def onset(d: Mapping[str, Any]) -> list[Sheet]:
    """Return the tables of daily values, or the timelines of raw recordings."""
    return [_timelines(d)] if "timelines" in d else [_compared(d), _judged(d)]


def _compared(d: Mapping[str, Any]) -> Sheet:
    rows = [
        (
            name, f"{NOW if rule == 'processor' else rule}, {budget}",
            *(_difference(row[at]) for at in ("at_control", "at_rate")),
        )
        for name, points in d["beside"].items()
        for rule, each in points.items()
        for budget, row in each.items()
    ]  # fmt: skip
    text = (
        f"{_people(d)}\n\nPoints of lift that Keepwell's rule, at each alert budget, has more than a reference where "
        "both are active in the same share of control windows, person by person, which is what it is to be judged by; "
        "beside it the same where both begin as many alerts in healthy spans (below 0: the reference is better; *: the "
        "reference never costs so much and is taken at its peak):"
    )
    return Sheet(text, ("reference", "Keepwell's, budget", "at the same control share", "at the same rate"), rows)


def _people(d: Mapping[str, Any]) -> str:
    return (
        f"{d['data']}: {d['n']} people ({d['not_eligible']} more are not eligible), {d['control_windows']} control "
        f"windows, {number(d['healthy_weeks'], 0)} healthy patient-weeks; intervals resample people {d['resamples']} "
        "times."
    )


def _difference(row: Mapping[str, Any]) -> str:
    return between(row["lift_difference"], row["ci"]) + ("" if row["reached"] else " *")


def _judged(d: Mapping[str, Any]) -> Sheet:
    further = ", ".join(f"{d['processor'][asked]['further']}" for asked in BUDGETS)
    text = (
        f"What each did. What runs now has the limits it is shipped with ({_limits(d)}), whoever the people are; "
        f"{_how(d)} What runs now told a further rise on top of an open alert {further} times on healthy days; these "
        "are not in its rates."
    )
    return Sheet(text, _OPERATING, list(_rows(d)))


def _rows(d: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    groups = {f"{NOW} (`resting_heart_rate_rise`)": d["processor"]}
    groups |= {d["detector"]: d["budgets"]} if d["nested_cv"] else {}
    for name, points in (groups | d["references"]).items():
        yield from (_operating(name, f"≤ {asked}", points[asked]) for asked in BUDGETS)
        if name in d["as_published"]:
            yield _operating(name, "as published", d["as_published"][name])


def _operating(name: str, asked: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    started = row["started"]
    return (
        name, asked, number(row["rate"]), percent(row["sensitivity"]), percent(row["control"]),
        between(row["lift"], row["lift_ci"]), between(started["lift"], started["lift_ci"]),
    )  # fmt: skip


def _limits(d: Mapping[str, Any]) -> str:
    return ", ".join(f"{number(d['processor'][asked]['threshold'], 1)} for {asked}" for asked in BUDGETS)


def _how(d: Mapping[str, Any]) -> str:
    tried = f"{d['configurations_tried']} configurations were tried"
    if not d["nested_cv"]:
        return (
            f"a reference's limit is the least strict one that keeps to the rate among these same people, which is to "
            f"its favour. {tried} before it was shipped."
        )
    took = ", ".join(f"{name} ({n} folds)" for name, n in d["chosen"].items())
    return (
        f"the references and `{d['detector']}` get theirs inside the fold, so a rate may come out above the one asked "
        f"for. {tried}; `{d['detector']}` took: {took}."
    )


def _timelines(d: Mapping[str, Any]) -> Sheet:
    rates = ", ".join(f"{rule} {number(rate)}" for rule, rate in d["alerts_a_week"].items()) or "none"
    text = (
        f"{d['data']}: {d['n']} people, {d['labelled']} with a label, {number(d['weeks'], 0)} weeks with heart rate; "
        f"alerts a week: {rates}. No claim is made of so few."
    )
    rows = [
        (
            one["person"], one["day_0"], str(one["nights_judged"]),
            "; ".join(
                f"{a['rule']} {number(a['found_day'], 0)} to {number(a['end_day'], 0)}" for a in one["alerts"]
            ) or "none",
        )
        for one in d["timelines"]
    ]  # fmt: skip
    return Sheet(text, ("person", "day 0", "nights judged", "alerts, from day to day"), rows)
