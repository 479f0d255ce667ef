"""Does it speak as often as asked, from the first day on and with data missing; do its bands hold what they say?

What runs now has the limits that are shipped. ``daily`` gets a limit for each budget from the other people (person-wise
folds), and its rate is that of the people left out. Made-up people (``evaluation.made_up``) stand beside the real ones,
who are too few for most cells; the two are never pooled.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from detectors.daily import LIMITS, Budget
from detectors.protocol import Bools, Doubles, Ints
from evaluation import daily, first_days, nightly, p_values
from evaluation.budgets import BUDGETS, SEED
from evaluation.cells import AGES, by_age, criterion
from evaluation.days import CHANNELS, NotEvaluable, Person, read_people
from evaluation.first_days import BAND
from evaluation.heard import Processor
from evaluation.made_up import FAR_FROM_ILL
from evaluation.made_up import nights as made_up_nights
from evaluation.nested import folds
from evaluation.rivals import begins
from evaluation.wearers import is_folder_of_recordings, read_wearers
from evaluation.windows import ILL

RULES: Final = ("processor", "daily")
MADE_UP: Final = (250, 150)  # people, days: 40 alerts and more are expected in each cell
MISSING: Final = (0.0, 0.1, 0.25, 0.5)
LEARNED: Final = 5
LEAST_JUDGED: Final = 14  # days of a person without which their coverage says nothing


def evaluate(folder: Path, processor: Processor, told: Any = lambda *_: None) -> dict[str, Any]:
    """Return the task's document for a folder of daily parameters or of raw recordings."""
    people = _nights_of(folder, processor, told) if is_folder_of_recordings(folder) else read_people(folder)
    people = [person for person in people if len(person.day)]
    if not people:
        msg = f"{folder} holds nobody with a valid day"
        raise NotEvaluable(msg)
    return {
        "task": "calibration",
        "data": folder.name,
        "seed": SEED,
        **_group(people, told, held_out=True),
        "made_up": {"days": MADE_UP[1], **_group(made_up_nights(*MADE_UP), told, held_out=False)},
    }


def _group(people: list[Person], told: Any, *, held_out: bool) -> dict[str, Any]:
    missing = {str(share): _calibration([masked(person, share) for person in people], told, share) for share in MISSING}
    nights, healthy = nightly.replay(people), _healthy(people)
    return {
        "n": len(people),
        "usual": float(np.median([np.nanmedian(person.value[:, nightly.BASAL]) for person in people])),
        "missing": missing,
        "criterion": {rule: criterion(missing, rule) for rule in RULES},
        "first_days": first_days.held([(night.z, night.spread) for night in nights], healthy),
        "p_values": p_values.evaluate(nights, healthy, held_out=held_out),
    }


def _healthy(people: list[Person]) -> list[Bools]:
    return [(person.day < ILL[0]) | (person.day > ILL[1]) for person in people]


def _nights_of(folder: Path, processor: Processor, told: Any) -> list[Person]:
    """Return the nights that the processor makes of raw recordings, as daily values; other channels are unknown."""
    wearers = read_wearers(folder)
    heard = processor([one.streams for one in wearers], [0] * len(wearers), lambda n, of: told("processor", n, of))
    people = []
    for one, each in zip(wearers, heard, strict=True):
        nights = each.nights
        value = np.full((len(nights.day), len(CHANNELS)), np.nan)
        value[:, nightly.BASAL] = nights.value
        first = int(nights.day[0]) if len(nights.day) else 0
        zero = first - FAR_FROM_ILL if one.onset is None else one.onset
        people.append(Person(one.name, (nights.day - zero).astype(np.int32), value, ""))
    return people


def masked(person: Person, share: float) -> Person:
    """Return a person without a share of the days, drawn from the seed and the name."""
    seed = [SEED, *person.name.encode(), round(share * 100)]
    kept = np.random.default_rng(seed).random(len(person.day)) >= share
    return Person(person.name, person.day[kept], person.value[kept], person.group)


def _calibration(people: list[Person], told: Any, share: float) -> dict[str, Any]:
    told(f"{share:.0%} missing", round(share * 100), 100)
    people = [person for person in people if len(person.day)]
    nights = nightly.replay(people)
    healthy = _healthy(people)
    said = [(night.z, night.spread, night.n_days) for night in nights]
    return {
        "processor": {budget: _shipped(people, healthy, budget) for budget in LIMITS},
        "daily": _budgets(people, healthy),
        "coverage": {
            "every day": coverage(said, healthy),
            "while nothing is told": coverage(
                said, [well & (night.sum <= LIMITS["0.1"] / 2) for well, night in zip(healthy, nights, strict=True)]
            ),
        },
    }


def _shipped(people: list[Person], healthy: list[Bools], budget: Budget) -> dict[str, Any]:
    now = [night.active[None, :] for night in nightly.replay(people, LIMITS[budget])]
    return {"asked": float(budget), "ages": by_age(now, healthy, [0] * len(people), float(budget))}


def _budgets(people: list[Person], healthy: list[Bools]) -> dict[str, Any]:
    paths = daily.paths(people)
    grown = [_age(person.day) > AGES[0][1] for person in people]
    begun = np.stack([(begins(p) & h & g).sum(1) for p, h, g in zip(paths, healthy, grown, strict=True)], axis=1)
    weeks = np.array([(h & g).sum() / 7 for h, g in zip(healthy, grown, strict=True)])
    found = {}
    for budget in BUDGETS:
        places = [0] * len(people)
        for out in folds(len(people)):
            others = np.setdiff1d(np.arange(len(people)), out)
            place = limit_within(begun[:, others].sum(1), float(weeks[others].sum()), budget)
            for i in out.tolist():
                places[i] = place
        found[str(budget)] = {"asked": budget, "ages": by_age(paths, healthy, places, budget)}
    return found


def limit_within(episodes: Doubles, weeks: float, budget: float) -> int:
    """Return the least strict place at which so many episodes in so many weeks keep to a budget; the last at most."""
    over = np.flatnonzero(episodes > budget * weeks)
    first = int(over[-1]) + 1 if len(over) else 0
    return min(max(first, int(np.argmax(episodes))), len(episodes) - 1)


def _age(day: Ints) -> Ints:
    return np.arange(1, len(day) + 1, dtype=np.int32)


def coverage(said: Sequence[tuple[Doubles, Doubles, Ints]], healthy: Sequence[Bools]) -> dict[str, Any]:
    """Return how many of each person's healthy days lay within 1.96 SDs, and how wide that band was, in /min.

    ``said``: (z, spread, clean days behind the baseline), (D,) each, a person. Judged where the baseline is learned.
    """
    shares, widths = [], []
    for (z, spread, n_days), well in zip(said, healthy, strict=True):
        judged = well & np.isfinite(z) & (n_days >= LEARNED)
        if judged.sum() >= LEAST_JUDGED:
            shares.append(float((np.abs(z[judged]) <= BAND).mean()))
            widths.append(float(np.median(2 * BAND * spread[judged])))
    each = sorted(round(share, 4) for share in shares)
    return {"n": len(shares), "each": each, "share": _quantiles(shares), "width": _quantiles(widths)}


def _quantiles(values: list[float]) -> dict[str, float | None]:
    names = ("p10", "median", "p90")
    if not values:
        return dict.fromkeys(names)
    return {name: round(float(q), 4) for name, q in zip(names, np.quantile(values, [0.1, 0.5, 0.9]), strict=True)}
