"""The injected task as tables: what each rule found, who is ahead by more than chance, and what baselines took up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.sheet import Sheet, gap, number


def injected(d: Mapping[str, Any]) -> list[Sheet]:
    """Return the tables of every background, the losses first."""
    found = [_behind(d)]
    for name, one in d["backgrounds"].items():
        found += [_cases(name, one, d), *_named(name, one, d), *_learned(name, one)]
    compared = sum(
        len(row["rivals"]) for one in d["backgrounds"].values() for row in one["cases"].values() if row["wanted"]
    )
    text = (
        f"In {len(d['losses'])} of {compared} comparisons another rule finds more than what runs now, what comes "
        "anyway not taken off."
    )
    return [*found, Sheet(text, (), [])]


def _behind(d: Mapping[str, Any]) -> Sheet:
    found = d["behind"]
    rows = [(one["background"], one["case"], str(one["n"]), one["rule"], gap(one)) for one in found["rows"]]
    text = (
        f"All of it with the limit for {d['budget']} incidents a patient-week, unless another budget is named. **No "
        f"cell worse by more than its interval: {attained(found)}.** Of {found['comparisons']} comparisons "
        f"({found['cells']} cells, an event on a background, each with every other rule; what comes anyway taken off; "
        f"of a nuisance who says less is ahead) another rule is ahead in {len(rows)} with an interval that excludes "
        f"0, what runs now in {found['ahead']}. Nothing is taken off for having compared so often, and of 8 people or "
        "fewer such an interval is too narrow"
    )
    head = ("people", "event", "n", "ahead of what runs now", "points (below 0: behind)")
    return Sheet(text + (":" if rows else "."), head, rows)


def attained(found: Mapping[str, Any]) -> str:
    """Return whether no cell is worse by more than its interval, in words, with the count."""
    cells = len({(one["background"], one["case"]) for one in found["rows"]})
    return "attained" if found["attained"] else f"not attained in {cells} of {found['cells']} cells"


def _cases(name: str, one: Mapping[str, Any], d: Mapping[str, Any]) -> Sheet:
    rivals = list(next(iter(one["cases"].values()))["rivals"])
    rows = [
        (
            case, f"{row['found']} of {row['n']}", str(row["without_the_event"]),
            number(row["delay_median"], 1), number(row["delay_p90"], 1),
            *(f"{row['rivals'][rival]['found']} ({row['rivals'][rival]['without_the_event']})" for rival in rivals),
        )
        for case, row in one["cases"].items()
    ]  # fmt: skip
    text = (
        f"{name}: {one['n']} people, {number(one['weeks'], 0)} weeks with nights. Without events "
        f"`resting_heart_rate_rise` comes {_often(one['rate'])}, those of days without a night counted too; the other "
        f"rules judge the same nights and are set to be no louder. {_louder(one, d['budget'])}In brackets: alerts that "
        "come without the event too. A device swap and a clock that jumps are nuisances: fewer is better there."
    )
    return Sheet(text, ("event", "found now", "without it", "days, median", "90 %", *rivals), rows)


def _often(rate: Mapping[str, float] | None) -> str:
    if rate is None:
        return "how often is unknown"
    return f"{number(rate['value'])} times a week ({number(rate['low'])} to {number(rate['high'])})"


def _louder(one: Mapping[str, Any], budget: str) -> str:
    """Say where more is told than was asked for, and what of it is no false alert of the nights that are counted."""
    if one["rate"] is None or one["rate"]["value"] <= float(budget):
        return ""
    left = one["rate_well"]
    if left is None or left["low"] <= float(budget):
        verdict = f"Whether that is more than {budget} is not shown, nor that it is not."
    else:
        verdict = "That is louder than asked too."
    return (
        f"**That is more than the {budget} asked for.** Of these {one['episodes']} tellings ({one['further']} of them "
        f"further ones on top of an open alert) {one['ill']} fall within 14 days before to 21 after an illness of a "
        f"person's own and {one['by_day']} on days without a night, which the weeks do not hold; the other "
        f"{one['episodes'] - one['ill'] - one['by_day']} come {_often(left)} in the weeks left. {verdict} "
    )


def _named(name: str, one: Mapping[str, Any], d: Mapping[str, Any]) -> list[Sheet]:
    named = d["named"]
    at = {d["budget"]: one["cases"].get(named), **{b: other["case"] for b, other in one["named_at"].items()}}
    known = {budget: row for budget, row in sorted(at.items()) if row is not None}
    if not known:
        return []
    rows = [
        (rival, *(gap(row["ahead"][rival]) for row in known.values())) for rival in next(iter(known.values()))["ahead"]
    ]
    each = "; ".join(
        f"at {budget} what runs now finds {row['found']} of {row['n']}, {row['without_the_event']} anyway"
        for budget, row in known.items()
    )
    text = (
        f"{name}, {named}, the case named before anything was tuned, at {d['budget']}, and beside it at the other "
        f"budget: {each}. Points of people that what runs now finds more than another rule that is no louder, those "
        "found without the event too taken off (below 0: the other is better):"
    )
    return [Sheet(text, ("rule", *(f"points more, {budget}" for budget in known)), rows)]


def _learned(name: str, one: Mapping[str, Any]) -> list[Sheet]:
    if "contamination" not in one or "relearning" not in one:
        return []
    after, again = one["contamination"], one["relearning"]
    rows = [
        (
            baseline, *(_bias(after[label].get(baseline)) for label in ("after_1_d", "after_14_d")),
            f"{again[baseline]['learned']} of {again[baseline]['n']}",
            number(again[baseline]["days_median_of_learned"], 0),
        )
        for baseline in after["after_1_d"]
        if baseline in again
    ]  # fmt: skip
    text = (
        f"{name}: what a baseline takes up of a week of +5 /min (median, 10 % to 90 % of people), and how many have "
        f"learned a lasting +5 /min (4 of it) within the {number(again['followed_days_median'], 0)} days that follow; "
        f"{asked_about(again['asked'])}:"
    )
    return [Sheet(text, ("baseline", "a day after, /min", "14 days after, /min", "learned", "after days"), rows)]


def asked_about(row: Mapping[str, Any]) -> str:
    """Return of how many people it is asked whether something that lasts is a new normal."""
    when = "" if row["days_median"] is None else f", the median after {number(row['days_median'], 0)} days"
    return f"whether it is a new normal is asked of {row['asked']} of {row['n']} ({row['anyway']} anyway){when}"


def _bias(row: Mapping[str, Any] | None) -> str:
    return "-" if row is None else f"{number(row['median'])} ({number(row['p10'])} to {number(row['p90'])})"
