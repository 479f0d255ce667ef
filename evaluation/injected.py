"""Known events in real and made-up readings: found or not, how late, and what the baseline takes up of them.

Everything is judged against the same people's readings without the event, through the same code: an alert that comes
without the event too shows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from detectors.daily import Budget
from detectors.protocol import Doubles
from evaluation.budgets import interval, resampled, rounded
from evaluation.heard import Alert, Heard, Nights, Processor, Streams
from evaluation.injector import CASES, SEED, Event, background, inject, place
from evaluation.rivals import Active, as_loud, baselines, begins
from evaluation.seeds import rate, share
from evaluation.wearers import read_wearers
from simulators.series import DAY_MS, HOUR_MS, MINUTE_MS

GRACE_MS: Final = DAY_MS  # after an event's end: a night is judged when its day is over
CLOSES_MS: Final = 10 * HOUR_MS  # local time at which a night is judged
CONTAMINATING: Final = "step_5_bpm_7_d"
LASTING: Final = "step_5_bpm_for_ever"
LEARNED_BPM: Final = 4.0  # of 5: the new normal is learned
BUDGET: Final[Budget] = "0.2"  # at which what runs is judged here
NAMED: Final = "ramp_5_bpm_3_d"  # the case by which it is to be judged, named before anything was tuned
SWAPPED: Final = {f"{NAMED}_on_another_device": NAMED}  # the same event, begun with another device that measures alike
RESAMPLED: Final = 2000
NIGHT_RULE: Final = "resting_heart_rate_rise"


class Subject(NamedTuple):
    """A person an event is put into."""

    name: str
    streams: Streams
    offset_min: int
    onset: int | None


def evaluate(folder: Path | None, processor: Processor, told: Any = lambda *_: None) -> dict[str, Any]:
    """Return the task's document; ``folder`` of raw recordings, None: made-up people only."""
    real = [] if folder is None else [Subject(one.name, one.streams, 0, one.onset) for one in read_wearers(folder)]
    groups = {"synthetic": [Subject(name, streams, offset, None) for name, streams, offset in background()]}
    if folder is not None:
        groups[folder.name] = real
    found = {name: _group(name, subjects, processor, told) for name, subjects in groups.items()}
    losses = [
        f"{group}, {case}: {rival} found {row['rivals'][rival]['found']} of {row['n']}, what runs now {row['found']}"
        for group, one in found.items()
        for case, row in one["cases"].items()
        for rival in row["rivals"]
        if row["wanted"] and row["rivals"][rival]["found"] > row["found"]
    ]
    apart = {"behind": _apart(found, lambda low, high: high < 0), "ahead": _apart(found, lambda low, high: low > 0)}
    return {"task": "injected", "seed": SEED, "backgrounds": found, "losses": losses, **apart}


def _apart(found: dict[str, Any], which: Callable[[float, float], bool]) -> list[str]:
    """Return the comparisons whose interval of the difference lies on one side of 0."""
    return [
        f"{group}, {case}: {rival}"
        for group, one in found.items()
        for case, row in one["cases"].items()
        for rival, ahead in row["ahead"].items()
        if row["wanted"] and which(*ahead["ci"])
    ]


def _group(name: str, subjects: list[Subject], processor: Processor, told: Any) -> dict[str, Any]:
    plain = processor([one.streams for one in subjects], [one.offset_min for one in subjects], lambda *_: None)
    weeks = sum(len(each.nights.day) for each in plain) / 7
    episodes = sum(1 + len(alert.worse_ms) for each in plain for alert in each.alerts if alert.rule == NIGHT_RULE)
    rivals = as_loud([each.nights for each in plain], episodes)
    document: dict[str, Any] = {
        "n": len(subjects),
        "weeks": round(weeks, 2),
        "rate": _interval(rate(episodes, weeks)) if weeks else None,
        "cases": {},
    }
    for done, case in enumerate([*CASES, *SWAPPED]):
        told(f"{name}: {case}", done, len(CASES) + len(SWAPPED))
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
        heard = processor(streams, [one.offset_min for one in chosen], lambda *_: None, swapped_ms=swaps)
        before = [plain[i] for i in which]
        document["cases"][case] = _case(frozen, chosen, placed, before, heard, rivals)
        if case == CONTAMINATING:
            document["contamination"] = contamination(placed, chosen, before, heard)
        if case == LASTING:
            document["relearning"] = relearning(placed, chosen, before, heard)
    return document


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
    ahead = {name: ahead_of(ours, anyway, *found) for name, found in nights.items()}
    return {"wanted": sorted(rules), **summary(ours, anyway), "rivals": rows, "ahead": ahead}


def ahead_of(
    ours: list[float | None], anyway: list[float | None], theirs: list[float | None], their_anyway: list[float | None]
) -> dict[str, Any]:
    """Return how many points more of the people were found by us, those found without the event too taken off.

    The interval resamples people; above 0: ours is better.
    """
    found, never, other, nothing = (
        np.array([one is not None for one in column], float) for column in (ours, anyway, theirs, their_anyway)
    )
    each = ((found - never) - (other - nothing)) * 100
    points = resampled(len(each), RESAMPLED) @ each / len(each)
    return {"points": rounded(float(points[0])), "ci": interval(points)}


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


def contamination(
    events: list[Event], chosen: list[Subject], before: list[Heard], heard: list[Heard]
) -> dict[str, Any]:
    """Return how far each baseline lies above where it would lie, one day and 14 days after a week of +5 /min."""
    found: dict[str, Any] = {}
    for label, days in (("after_1_d", 1), ("after_14_d", 14)):
        biases: dict[str, list[float]] = {}
        for event, one, plain, each in zip(events, chosen, before, heard, strict=True):
            day = (event.end_ms + one.offset_min * MINUTE_MS) // DAY_MS + days
            for name, difference in _differences(plain.nights, each.nights).items():
                near = np.flatnonzero((each.nights.day >= day) & (each.nights.day < day + 3))
                if len(near) and np.isfinite(difference[near[0]]):
                    biases.setdefault(name, []).append(float(difference[near[0]]))
        found[label] = {name: _spread(values) for name, values in biases.items()}
    return found


def relearning(events: list[Event], chosen: list[Subject], before: list[Heard], heard: list[Heard]) -> dict[str, Any]:
    """Return after how many days each baseline has taken up 4 of a lasting 5 /min; missing: not within the data."""
    found: dict[str, Any] = {}
    followed = []
    for event, one, plain, each in zip(events, chosen, before, heard, strict=True):
        start = (event.start_ms + one.offset_min * MINUTE_MS) // DAY_MS
        followed.append(int(each.nights.day[-1]) - start if len(each.nights.day) else 0)
        for name, difference in _differences(plain.nights, each.nights).items():
            learned = np.flatnonzero((difference >= LEARNED_BPM) & (each.nights.day > start))
            days = float(each.nights.day[learned[0]] - start) if len(learned) else None
            found.setdefault(name, []).append(days)
    return {
        "followed_days_median": float(np.median(followed)) if followed else None,
        **{
            name: {
                "n": len(days),
                "learned": sum(one is not None for one in days),
                "days_median_of_learned": float(np.median([d for d in days if d is not None])) if any(days) else None,
            }
            for name, days in found.items()
        },
    }


def _differences(plain: Nights, injected: Nights) -> dict[str, Doubles]:
    """Return (D,) each baseline with the event less without it, on the nights of the injected run; NaN where none."""
    found = {}
    for name, with_it in baselines(injected).items():
        without = dict(zip(plain.day.tolist(), baselines(plain)[name].tolist(), strict=True))
        found[name] = with_it - np.array([without.get(day, np.nan) for day in injected.day.tolist()])
    return found


def _spread(values: list[float]) -> dict[str, Any]:
    low, middle, high = (float(q) for q in np.quantile(values, [0.1, 0.5, 0.9]))
    return {"n": len(values), "median": round(middle, 2), "p10": round(low, 2), "p90": round(high, 2)}


def _interval(found: Any) -> dict[str, float]:
    return {key: round(value, 4) for key, value in vars(found).items()}
