"""Small shifts that stay: of how many people they are told and asked about, how soon, and what that costs.

Made-up people (``evaluation.made_up_days``), others than those by whom ``detectors.shift``'s limits were chosen, live
the same days with a step or a ramp of one vital from a drawn day on, and without it. Real people's daily heart rates
(``onset_daily``) tell how often a fall of the night's is told in healthy spans, before and after an illness.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from detectors.baseline import ACTIVE_HEART, NIGHT_BREATH, NIGHT_HEART, NIGHT_SPO2, PAIRS, REST_HEART
from detectors.daily import LIMITS
from detectors.protocol import Bools, Longs
from detectors.rules import DRIFTS, NIGHT_BREATH_RISE, SHIFTS
from detectors.shift import WATCHED
from evaluation.budgets import interval, resampled, rounded
from evaluation.days import Person, read_people
from evaluation.made_up_days import People, Told, live, people
from evaluation.nightly import BASAL
from evaluation.seeds import rate
from evaluation.windows import ILL, healthy

JUDGED_BY: Final = (400, 84, 1000)  # people, days, the first of them: limits were chosen by 0 to 249
TRIED: Final = 176
"""Configurations tried before what runs: 167 of reference, slack, cap, guard and least nights (most of them at 39
limits each, by days), and 9 sets of limits by all that runs, the last of them by its hours."""
SEED, RESAMPLED = 20_261_201, 2000
EARLIEST, LATEST = 36, 62  # day of a shift
NIGHTS: Final = (7, 14, 21)  # after which what is told counts
BUDGET: Final = "0.1"
HEARTS: Final = (NIGHT_HEART, REST_HEART, ACTIVE_HEART)


class Event(NamedTuple):
    """What shifts by how much; over ``ramp`` days; for how many, None: for good."""

    pair: int
    size: float
    ramp: int = 1
    days: int | None = None
    night_only: bool = False  # nothing is worn by day

    @property
    def name(self) -> str:
        """What it is called in the table."""
        one = PAIRS[self.pair]
        what = {"heart_rate": "heart rate", "spo2": "oxygen", "respiratory_rate": "breathing"}[one.metric]
        how = f" over {self.ramp} days" if self.ramp > 1 else ""
        ends = "" if self.days is None else f" for {self.days} nights"
        alone = ", worn at night alone" if self.night_only else ""
        return f"{what} {self.size:+g}{how}{ends}{alone}".replace("-", "−")


EVENTS: Final = (
    *(Event(NIGHT_HEART, size) for size in (-3, -5, -7)),
    *(Event(NIGHT_HEART, size, ramp=14) for size in (-5, -7)),
    *(Event(NIGHT_HEART, size, night_only=True) for size in (-5, -7)),
    Event(NIGHT_HEART, -5, days=7),
    *(Event(NIGHT_SPO2, size) for size in (-1, -1.5)),
    Event(NIGHT_SPO2, -1.5, ramp=14),
    Event(NIGHT_SPO2, -1.5, days=7),
    *(Event(NIGHT_BREATH, size) for size in (1.5, 2.5)),
    Event(NIGHT_BREATH, 2.5, ramp=14),
    Event(NIGHT_BREATH, 2.5, days=7),
)
_RULE: Final = {one.pair: rule for one, rule in zip(WATCHED, SHIFTS, strict=True)}


def evaluate(
    data: Path | None = None, told: Any = lambda *_: None, judged_by: tuple[int, int, int] = JUDGED_BY
) -> dict[str, Any]:
    """Return the task's document; ``data``: a folder of daily heart-rate parameters, None: made-up people alone."""
    well, day = people(*judged_by), np.random.default_rng(SEED).integers(EARLIEST, LATEST + 1, judged_by[0])
    usually = {alone: live(_worn(well, night_only=alone), LIMITS[BUDGET]) for alone in (False, True)}
    events = []
    for done, event in enumerate(EVENTS):
        told(event.name, done, len(EVENTS))
        lived = live(_worn(shifted(well, event, day), night_only=event.night_only), LIMITS[BUDGET])
        events.append({"event": event.name, **_found(event, lived, usually[event.night_only], day)})
    weeks = judged_by[0] * judged_by[1] / 7
    return {
        "task": "shifts",
        "n": judged_by[0],
        "days": judged_by[1],
        "configurations_tried": TRIED,
        "events": events,
        "costs": {rule.id: _rate(int(usually[False].of(rule.id).sum()), weeks) for rule in SHIFTS},
        "real": None if data is None else _real(read_people(data)),
    }


def shifted(well: People, event: Event, day: Longs) -> People:
    """Return people one of whose vitals shifts from the night of their ``day`` (N,) on; a heart rate's all day."""
    since = np.arange(well.values.shape[1]) - day[:, None]
    share = np.clip((since + 1) / event.ramp, 0, 1) * (since < (np.inf if event.days is None else event.days))
    changed = well
    for pair in HEARTS if event.pair == NIGHT_HEART else (event.pair,):
        changed = changed.other(pair, changed.values[:, :, pair] + event.size * share)
    return changed


def _worn(given: People, *, night_only: bool) -> People:
    if not night_only:
        return given
    nothing = np.full(given.steps.shape, np.nan)
    return given.other(REST_HEART, nothing).other(ACTIVE_HEART, nothing)


def _found(event: Event, lived: Told, usually: Told, day: Longs) -> dict[str, Any]:
    rule = _RULE[event.pair]
    every = [one.id for one in (rule, *DRIFTS, NIGHT_BREATH_RISE) if one.metric == rule.metric]  # of the same side
    by_any, by_any_anyway = (np.any([of.of(one) for one in every], axis=0) for of in (lived, usually))
    return {
        "asked": [_share(_within(lived.of(rule.id), day, nights)) for nights in NIGHTS],
        "anyway": _share(_within(usually.of(rule.id), day, NIGHTS[-1])),
        "by_any": _share(_within(by_any, day, NIGHTS[-1])),
        "by_any_anyway": _share(_within(by_any_anyway, day, NIGHTS[-1])),
    }


def _within(told: Bools, day: Longs, nights: int) -> Bools:
    """Return (N,) of whom something was told in the first ``nights`` nights of a shift."""
    since = np.arange(told.shape[1]) - day[:, None]
    return np.asarray((told & (since >= 0) & (since < nights)).any(1))


def _share(found: Bools) -> dict[str, Any]:
    shares = resampled(len(found), RESAMPLED) @ found.astype(float) / len(found)
    return {"share": rounded(float(shares[0])), "ci": interval(shares)}


def _real(given: Iterable[Person]) -> dict[str, Any]:
    """Return how often a fall of the night's heart rate is told of real people, in spans about an illness."""
    persons = [one for one in given if len(one.day)]
    first, last = min(int(one.day[0]) for one in persons), max(int(one.day[-1]) for one in persons)
    values = np.full((len(persons), last - first + 1, len(PAIRS)), np.nan)
    for row, one in enumerate(persons):
        values[row, one.day - first, NIGHT_HEART] = one.value[:, BASAL]
    fallen = live(People(values, np.zeros(values.shape[:2])), LIMITS[BUDGET]).of(SHIFTS[0].id)
    spans: dict[str, tuple[int, float]] = {}
    for row, one in enumerate(persons):
        which = {
            "healthy": healthy(one.day),
            "before": (one.day >= ILL[0]) & (one.day <= 0),
            "after": (one.day > 0) & (one.day <= ILL[1]),
        }
        for name, days in which.items():
            told, weeks = spans.get(name, (0, 0.0))
            spans[name] = (told + int(fallen[row, one.day[days] - first].sum()), weeks + int(days.sum()) / 7)
    return {"n": len(persons), "spans": {name: _rate(*span) for name, span in spans.items()}}


def _rate(n: int, weeks: float) -> dict[str, Any]:
    got = rate(n, weeks)
    ends = [rounded(got.low), rounded(got.high)]
    return {"n": n, "weeks": round(weeks, 1), "rate": rounded(got.value), "ci": ends}
