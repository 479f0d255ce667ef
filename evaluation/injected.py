"""Known events in real and made-up readings: found or not, how late, and what the baseline takes up of them.

Everything is judged against the same people's readings without the event, through the same code: an alert that comes
without the event too shows nothing. Every case is judged at one alert budget, the one named beforehand at the one that
is shipped too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from detectors.daily import Budget
from detectors.protocol import Bools, Ints
from evaluation.ahead import ahead_of, behind
from evaluation.heard import Alert, Heard, Nights, Processor, Streams
from evaluation.injector import CASES, ILL_DAYS, SEED, Event, background, inject, place
from evaluation.rivals import Active, as_loud, begins
from evaluation.seeds import rate, share
from evaluation.taken_up import contamination, relearning
from evaluation.wearers import read_wearers
from simulators.series import DAY_MS, HOUR_MS, MINUTE_MS

GRACE_MS: Final = DAY_MS  # after an event's end: a night is judged when its day is over
CLOSES_MS: Final = 10 * HOUR_MS  # local time at which a night is judged
CONTAMINATING: Final = "step_5_bpm_7_d"
LASTING: Final = "step_5_bpm_for_ever"
BUDGET: Final[Budget] = "0.2"  # at which what runs is judged here
SHIPPED: Final[Budget] = "0.1"  # the default of what runs, at which the named case is judged too
NAMED: Final = "ramp_5_bpm_3_d"  # the case by which it is to be judged, named with its budget before anything was tuned
SWAPPED: Final = {f"{NAMED}_on_another_device": NAMED}  # the same event, begun with another device that measures alike
NIGHT_RULE: Final = "resting_heart_rate_rise"


class Subject(NamedTuple):
    """A person an event is put into."""

    name: str
    streams: Streams
    offset_min: int
    onset: int | None


def evaluate(
    folder: Path | None, processors: Mapping[Budget, Processor], told: Any = lambda *_: None
) -> dict[str, Any]:
    """Return the task's document; ``folder`` of raw recordings, None: made-up people only.

    ``processors`` by alert budget: at ``BUDGET`` every case is judged, at each other one the named case alone.
    """
    real = [] if folder is None else [Subject(one.name, one.streams, 0, one.onset) for one in read_wearers(folder)]
    groups = {"synthetic": [Subject(name, streams, offset, None) for name, streams, offset in background()]}
    if folder is not None:
        groups[folder.name] = real
    found = {name: _group(name, subjects, processors, told) for name, subjects in groups.items()}
    losses = [
        f"{group}, {case}: {rival} found {row['rivals'][rival]['found']} of {row['n']}, what runs now {row['found']}"
        for group, one in found.items()
        for case, row in one["cases"].items()
        for rival in row["rivals"]
        if row["wanted"] and row["rivals"][rival]["found"] > row["found"]
    ]
    return {
        "task": "injected",
        "seed": SEED,
        "budget": BUDGET,
        "named": NAMED,
        "backgrounds": found,
        "losses": losses,
        "behind": behind(found),
    }


def _group(name: str, subjects: list[Subject], processors: Mapping[Budget, Processor], told: Any) -> dict[str, Any]:
    document = _at(name, subjects, processors[BUDGET], [*CASES, *SWAPPED], told)
    others = {
        budget: _at(name, subjects, processor, [NAMED], told)
        for budget, processor in processors.items()
        if budget != BUDGET
    }
    document["named_at"] = {
        budget: {"rate": other["rate"], "case": other["cases"].get(NAMED)} for budget, other in others.items()
    }
    return document


def _at(name: str, subjects: list[Subject], processor: Processor, cases: Sequence[str], told: Any) -> dict[str, Any]:
    """Return what comes of these cases at one budget, and how often the slow rule speaks without any event."""
    plain = processor([one.streams for one in subjects], [one.offset_min for one in subjects], lambda *_: None)
    alone = without_events(subjects, plain)
    rivals = as_loud([each.nights for each in plain], alone["episodes"])
    document: dict[str, Any] = {"n": len(subjects), **alone, "cases": {}}
    for done, case in enumerate(cases):
        told(f"{name}: {case}", done, len(cases))
        frozen = SWAPPED.get(case, case)
        events = [place(one.name, one.streams, one.offset_min, frozen, one.onset) for one in subjects]
        which = [i for i, event in enumerate(events) if event is not None]
        if not which:
            continue
        placed = [event for event in events if event is not None]
        chosen = [subjects[i] for i in which]
        streams = [inject(one.name, one.streams, event) for one, event in zip(chosen, placed, strict=True)]
        another = case in SWAPPED or CASES[frozen].kind == "device_swap"
        swaps = [event.start_ms if another else None for event in placed]
        offsets = [one.offset_min for one in chosen]
        heard = processor(streams, offsets, lambda *_: None, swapped_ms=swaps)
        before = [plain[i] for i in which]
        document["cases"][case] = _case(frozen, chosen, placed, before, heard, rivals)
        if case == CONTAMINATING:
            document["contamination"] = contamination(placed, offsets, before, heard)
        if case == LASTING:
            document["relearning"] = relearning(placed, offsets, before, heard)
    return document


def without_events(subjects: list[Subject], plain: list[Heard]) -> dict[str, Any]:
    """Return how often the slow rule speaks without any event, and what of it the weeks with nights cannot explain.

    Every telling counts, ``further`` ones on top of an open alert too. ``ill``: within ``ILL_DAYS`` of an illness of
    their own; ``by_day``: on a day without a night, which the weeks don't hold. ``rate_well``: the others, in the weeks
    that are left.
    """
    told = {"ill": 0, "by_day": 0, "well": 0}
    further = 0
    nights, well = 0, 0
    for one, each in zip(subjects, plain, strict=True):
        days, healthy = each.nights.day, ~_near_illness(each.nights.day, one.onset)
        nights, well = nights + len(days), well + int(healthy.sum())
        for alert in (alert for alert in each.alerts if alert.rule == NIGHT_RULE):
            further += len(alert.worse_ms)
            for at_ms in (alert.found_ms, *alert.worse_ms):
                day = (at_ms + one.offset_min * MINUTE_MS) // DAY_MS
                ill = bool(_near_illness(np.array([day]), one.onset)[0])
                told["ill" if ill else "well" if day in days else "by_day"] += 1
    episodes = sum(told.values())
    return {
        "weeks": round(nights / 7, 2),
        "episodes": episodes,
        "rate": _interval(rate(episodes, nights / 7)) if nights else None,
        "further": further,
        "ill": told["ill"],
        "by_day": told["by_day"],
        "rate_well": _interval(rate(told["well"], well / 7)) if well else None,
    }


def _near_illness(day: Ints, onset: int | None) -> Bools:
    if onset is None:
        return np.zeros(len(day), bool)
    return np.asarray((day >= onset + ILL_DAYS[0]) & (day <= onset + ILL_DAYS[1]))


def _case(
    case: str, chosen: list[Subject], events: list[Event], before: list[Heard], heard: list[Heard],
    rivals: dict[str, Active],
) -> dict[str, Any]:  # fmt: skip
    rules = CASES[case].rules
    ours = [first_alert(each.alerts, event, rules) for each, event in zip(heard, events, strict=True)]
    anyway = [first_alert(each.alerts, event, rules) for each, event in zip(before, events, strict=True)]
    nights = {
        name: [
            [_first_night(rule, each.nights, event, one) for each, event, one in zip(said, events, chosen, strict=True)]
            for said in (heard, before)
        ]
        for name, rule in rivals.items()
    }
    rows = {name: summary(*found) for name, found in nights.items()}
    ahead = {name: ahead_of(ours, anyway, *found, wanted=bool(rules)) for name, found in nights.items()}
    return {"wanted": sorted(rules), **summary(ours, anyway), "rivals": rows, "ahead": ahead}


def first_alert(alerts: Sequence[Alert], event: Event, rules: frozenset[str]) -> float | None:
    """Return how many days after an event's start its rules first tell something, None where nothing.

    Of a nuisance (no rules) any clinical alert counts. One that was open before counts only where it is told to have
    become worse; such a telling counts as one more alert in the rate too.
    """
    found = [
        told_ms
        for alert in alerts
        if (alert.rule in rules if rules else alert.kind == "clinical")
        for told_ms in (alert.found_ms, *alert.worse_ms)
        if event.start_ms < told_ms <= event.end_ms + GRACE_MS
    ]
    return (min(found) - event.start_ms) / DAY_MS if found else None


def _first_night(rule: Active, nights: Nights, event: Event, one: Subject) -> float | None:
    at_ms = nights.day.astype(np.int64) * DAY_MS + CLOSES_MS - one.offset_min * MINUTE_MS
    inside = (at_ms > event.start_ms) & (at_ms <= event.end_ms + GRACE_MS)
    found = at_ms[begins(rule(nights.day, nights.value)) & inside] if len(at_ms) else at_ms
    return (int(found[0]) - event.start_ms) / DAY_MS if len(found) else None


def summary(delays: list[float | None], anyway: list[float | None]) -> dict[str, Any]:
    """Return found and missed with the exact interval, what came without the event too, and the delays in days.

    ``delay_median`` counts a missed event as never found: None where half or more are missed.
    """
    some = sorted(delay for delay in delays if delay is not None)
    every = np.array([np.inf if delay is None else delay for delay in delays])
    middle, late = (float(np.quantile(every, q, method="higher")) for q in (0.5, 0.9))
    return {
        "n": len(delays),
        "found": len(some),
        "sensitivity": _interval(share(len(some), len(delays))),
        "without_the_event": sum(delay is not None for delay in anyway),
        "delay_median": round(middle, 2) if np.isfinite(middle) else None,
        "delay_p90": round(late, 2) if np.isfinite(late) else None,
    }


def _interval(found: Any) -> dict[str, float]:
    return {key: round(value, 4) for key, value in vars(found).items()}
