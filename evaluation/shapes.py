"""Is a day told whose heart rate takes another course, and how often one that doesn't? Beside plain distances.

Every method is held at limits of its own at which it tells equally many of the same ordinary days. Of what an event is
found in, as many days without it are taken off that are told anyway. Limits are those of these same people, all methods
alike; intervals resample people. The made-up ones are others than those by whom the configuration was chosen. An
ordinary day is any as it was recorded, illness included.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from detectors.apart import HOURS
from detectors.novelty import DAYS, SHARES
from detectors.protocol import Bools, Doubles
from detectors.shape import UNLIKE, Shape
from evaluation import shape_wearers
from evaluation.budgets import interval, resampled, rounded
from evaluation.injected import Subject
from evaluation.injector import SEED, SYNTHETIC_DAYS, SYNTHETIC_PEOPLE, SYNTHETIC_START_MS
from evaluation.shape_events import EVENTS, FIRST, LASTS, RIVALS, far, hourly, z_of
from evaluation.wearers import read_wearers
from simulators.patients import Patient
from simulators.profile import draw_profile
from simulators.series import DAY_MS

OURS: Final = "discord of the course (what is shown)"
METHODS: Final = (OURS, *RIVALS)
ALLOWED: Final = {"1 of 20": 0.05, "1 of 50": 0.02, "0.005 a week": 0.005 / 7}
"""Of ordinary days, as many may be told; the last is an adaptive rule's share of the alert budget."""
FIRST_OF_OTHERS: Final = 101
CONFIGURATIONS: Final = 56
"""Tried before, by the 8 of ``wearable_hr`` and the 24 of ``evaluation.injector``: mean, quantiles or still minutes of
an hour; mean absolute, bounded or Euclidean difference; days scaled or not; the nearest or third nearest; an hour
earlier or later or not; the least number of hours."""


class Told(NamedTuple):
    """How unusual each method finds one person's days, METHODS by methods first; the higher the more."""

    plain: Doubles  # (M, S) of the days on which an event may begin
    anyway: Doubles  # (M, S) the most of as many days as an event is looked for, without it
    found: dict[str, Doubles]  # (M, S) and with it
    p: Doubles  # (D,) of every day that is judged
    turned: dict[str, float | None]  # of what is unlike, the share that is said to be turned so far, within an hour


def evaluate(folder: Path | None, told: Any = lambda *_: None) -> dict[str, Any]:
    """Return the task's document; ``folder`` of raw recordings, None: made-up people only."""
    groups = {"made-up": _made_up()}
    if folder is not None:
        groups[folder.name] = [Subject(one.name, one.streams, 0, one.onset) for one in read_wearers(folder)]
    found = {name: _group(name, people, told) for name, people in groups.items()}
    return {"task": "shape", "configurations": CONFIGURATIONS, "backgrounds": found}


def _made_up() -> list[Subject]:
    """Return people of the simulator, others than those by whom the configuration was chosen."""
    found = []
    for index in range(FIRST_OF_OTHERS, FIRST_OF_OTHERS + SYNTHETIC_PEOPLE):
        patient = Patient(draw_profile(SEED, index))
        readings = patient.readings(SYNTHETIC_START_MS, SYNTHETIC_START_MS + SYNTHETIC_DAYS * DAY_MS)
        found.append(Subject(f"made-up-{index}", readings, patient.profile.utc_offset_min, None))
    return found


def _group(name: str, people: list[Subject], told: Any) -> dict[str, Any]:
    days = [hourly(one.streams["heart_rate"], one.offset_min) for one in people]
    judged = []
    for done, (_, rates) in enumerate(days):
        told(name, done, len(days))
        judged.append(tell(rates))
    some = [one for one in judged if one.plain.shape[1]]
    starts = np.array([one.plain.shape[1] for one in some])
    weights = resampled(len(some))
    table: dict[str, Any] = {method: {} for method in METHODS}
    for allowed, share in ALLOWED.items():
        counts = [_count(some, place, share) for place in range(len(METHODS))]
        gains = {
            event: [100 * (weights @ (one[event] - one["anyway"])) / (weights @ starts) for one in counts]
            for event in EVENTS
        }
        for place, method in enumerate(METHODS):
            table[method][allowed] = {
                "told": int(counts[place]["plain"].sum()),
                "events": {
                    event: {
                        "gain": rounded(float(gain[place][0])), "ci": interval(gain[place]),
                        "ahead": rounded(float((gain[0] - gain[place])[0])),
                        "ahead_ci": interval(gain[0] - gain[place]),
                    }
                    for event, gain in gains.items()
                },
            }  # fmt: skip
    return {
        "n": len(people), "judged": len(some), "starts": int(starts.sum()),
        "days": sum(len(rates) for _, rates in days), "known": int(sum(np.isfinite(one.p).sum() for one in judged)),
        "methods": table, "p": _p_values([one.p for one in judged]), "turned": _turned(some),
        "wearers": shape_wearers.evaluate(people),
    }  # fmt: skip


def tell(rates: Doubles) -> Told:
    """Return what every method makes of one person's days (D, 24), with each event put in on each day it may begin."""
    p, before = _replay(rates)
    distances = {name: np.array([far(how, rates, at) for at in range(len(rates))]) for name, how in RIVALS.items()}
    z = [np.array([z_of(d[at], d[max(at - DAYS, 0) : at]) for at in range(len(d))]) for d in distances.values()]
    each = np.array([-np.log(p), *z])
    places = np.arange(FIRST, len(rates) - LASTS)
    places = places[np.isfinite(each[:, places]).all(axis=0)]
    inside = places[:, None] + np.arange(LASTS)
    most = _most(each[:, inside])
    found, turned = {}, {}
    for name, event in EVENTS.items():
        changed = np.array([event.of(rates, at) for at in places]).reshape(len(places), event.days, HOURS)
        after = rates[inside] if len(places) else np.zeros((0, LASTS, HOURS))
        after[:, : event.days] = changed
        scores, turns = _after(before[places], places, after)
        others = [
            [_rival(how, rates, distances[rival], at, days) for at, days in zip(places.tolist(), after, strict=True)]
            for rival, how in RIVALS.items()
        ]
        found[name] = np.array([scores, *others]).reshape(len(METHODS), len(places))
        turned[name] = turns
    return Told(each[:, places], most, found, p, turned)


def _replay(rates: Doubles) -> tuple[Doubles, Any]:
    """Return (D,) the p-value of each day, and the state before each."""
    shape = Shape()
    state, found, before = shape.new_state(1), [], []
    for at, rate in enumerate(rates):
        before.append(state.copy())
        found.append(float(shape.advance(state, np.array([0]), np.array([at + 1], "i4"), rate[None]).p[0]))
    return np.array(found), np.concatenate(before)


def _after(state: Any, places: Any, days: Doubles) -> tuple[Doubles, Any]:
    """Return (S,) the highest score of the days (S, L, 24) that begin at the places, and the turns that were said."""
    shape, rows, found, turns = Shape(), np.arange(len(places)), [], []
    for ahead in range(days.shape[1]):
        said = shape.advance(state, rows, (places + ahead + 1).astype(np.int32), days[:, ahead])
        found.append(-np.log(said.p))
        turns.append(said.turned[said.unlike])
    return _most(np.array(found).T), np.concatenate(turns)


def _rival(how: Any, rates: Doubles, distances: Doubles, at: int, days: Doubles) -> float:
    """Return the highest z of one event's days, those before it counting for the later ones."""
    changed = np.concatenate([rates[:at], days])
    before = distances[max(at - DAYS, 0) : at]
    return float(_most(np.array([z_of(far(how, changed, at + ahead), before) for ahead in range(len(days))])))


def _most(scores: Doubles) -> Doubles:
    """Return the highest along the last axis; what is not known finds nothing."""
    return np.asarray(np.where(np.isfinite(scores), scores, -np.inf).max(axis=-1))


def _count(people: Sequence[Told], place: int, share: float) -> dict[str, Doubles]:
    """Return (N,) how many days and events one method tells of each person, where so large a share of days is told."""
    every = np.sort(np.concatenate([one.plain[place] for one in people]))[::-1]
    limit = every[int(share * len(every))]

    def over(scores: Doubles) -> int:
        told: Bools = scores[place] > limit
        return int(told.sum())

    return {
        "plain": np.array([over(one.plain) for one in people]),
        "anyway": np.array([over(one.anyway) for one in people]),
        **{event: np.array([over(one.found[event]) for one in people]) for event in EVENTS},
    }


def _p_values(each: Sequence[Doubles]) -> dict[str, Any]:
    """Return the share of judged days on which the p-value is so small, with its interval by person."""
    known = [p[np.isfinite(p)] for p in each]
    n = np.array([len(p) for p in known], float)
    weights, found = resampled(len(known)), {}
    for level in (*SHARES[1:].tolist(),):
        below = np.array([(p <= level).sum() for p in known], float)
        shares = weights @ below / np.maximum(weights @ n, 1)
        found[f"{level:g}"] = {"share": rounded(float(shares[0])), "ci": interval(shares), "told": level == UNLIKE}
    return found


def _turned(people: Sequence[Told]) -> dict[str, Any]:
    """Return, of the unlike days of each event, how many are said to be turned, and the middle turn of those."""
    found = {}
    for event in EVENTS:
        turns = np.concatenate([np.asarray(one.turned[event]) for one in people])
        said = turns[turns != 0]
        found[event] = {
            "unlike": len(turns),
            "said": len(said),
            "median": float(np.median(said)) if len(said) else None,
        }
    return found
