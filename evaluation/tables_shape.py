"""The tables of ``shape``: days whose heart rate takes another course, found and told for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.sheet import Sheet, between, number, percent, share


def shape(d: Mapping[str, Any]) -> list[Sheet]:
    """Return the tables of each background."""
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
    ordinary = [(f"≤ {level}" + (" (told)" if row["told"] else ""), share(row)) for level, row in one["p"].items()]
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
