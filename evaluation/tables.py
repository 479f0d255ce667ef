"""The documents of the tasks as tables: the same rows on screen and, as Markdown, in ``docs/detection.md``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from detectors.baseline import NIGHT_HEART, PAIRS
from evaluation.ahead import excludes_zero
from evaluation.sheet import Sheet, between, number, percent, share
from evaluation.tables_injected import injected
from evaluation.tables_onset import onset
from evaluation.tables_shape import shape


def sheets(document: Mapping[str, Any]) -> list[Sheet]:
    """Return the tables of a task's document."""
    return _SHEETS[document["task"]](document)


def _exchanged(d: Mapping[str, Any]) -> list[Sheet]:
    found = []
    for name, one in d["backgrounds"].items():
        rows = [
            (within, percent(row["value"]), f"{percent(row['low'])} to {percent(row['high'])}")
            for within, row in one["found"].items()
        ]
        own = one["returned"]
        ended = f" It ended in {len(own)} of them within the data" if own else ""
        ended += f", the median after {np.median(own):.0f} own nights." if own else ""
        text = (
            f"{name}: {one['n']} people, {one['exchanges']} exchanges: the device is another's for two weeks, and it "
            f"is asked who wore it.{ended}"
        )
        found.append(Sheet(text, ("within nights", "asked", "95 %, as if all were independent"), rows))
        false = [
            (case, str(row["n"]), number(row["weeks"], 0), str(row["asked"]), number(row["bound"], 3))
            for case, row in one["false"].items()
        ]
        text = f"{name}: asked though nobody else wore it, with the one-sided 95 % bound a week:"
        found.append(Sheet(text, ("event", "people", "weeks", "asked", "a week at most"), false))
    return found


def _calibration(d: Mapping[str, Any]) -> list[Sheet]:
    bands = []
    for missing, one in d["missing"].items():
        for when, band in one["coverage"].items():
            held = (percent(band["share"][q]) for q in ("p10", "median", "p90"))
            width = between(band["width"]["median"], [band["width"]["p10"], band["width"]["p90"]])
            bands.append((percent(float(missing)), when, str(band["n"]), *held, width))
    band_text = (
        "Share of a person's healthy days within the fortnight's band of 95 % (1.96 spreads), and its width, the "
        "median of people (10th to 90th percentile); while a rise is told, or halfway to it, that baseline stands "
        "still:"
    )
    band_head = ("missing", "days", "people", "10th percentile", "median", "90th percentile", "width, /min")
    made_up = d["made_up"]
    text = (
        f"{d['data']}: {d['n']} people. Alert episodes per healthy patient-week by valid day of a person (exact 95 % "
        "intervals; in the first fortnight the one-sided 95 % bound; *: the interval does not reach below 1.25 times "
        "the budget). What runs now has the limits shipped; those of `daily` come from the other people, folds by "
        "person. "
    )
    beside = (
        f"The same of {made_up['n']} made-up people of {made_up['days']} days, who are there because so few alerts are "
        "expected of the real ones; their nights vary as real ones do (`evaluation/made_up.py`). "
    )
    return [
        *_rates(text, d),
        *_rates(beside, made_up),
        Sheet(band_text, band_head, bands),
        _first_days(d),
        _p_values(d["p_values"], f"{d['data']}, whose reference is taken from the other people (folds by person)"),
        _p_values(made_up["p_values"], f"{made_up['n']} made-up people, by the reference that is shipped"),
    ]


def _first_days(d: Mapping[str, Any]) -> Sheet:
    text = (
        "The same band in a person's first days, learned or not, of every healthy day (95 % intervals resample "
        f"people). On day 1 it is the population's, about {number(PAIRS[NIGHT_HEART].center, 0)} /min, that of nights; "
        f"the median of these people's medians is {number(d['usual'], 0)}, of the made-up "
        f"{number(d['made_up']['usual'], 0)}:"
    )
    rows = [
        (who, day, str(one["n"]), share(one), number(one["width"], 1))
        for who, group in ((d["data"], d), ("made-up", d["made_up"]))
        for day, one in group["first_days"].items()
    ]
    return Sheet(text, ("people", "valid day", "days", "within the band", "width, /min"), rows)


def _p_values(found: Mapping[str, Any], people: str) -> Sheet:
    text = (
        f"p-values of a night's heart rate: the share of days on which it is at most 0.05 and 0.01, which is what it "
        f"should be (95 % intervals resample people), by Student's t and as told, which heeds the person's own days. "
        f"{people}:"
    )
    rows = [
        (when, str(one["n"]), *(share(one[how][level]) for how in ("student", "told") for level in ("0.05", "0.01")),
         *(percent(one[how]["0.05"]["between_people"]) for how in ("student", "told")))
        for when, one in found.items()
    ]  # fmt: skip
    head = (
        "days",
        "n",
        "≤ 0.05, Student's",
        "≤ 0.01",
        "≤ 0.05, told",
        "≤ 0.01",
        "SD between people, Student's",
        "told",
    )
    return Sheet(text, head, rows)


def _rates(text: str, group: Mapping[str, Any]) -> list[Sheet]:
    rows = [
        (percent(float(missing)), f"{shown} ≤ {asked}", *(_exact(cell, age) for age, cell in row["ages"].items()))
        for missing, one in group["missing"].items()
        for rule, shown in (("processor", "what runs now"), ("daily", "daily"))
        for asked, row in one[rule].items()
    ]
    ages = list(group["missing"]["0.0"]["processor"]["0.1"]["ages"])
    found = group["criterion"]["processor"]
    least, most = (number(found[f"expected_{which}"], 0) for which in ("least", "most"))
    said = (
        f"Alerts expected in a cell: {least} to {most}, 40 or more in {found['enough']} of {found['cells']} cells. "
        f"Cells whose interval reaches below 1.25 times the budget: what runs now {_held(found)}; "
        f"`daily` {_held(group['criterion']['daily'])}."
    )
    return [Sheet(text + said, ("missing", "rule", *ages), rows)]


def _held(one: Mapping[str, Any]) -> str:
    bad = f" (not: {', '.join(one['not_held'])})" if one["not_held"] else ""
    return f"{one['held']} of {one['cells']}{bad}, the whole interval in {one['shown']}"


def _exact(row: Mapping[str, Any], age: str) -> str:
    bound = f", ≤ {number(row['upper'])}" if age == "1 to 14" else ""
    return between(row["rate"], row["ci"], 2) + bound + ("" if row["held"] is not False else " *")


def _joint(d: Mapping[str, Any]) -> list[Sheet]:
    budgets = d["budgets"]
    rows = [
        (
            f"≤ {asked}", number(one["limit"], 1), str(one["incidents"]),
            between(one["rate"], one["ci"], 3) + ("" if one["held"] else " *"), number(one["looser"]["limit"], 1),
            between(one["looser"]["rate"], one["looser"]["ci"], 3),
        )
        for asked, one in budgets.items()
    ]  # fmt: skip
    text = (
        f"{d['n']} made-up people with all vitals for {d['days']} days, {number(d['weeks'], 0)} patient-weeks, healthy "
        "throughout (`evaluation/made_up_hours.py`), others than those by whom limits were chosen. Clinical incidents "
        "of all adaptive rules together, a patient-week (exact 95 % intervals; *: the interval does not reach below "
        "1.25 times the budget), at the slow rule's limit as shipped and half a step less strict:"
    )
    head = ("asked", "limit", "incidents", "together, a week", "less strict", "together, a week")
    names = next(iter(budgets.values()))["alerts"]
    each = [(f"`{rule}`", *(_alerts_of(one["alerts"][rule]) for one in budgets.values())) for rule in names]
    each_text = (
        f"Alerts of each rule, a patient-week; each but the first two may cost {d['share']} (*: its interval does not "
        "reach below that):"
    )
    each.sort(key=lambda row: "resting_heart_rate" not in row[0])
    return [Sheet(text, head, rows), Sheet(each_text, ("rule", *(f"≤ {asked}" for asked in budgets)), each)]


def _alerts_of(row: Mapping[str, Any]) -> str:
    return between(row["rate"], row["ci"], 4) + (" *" if row["share_held"] is False else "")


def _subgroups(d: Mapping[str, Any]) -> list[Sheet]:
    rows = []
    for rule, groups in d["rules"].items():
        for group, one in groups.items():
            if one["n"] is None:
                rows.append((rule, group, one["suppressed"], "", "", "", ""))
                continue
            rows.append(
                (
                    rule, group, str(one["n"]), number(one["rate"]), between(one["rate_gap"], one["rate_gap_ci"], 2),
                    number(one["lift"], 1), between(one["lift_gap"], one["lift_gap_ci"]),
                )
            )  # fmt: skip
    text = (
        f"{d['data']}: {d['n']} people by where their data come from, judged by what runs now with its shipped limits; "
        f"gaps are to everybody else. {clear_gaps(d)}"
    )
    head = ("budget", "group", "people", "alerts a week", "gap", "lift, points", "gap, points")
    return [Sheet(text, head, rows)]


def clear_gaps(d: Mapping[str, Any]) -> str:
    """Say which gaps between groups have an interval that excludes 0, of how many."""
    every = [
        (f"{group}, {what} at {budget}: {between(one[gap], one[gap + '_ci'], digits)}", one[gap + "_ci"])
        for budget, groups in d["rules"].items()
        for group, one in groups.items()
        if one["n"] is not None
        for gap, what, digits in (("rate_gap", "alerts a week", 3), ("lift_gap", "points of lift", 1))
    ]
    clear = [said for said, ci in every if excludes_zero({"ci": ci})]
    if not clear:
        return f"None of {len(every)} gaps has an interval that excludes 0."
    have = "gap of {} has" if len(clear) == 1 else "gaps of {} have"
    return f"{len(clear)} {have.format(len(every))} an interval that excludes 0 ({'; '.join(clear)})."


def _nab(d: Mapping[str, Any]) -> list[Sheet]:
    rows = [(name, number(one["score"], 1), number(one["limit"], 0)) for name, one in d["profiles"].items()]
    text = (
        f"{d['data']}: {d['n']} files, {d['windows']} labelled windows; `daily` upwards and downwards on the value "
        f"alone, with a setting made for this benchmark and not the one that runs, the best of {d['limits_tried']} "
        "limits for each profile. Not a clinical figure."
    )
    return [Sheet(text, ("profile", "score", "limit"), rows)]


def _hearts(d: Mapping[str, Any]) -> list[Sheet]:
    text = (
        f"{d['data']}: {d['n']} people, {number(d['weeks'], 0)} weeks, {d['starts']} rises of {d['rise']:g} /min over "
        f"{d['climb']} days put in one at a time; {len(d['measures'])} measures were tried. Each limit is the least "
        "strict one that keeps to the rate among these same people. Intervals resample people; of so few no claim is "
        "made."
    )
    rows = [
        (
            name, f"≤ {asked}", number(at["rate"]), f"{at['found']} of {d['starts']}", str(at["anyway"]),
            between(at["gain"], at["gain_ci"]), between(at["more_than_night"], at["more_than_night_ci"]),
        )
        for name, points in d["measures"].items()
        for asked, at in points.items()
    ]  # fmt: skip
    return [
        Sheet(text, ("heart rate", "asked", "rate got", "found", "anyway", "gain, points", "more than asleep"), rows)
    ]


def _swaps(d: Mapping[str, Any]) -> list[Sheet]:
    text = (
        f"{d['n']} made-up people, others than those by whom it was chosen, {d['events']} events, judged by the slow "
        f"rule's limit for {d['budget']} a week: of how many it tells something from the day of the event on, over 7 "
        "days where they fall ill (+5 /min over 3 days) and over 14 where only the device changes. Another device "
        "measures 2 % and 1.5 /min higher, or as much lower. Intervals resample people."
    )
    rows = [(name, share(one)) for name, one in d["stories"].items()]
    return [Sheet(text, ("what happens", "told"), rows)]


def _variability(d: Mapping[str, Any]) -> list[Sheet]:
    events = [f"{1 - one['share_left']:.0%} lower, {one['days']} days".replace("%", " %") for one in d["events"]]
    text = (
        f"{d['n']} made-up people, others than the {d['chosen_by']} by whom limits were chosen; "
        f"{d['configurations_tried']} candidates were tried, none of which runs. Points of people in whom a fall of "
        "RMSSD asleep is told, what is told without it taken off, at each rate asked (intervals resample people; -: no "
        "limit tried is strict enough):"
    )
    rows = [
        (name, f"≤ {asked}", *(_candidate(one) if one else ("-",) * (len(events) + 2)))
        for name, rates in d["candidates"].items()
        for asked, one in rates.items()
    ]
    return [Sheet(text, ("candidate", "asked", "limit", "alerts a week", *events), rows)]


def _shifts(d: Mapping[str, Any]) -> list[Sheet]:
    costs = ", ".join(f"`{rule}` {between(one['rate'], one['ci'], 4)}" for rule, one in d["costs"].items())
    text = (
        f"{d['n']} made-up people, others than those by whom limits were chosen among {d['configurations_tried']} "
        f"configurations; without any shift they are told so many times a week: {costs}. Share of people in whom a "
        "shift that stays is asked about within so many nights, what of it comes anyway, and whom this rule, the drift "
        "or the rise within two nights tells within 21 (heart rate and breathing /min, oxygen %; intervals resample "
        "people):"
    )
    rows = [
        (
            one["event"], *(share(each) for each in one["asked"]), percent(one["anyway"]["share"]),
            f"{share(one['by_any'])}, anyway {percent(one['by_any_anyway']['share'])}",
        )
        for one in d["events"]
    ]  # fmt: skip
    head = ("what shifts", "7 nights", "14 nights", "21 nights", "anyway, 21", "any of these, 21")
    return [Sheet(text, head, rows), *([] if d["real"] is None else [_real_falls(d["real"])])]


def _real_falls(d: Mapping[str, Any]) -> Sheet:
    text = f"onset_daily, {d['n']} people: how often `heart_rate_shift` is told of real nights, by the night alone:"
    of = {"healthy": "healthy spans", "before": "21 days up to the onset", "after": "35 days after it"}
    rows = [
        (of[name], str(one["n"]), number(one["weeks"], 0), between(one["rate"], one["ci"], 3))
        for name, one in d["spans"].items()
    ]
    return Sheet(text, ("days", "told", "patient-weeks", "a patient-week"), rows)


def _candidate(one: Mapping[str, Any]) -> tuple[str, ...]:
    found = (between(100 * each["more"], [100 * end for end in each["ci"]]) for each in one["found"])
    return number(one["limit"]), between(one["rate"], one["rate_ci"], 3), *found


_SHEETS: Final[dict[str, Callable[[Mapping[str, Any]], list[Sheet]]]] = {
    "onset": onset,
    "injected": injected,
    "exchanged": _exchanged,
    "calibration": _calibration,
    "joint": _joint,
    "subgroups": _subgroups,
    "nab": _nab,
    "hearts": _hearts,
    "swaps": _swaps,
    "variability": _variability,
    "shifts": _shifts,
    "shape": shape,
}
