"""What the injected events come to, in sentences: the case named beforehand, who is ahead, and what is learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.ahead import excludes_zero
from evaluation.sheet import between, gap, listed, number
from evaluation.tables_injected import asked_about, attained


def injected(d: Mapping[str, Any]) -> list[str]:
    """Return the sentences."""
    made_up = d["backgrounds"]["synthetic"]
    lines = [_named(d, made_up), _behind(d), _others(d, made_up)]
    return [*lines, _taken_up(d, made_up)] if "relearning" in made_up else lines


def _named(d: Mapping[str, Any], made_up: Mapping[str, Any]) -> str:
    at = {d["budget"]: (made_up["cases"][d["named"]], made_up["rate"])}
    at |= {budget: (other["case"], other["rate"]) for budget, other in made_up["named_at"].items()}
    said, shown = [], {}
    for budget, (row, rate) in at.items():
        clear = {name: one for name, one in row["ahead"].items() if excludes_zero(one) > 0}
        shown[budget] = len(clear) == len(row["ahead"])
        each = listed([f"{gap(one)[:-1]}; `{name}`)" for name, one in row["ahead"].items()])
        said.append(
            f"at {budget} it finds {row['found']} of {row['n']} made-up people ({row['without_the_event']} anyway), "
            f"the references {_span(row)}, none louder than its {number(rate['value'])} alerts a week; what comes "
            f"anyway taken off, it has {each} points more, and {len(clear)} of these {len(row['ahead'])} intervals "
            "lie above 0"
        )
    verdict = "shown" if shown[d["budget"]] else "not shown"
    return (
        f"**Injected ramps: better than every reference is {verdict}** in the case named before anything was tuned "
        f"(+5 /min over 3 days, {d['budget']} a patient-week; 0.1 is what is shipped): {'; '.join(said)}."
    )


def _span(row: Mapping[str, Any]) -> str:
    found = [rival["found"] for rival in row["rivals"].values()]
    return f"{min(found)} to {max(found)}"


def _behind(d: Mapping[str, Any]) -> str:
    found = d["behind"]
    which = "; ".join(f"{one['case']} ({one['background']}): `{one['rule']}` {gap(one)}" for one in found["rows"])
    return (
        f"**No injected cell worse by more than its interval: {attained(found)}.** Of {found['comparisons']} "
        f"comparisons another rule is ahead in {len(found['rows'])} with an interval that excludes "
        f"0{f' ({which})' if which else ''}, what runs now in {found['ahead']}."
    )


def _others(d: Mapping[str, Any], made_up: Mapping[str, Any]) -> str:
    cases = made_up["cases"]

    def both(case: str) -> str:
        row = cases[case]
        return f"{row['found']} of {row['n']} ({row['without_the_event']} anyway; the references {_span(row)})"

    return (
        "**Other events**, found in made-up people: several vitals by about one spread over 3 days "
        f"{both('several_1_sd_3_d')}; trains of short desaturations {both('desaturation_train')}; a ramp that begins "
        f"with another device {both(d['named'] + '_on_another_device')}; a variability 20 % lower alone "
        f"{both('hrv_minus_20_percent')}. Another device, which is to be told in nobody, is in {both('device_swap')}."
    )


def _taken_up(d: Mapping[str, Any], made_up: Mapping[str, Any]) -> str:
    again = made_up["relearning"]
    slow, fortnight = (
        next(name for name in made_up["contamination"]["after_1_d"] if name.startswith(kind))
        for kind in ("slow", "fortnight")
    )

    def spread(one: Mapping[str, Any], name: str) -> str:
        row = one["contamination"]["after_1_d"][name]
        return between(row["median"], [row["p10"], row["p90"]])

    real = "".join(
        f"; of the {one['contamination']['after_1_d'][slow]['n']} of {name} {spread(one, slow)} and "
        f"{spread(one, fortnight)}"
        for name, one in d["backgrounds"].items()
        if one is not made_up and "contamination" in one
    )
    return (
        f"**Contamination and learning**: of a week of +5 /min the slow mean takes up {spread(made_up, slow)} /min "
        f"(10th to 90th percentile of people), the fortnight {spread(made_up, fortnight)}{real}. A lasting +5 /min "
        f"nobody confirms is learned within {number(again['followed_days_median'], 0)} days in "
        f"{again[slow]['learned']} and {again[fortnight]['learned']} of {again[slow]['n']}; "
        f"{asked_about(again['asked'])}, and it is learned within a week of the answer."
    )
