"""Was anything said before people fell ill, and more than about the same people on other days?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from detectors.daily import LIMITS
from detectors.protocol import Bools, Doubles
from evaluation import daily, nightly
from evaluation.budgets import RESAMPLED, SEED, Rates, beside, budget_rows, resampled, row
from evaluation.days import CHANNELS, NotEvaluable, Person, read_people
from evaluation.nested import nested
from evaluation.references import REFERENCES
from evaluation.windows import Counts, count, eligible, healthy

BASAL: Final = CHANNELS.index("basal")
PROCESSOR: Final = "processor"
Told = Callable[[str, int, int], None]  # what is being done, done, of


def chosen_people(folder: Path) -> tuple[list[Person], list[Person]]:
    """Return who is eligible, and everybody.

    Raises:
        NotEvaluable: no file, one that can't be read, or nobody eligible.
    """
    everybody = read_people(folder)
    people = [person for person in everybody if eligible(person.day)]
    if not people:
        msg = (
            f"{folder}: nobody of {len(everybody)} is eligible; needed are at least 14 valid days before day -14 and "
            "5 in [-14, 0], day 0 being the onset"
        )
        raise NotEvaluable(msg)
    return people, everybody


def counted(people: list[Person], paths: list[Bools]) -> Counts:
    """Return what a rule did to the people; ``paths`` (T, D) each."""
    return count([(person.day, path) for person, path in zip(people, paths, strict=True)])


def evaluate(
    folder: Path, told: Told = lambda *_: None, *, nested_cv: bool = False, resamples: int = RESAMPLED
) -> dict[str, Any]:
    """Return the task's document for a folder of daily parameters.

    What runs is judged with the limits it is shipped with, whoever the people are; the references get their limits from
    these very people, which is to their favour. ``nested_cv``: beside it ``daily``, configuration and limits chosen
    inside the fold, and the references' limits too.
    """
    people, everybody = chosen_people(folder)
    weights = resampled(len(people), resamples)
    shipped = {str(budget): _shipped(people, limit, weights) for budget, limit in LIMITS.items()}
    points: dict[str, dict[str, Doubles]] = {PROCESSOR: {budget: figures for budget, (_, figures) in shipped.items()}}
    rows = {budget: found for budget, (found, _) in shipped.items()}
    budgets: dict[str, Any] = rows
    chosen: dict[str, int] | None = None
    if nested_cv:
        folds = nested(_configurations(people, told))
        budgets, chosen = folds.document(weights), folds.chosen
        points[daily.NAME] = folds.figures(weights)
    theirs, published, compared = {}, {}, {}
    for done, (name, reference) in enumerate(REFERENCES.items()):
        told(name, done, len(REFERENCES))
        paths = [reference.active(person.day, person.value[:, BASAL]) for person in people]
        counts = counted(people, paths)
        rates = Rates.of(counts, weights)
        theirs[name] = (
            nested({name: counts}).document(weights) if nested_cv else budget_rows(rates, reference.thresholds)
        )
        compared[name] = {
            rule: {budget: beside(one, rates) for budget, one in each.items()} for rule, each in points.items()
        }
        if reference.fixed is not None:
            place = int(np.argmin(np.abs(reference.thresholds - reference.fixed)))
            published[name] = row(_alone(people, [path[place : place + 1] for path in paths], weights))
    windows = counted(people, [np.zeros((1, len(person.day)), bool) for person in people])
    return {
        "task": "onset",
        "data": folder.name,
        "n": len(people),
        "not_eligible": len(everybody) - len(people),
        "rows_left_out": sum(person.dropped for person in everybody),
        "control_windows": int(windows.windows.sum()),
        "healthy_weeks": round(float(windows.weeks.sum()), 2),
        "resamples": resamples,
        "seed": SEED,
        "detector": daily.NAME if nested_cv else PROCESSOR,
        "nested_cv": nested_cv,
        "configurations_tried": len(daily.CONFIGURATIONS),
        "chosen": chosen or daily.SHIPPED_NAME,
        "budgets": budgets,
        PROCESSOR: rows,
        "references": theirs,
        "as_published": published,
        "beside": compared,
    }


def _shipped(people: list[Person], limit: float, weights: Doubles) -> tuple[dict[str, Any], Doubles]:
    """Return what runs now with a limit that is shipped: its row, with the further tellings, and its figures (5, B)."""
    nights = nightly.replay(people, limit)
    figures = _alone(people, [night.active[None, :] for night in nights], weights)
    further = sum(int((night.worse & healthy(person.day)).sum()) for person, night in zip(people, nights, strict=True))
    return {"threshold": limit} | row(figures) | {"further": further}, figures


def _configurations(people: list[Person], told: Told) -> dict[str, Counts]:
    found = {}
    for done, (name, settings) in enumerate(daily.CONFIGURATIONS.items()):
        told("configurations", done, len(daily.CONFIGURATIONS))
        found[name] = counted(people, daily.paths(people, settings))
    return found


def _alone(people: list[Person], paths: list[Bools], weights: Doubles) -> Doubles:
    """Return the operating point (5, B) of a rule with one threshold."""
    return Rates.of(counted(people, paths), weights).at(np.zeros(len(weights), np.intp))
