"""The documents of the tasks as tables: the same rows on screen and, as Markdown, in ``docs/detection.md``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from evaluation.injected import NAMED

BUDGETS: Final = ("0.1", "0.2", "0.3")


class Sheet(NamedTuple):
    """One table with the sentence above it."""

    text: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        """Return it as Markdown."""
        lines = [self.text, ""]
        if self.rows:
            lines += [f"| {' | '.join(self.head)} |", "|" + "---|" * len(self.head)]
            lines += [f"| {' | '.join(row)} |" for row in self.rows]
            lines.append("")
        return "\n".join(lines) + "\n"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number, or a dash for what is unknown."""
    return "-" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """Return a share in whole per cent."""
    return "-" if value is None else f"{100 * value:.0f} %"


def between(value: float | None, ci: list[float | None], digits: int = 1) -> str:
    """Return a value with its interval."""
    return f"{number(value, digits)} ({number(ci[0], digits)} to {number(ci[1], digits)})"


def sheets(document: Mapping[str, Any]) -> list[Sheet]:
    """Return the tables of a task's document."""
    return _SHEETS[document["task"]](document)


def _onset(d: Mapping[str, Any]) -> list[Sheet]:
    return _timelines(d) if "timelines" in d else _onset_days(d)


_OPERATING: Final = ("rule", "asked", "rate got", "found", "control", "lift, points", "lift by start, points")


def _operating(name: str, asked: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    started = row["started"]
    return (
        name, asked, number(row["rate"]), percent(row["sensitivity"]), percent(row["control"]),
        between(row["lift"], row["lift_ci"]), between(started["lift"], started["lift_ci"]),
    )  # fmt: skip


def _onset_days(d: Mapping[str, Any]) -> list[Sheet]:
    rows = [_operating("what runs now (`resting_heart_rate_rise`)", "its own", d["processor"])]
    for name, points in ((d["detector"], d["budgets"]), *d["references"].items()):
        rows += [_operating(name, f"≤ {asked}", points[asked]) for asked in BUDGETS]
        if points.get("as_published"):
            rows.append(_operating(name, "its own", points["as_published"]))
    how = (
        "configuration and limits are chosen inside the fold, so a rate may come out above the one asked for; "
        f"`{d['detector']}` took: " + ", ".join(f"{name} ({n} folds)" for name, n in d["chosen"].items())
        if d["nested_cv"]
        else "each limit is the least strict one that keeps to the rate among these same people"
    )
    text = (
        f"{d['data']}: {d['n']} people ({d['not_eligible']} more are not eligible), {d['control_windows']} control "
        f"windows, {number(d['healthy_weeks'], 0)} healthy patient-weeks; intervals resample people {d['resamples']} "
        f"times. {d['configurations_tried']} configurations were tried; {how}. What runs now told a further rise on "
        f"top of an open alert {d['processor']['further']} times on healthy days; these are not in its rate."
    )
    beside = [
        (
            name, "what runs now" if point == "processor" else f"{d['detector']} ≤ {point}",
            between(row["at_rate"]["lift_difference"], row["at_rate"]["ci"]) + _unreached(row["at_rate"]),
            between(row["at_control"]["lift_difference"], row["at_control"]["ci"]) + _unreached(row["at_control"]),
        )
        for name, points in d["beside"].items()
        for point, row in points.items()
    ]  # fmt: skip
    head = ("reference", "Keepwell's", "at the same rate", "at the same control share")
    note = (
        "Points of lift that Keepwell's rule has more than a reference where both cost the same (below 0: the "
        "reference is better; *: the reference never costs so much and is taken at its peak):"
    )
    return [Sheet(text, _OPERATING, rows), Sheet(note, head, beside)]


def _unreached(row: Mapping[str, Any]) -> str:
    return "" if row["reached"] else " *"


def _timelines(d: Mapping[str, Any]) -> list[Sheet]:
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
    return [Sheet(text, ("person", "day 0", "nights judged", "alerts, from day to day"), rows)]


def _injected(d: Mapping[str, Any]) -> list[Sheet]:
    found = []
    for name, one in d["backgrounds"].items():
        rivals = list(next(iter(one["cases"].values()))["rivals"])
        rows = [
            (
                case, f"{row['found']} of {row['n']}", str(row["without_the_event"]),
                number(row["delay_median"], 1), number(row["delay_p90"], 1),
                *(f"{row['rivals'][rival]['found']} ({row['rivals'][rival]['without_the_event']})" for rival in rivals),
            )
            for case, row in one["cases"].items()
        ]  # fmt: skip
        rate = one["rate"]
        text = (
            f"{name}: {one['n']} people, {number(one['weeks'], 0)} weeks with nights. Without events "
            f"`resting_heart_rate_rise` comes {number(rate['value'])} times a week ({number(rate['low'])} to "
            f"{number(rate['high'])}), those of days without a night counted too; the other rules judge the same "
            "nights and are set to be no louder. In brackets: "
            "alerts that come without the event too. A device swap and a clock that jumps are nuisances: fewer is "
            "better there."
        )
        head = ("event", "found now", "without it", "days, median", "90 %", *rivals)
        found.append(Sheet(text, head, rows))
        found += [*_ahead(name, one), *_learned(name, one)]
    compared = sum(
        len(row["rivals"]) for one in d["backgrounds"].values() for row in one["cases"].values() if row["wanted"]
    )
    text = f"In {len(d['losses'])} of {compared} comparisons another rule finds more than what runs now."
    return [*found, Sheet(text, (), [])]


def _ahead(name: str, one: Mapping[str, Any]) -> list[Sheet]:
    if NAMED not in one["cases"]:
        return []
    rows = [(rival, between(row["points"], row["ci"])) for rival, row in one["cases"][NAMED]["ahead"].items()]
    text = (
        f"{name}, {NAMED}, the case named before anything was tuned: points of people that what runs now finds more "
        "than another rule, those found without the event too taken off (below 0: the other is better):"
    )
    return [Sheet(text, ("rule", "points more"), rows)]


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
        f"learned a lasting +5 /min (4 of it) within the {number(again['followed_days_median'], 0)} days that follow:"
    )
    return [Sheet(text, ("baseline", "a day after, /min", "14 days after, /min", "learned", "after days"), rows)]


def _bias(row: Mapping[str, Any] | None) -> str:
    return "-" if row is None else f"{number(row['median'])} ({number(row['p10'])} to {number(row['p90'])})"


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
            bands.append((percent(float(missing)), when, str(band["n"]), *held, number(band["width"]["median"], 1)))
    band_text = (
        "Share of a person's healthy days within the fortnight's band of 95 % (1.96 spreads), and its width; while a "
        "rise is told, or halfway to it, that baseline stands still:"
    )
    band_head = ("missing", "days", "people", "10 % of people", "median", "90 % of people", "width, /min")
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
        _p_values(d["p_values"], f"{d['data']}, whose reference is taken from the other people (folds by person)"),
        _p_values(made_up["p_values"], f"{made_up['n']} made-up people, by the reference that is shipped"),
    ]


def _p_values(found: Mapping[str, Any], people: str) -> Sheet:
    text = (
        f"p-values of a night's heart rate: the share of days on which it is at most 0.05 and 0.01, which is what it "
        f"should be (95 % intervals resample people), by Student's t and as told, which heeds the person's own days. "
        f"{people}:"
    )
    rows = [
        (when, str(one["n"]), *(_share(one[how][level]) for how in ("student", "told") for level in ("0.05", "0.01")),
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


def _share(row: Mapping[str, Any]) -> str:
    low, high = (number(None if end is None else 100 * end, 1) for end in row["ci"])
    return f"{number(None if row['share'] is None else 100 * row['share'], 1)} % ({low} to {high})"


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
    text = f"{d['data']}: {d['n']} people by where their data come from; gaps are to everybody else."
    head = ("rule", "group", "people", "alerts a week", "gap", "lift, points", "gap, points")
    return [Sheet(text, head, rows)]


def _nab(d: Mapping[str, Any]) -> list[Sheet]:
    rows = [(name, number(one["score"], 1), number(one["limit"], 0)) for name, one in d["profiles"].items()]
    text = (
        f"{d['data']}: {d['n']} files, {d['windows']} labelled windows; `daily` upwards and downwards on the value "
        f"alone, the best of {d['limits_tried']} limits for each profile. Not a clinical figure."
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


def _shape(d: Mapping[str, Any]) -> list[Sheet]:
    return [sheet for name, one in d["backgrounds"].items() for sheet in _shape_of(name, one, d["configurations"])]


def _shape_of(name: str, one: Mapping[str, Any], configurations: int) -> list[Sheet]:
    methods, who = one["methods"], one["wearers"]
    points = next(iter(methods.values()))
    rows = [
        (allowed, event, *(between(at[allowed]["events"][event]["gain"], at[allowed]["events"][event]["ci"], 0)
         for at in methods.values()))
        for allowed, point in points.items()
        for event in point["events"]
    ]  # fmt: skip
    told = ", ".join(f"{allowed}: {point['told']}" for allowed, point in points.items())
    text = (
        f"{name}: {one['n']} people, of whose {one['days']} days {one['known']} could be judged; events are put onto "
        f"{one['starts']} days of {one['judged']} people, one at a time. Points of them told within 3 days, less those "
        f"told without the event too, where each method tells so many of the ordinary days ({told}); the last three "
        f"are nuisances. {configurations} configurations were tried before:"
    )
    ahead = [
        (allowed, event, *(between(at[allowed]["events"][event]["ahead"], at[allowed]["events"][event]["ahead_ci"], 0)
         for at in list(methods.values())[1:]))
        for allowed, point in points.items()
        for event in list(point["events"])[:-3]
    ]  # fmt: skip
    ahead_text = f"{name}: points of events that what is shown finds more than another (below 0: the other is better):"
    ordinary = [(f"≤ {level}" + (" (told)" if row["told"] else ""), _share(row)) for level, row in one["p"].items()]
    p_text = f"{name}: p-values of the days as recorded: the share that is so small, which is what it should be:"
    turned = [(e, str(row["unlike"]), str(row["said"]), number(row["median"], 0)) for e, row in one["turned"].items()]
    turned_text = f"{name}: days of events that are told, and of how many it is said that the course is turned:"
    asked = [
        (f"≤ {allowed} a week", str(at["own"]), *(_found(row, who["exchanges"]) for row in at["nights"].values()))
        for allowed, at in who["allowed"].items()
    ]
    nights = next(iter(who["allowed"].values()))["nights"]
    who_text = (
        f"{name}: {who['exchanges']} devices that change their wearer, asked about by the mean of these scores alone; "
        f"{number(who['weeks'], 0)} weeks of own days:"
    )
    return [
        Sheet(text, ("ordinary days told", "event", *methods), rows),
        Sheet(ahead_text, ("ordinary days told", "event", *list(methods)[1:]), ahead),
        Sheet(p_text, ("p", "share of days"), ordinary),
        Sheet(turned_text, ("event", "told", "said to be turned", "hours later, median"), turned),
        Sheet(who_text, ("asked about own days", "asked", *(f"found within {n} nights" for n in nights)), asked),
    ]


def _found(row: Mapping[str, Any], of: int) -> str:
    return f"{row['found']} of {of} ({percent(row['low'])} to {percent(row['high'])})"


_SHEETS: Final[dict[str, Callable[[Mapping[str, Any]], list[Sheet]]]] = {
    "onset": _onset,
    "injected": _injected,
    "exchanged": _exchanged,
    "calibration": _calibration,
    "joint": _joint,
    "subgroups": _subgroups,
    "nab": _nab,
    "hearts": _hearts,
    "shape": _shape,
}
