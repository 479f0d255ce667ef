"""Devices that change their wearer: one person's readings go on as another's for two weeks, then as their own again.

FROZEN: who, when and for how long was fixed before any detector was judged by it. Everything follows from SEED and the
person's name. The other one's readings are shifted by whole days and by the difference of the two local times, so that
nights meet nights; of what the other's device does not measure, nothing comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.stats import chi2

from detectors.rules import WEARER_IN_DOUBT
from evaluation.heard import Heard, Processor
from evaluation.injected import Subject
from evaluation.injector import AFTER_DAYS, ILL_DAYS, QUIET_DAYS, SEED, background, inject, person_rng, place
from evaluation.seeds import rate, share
from evaluation.wearers import read_wearers
from simulators.series import DAY_MS, HOUR_MS, MINUTE_MS, Series

WORN_DAYS: Final = 14  # by somebody else
STARTS_H: Final = 12  # local hour
OTHERS: Final = 3  # whose device each person gets, one after the other
NIGHTS: Final = (1, 3, 7)  # within which it is to be noticed
LISTED: Final = ("ramp_5_bpm_3_d", "ramp_8_bpm_1_d", "fever", "several_2_sd_3_d", "device_swap")
"""Events in which nobody else wears the device: what is asked of them is asked for nothing."""


class Exchange(NamedTuple):
    """Whose readings come from ``start_ms`` to before ``end_ms``."""

    other: int
    start_ms: int
    end_ms: int


def exchange(people: Sequence[Subject], one: int, step: int) -> Exchange | None:
    """Return when person ``one`` of all wears the device of the ``step``-th after them; None where there is no room."""
    person, other = people[one], (one + step) % len(people)
    if other == one or not len(person.streams["heart_rate"].t_ms):
        return None
    t_ms = person.streams["heart_rate"].t_ms + person.offset_min * MINUTE_MS
    theirs = people[other].streams["heart_rate"].t_ms
    if not len(theirs):
        return None
    first = int(t_ms[0] // DAY_MS)
    days = np.arange(first + QUIET_DAYS, first + min(t_ms[-1] - t_ms[0], theirs[-1] - theirs[0]) // DAY_MS - WORN_DAYS)
    days = days[days < t_ms[-1] // DAY_MS - WORN_DAYS - AFTER_DAYS]
    if person.onset is not None:
        days = days[(days + WORN_DAYS < person.onset + ILL_DAYS[0]) | (days > person.onset + ILL_DAYS[1])]
    if not len(days):
        return None
    day = int(person_rng(person.name, f"exchange_{step}").choice(days))
    start_ms = day * DAY_MS + STARTS_H * HOUR_MS - person.offset_min * MINUTE_MS
    return Exchange(other, start_ms, start_ms + WORN_DAYS * DAY_MS)


def worn_by(person: Subject, other: Subject, event: Exchange) -> dict[str, Series]:
    """Return the person's readings with the other's from the event's start to its end."""
    mine, theirs = (
        (one.streams["heart_rate"].t_ms[0] + one.offset_min * MINUTE_MS) // DAY_MS for one in (person, other)
    )
    later_ms = int(mine - theirs) * DAY_MS + (other.offset_min - person.offset_min) * MINUTE_MS
    found = {}
    for metric in sorted({*person.streams, *other.streams}):
        parts = []
        if metric in person.streams:
            own = person.streams[metric]
            parts += [own.between(0, event.start_ms)]
        if metric in other.streams:
            others = other.streams[metric]
            parts.append(others._replace(t_ms=others.t_ms + later_ms).between(event.start_ms, event.end_ms))
        if metric in person.streams:
            parts.append(own.between(event.end_ms, int(own.t_ms[-1]) + 1 if len(own.t_ms) else 0))
        found[metric] = Series.joined(parts)
    return found


def evaluate(folder: Path | None, processor: Processor, told: Any = lambda *_: None) -> dict[str, Any]:
    """Return the task's document; ``folder`` of raw recordings, None: made-up people only."""
    groups = {"synthetic": [Subject(name, streams, offset, None) for name, streams, offset in background()]}
    if folder is not None:
        groups[folder.name] = [Subject(one.name, one.streams, 0, one.onset) for one in read_wearers(folder)]
    found = {name: _group(name, people, processor, told) for name, people in groups.items()}
    return {"task": "exchanged", "seed": SEED, "backgrounds": found}


def _group(name: str, people: list[Subject], processor: Processor, told: Any) -> dict[str, Any]:
    plain = _heard(people, [dict(one.streams) for one in people], processor)
    false = {"nothing": _false(plain)}
    for done, case in enumerate(LISTED):
        told(f"{name}: {case}", done, len(LISTED) + OTHERS)
        events = [place(one.name, one.streams, one.offset_min, case, one.onset) for one in people]
        ill = [
            (one, inject(one.name, one.streams, event))
            for one, event in zip(people, events, strict=True)
            if event is not None
        ]
        if ill:
            false[case] = _false(_heard([one for one, _ in ill], [streams for _, streams in ill], processor))
    nights: list[int | None] = []
    ended: list[int | None] = []
    for step in range(1, OTHERS + 1):
        told(f"{name}: exchange {step}", len(LISTED) + step - 1, len(LISTED) + OTHERS)
        worn_from = [exchange(people, i, step) for i in range(len(people))]
        worn = [(people[i], event) for i, event in enumerate(worn_from) if event is not None]
        streams = [worn_by(one, people[event.other], event) for one, event in worn]
        for (_, event), heard in zip(worn, _heard([one for one, _ in worn], streams, processor), strict=True):
            nights.append(noticed(heard, event))
            ended.append(after_return(heard, event))
    found = [night for night in nights if night is not None]
    return {
        "n": len(people),
        "exchanges": len(nights),
        "found": {f"{within}": vars(share(sum(night <= within for night in found), len(nights))) for within in NIGHTS},
        "returned": [days for days in ended if days is not None],
        "false": false,
    }


def _heard(people: Sequence[Subject], streams: list[dict[str, Series]], processor: Processor) -> list[Heard]:
    return processor(streams, [one.offset_min for one in people], lambda *_: None)


def _false(heard: list[Heard]) -> dict[str, Any]:
    """Return how often the question is asked though nobody else wore the device, with the one-sided 95 % bound."""
    weeks = sum(len(np.unique(one.hours // DAY_MS)) for one in heard) / 7
    asked = sum(alert.rule == WEARER_IN_DOUBT.id for one in heard for alert in one.alerts)
    bound = float(chi2.ppf(0.95, 2 * asked + 2)) / 2 / weeks
    return {"n": len(heard), "weeks": round(weeks, 1), "asked": asked, **vars(rate(asked, weeks)), "bound": bound}


def noticed(heard: Heard, event: Exchange) -> int | None:
    """Return in which night of the other's it was asked, from 1; None where not while they wore it."""
    asked = [alert.found_ms for alert in heard.alerts if alert.rule == WEARER_IN_DOUBT.id]
    inside = [at_ms for at_ms in asked if event.start_ms < at_ms <= event.end_ms]
    return (min(inside) - event.start_ms + 2 * HOUR_MS) // DAY_MS if inside else None


def after_return(heard: Heard, event: Exchange) -> int | None:
    """Return in which own night the question ended, from 1; None where it was not asked, or did not end then."""
    ended = [
        alert.end_ms
        for alert in heard.alerts
        if alert.rule == WEARER_IN_DOUBT.id and event.start_ms < alert.found_ms <= event.end_ms
    ]
    last = ended[-1] if ended else None
    return None if last is None or last <= event.end_ms else (last - event.end_ms + 2 * HOUR_MS) // DAY_MS
