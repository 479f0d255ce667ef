"""Was anything said before people fell ill, and more than about the same people on other days?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from detectors.protocol import Bools, Doubles
from evaluation import daily, nightly
from evaluation.budgets import BUDGETS, RESAMPLED, SEED, Rates, beside, budget_rows, resampled, row
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


@dataclass(frozen=True, slots=True)
class Judged:
    """One rule: its counts at T thresholds, those at the threshold it was published with, and what came of a choice."""

    thresholds: Doubles
    rates: Rates
    rows: dict[str, Any]  # by budget
    points: dict[str, Doubles]  # the same, (5, B) each, in the order of ``Rates.at``
    chosen: dict[str, int] | None  # configuration → folds; None: no choice was made

    @classmethod
    def of(cls, configurations: Mapping[str, Counts], shipped: str, thresholds: Doubles, weights: Doubles,
           *, nested_cv: bool) -> Judged:  # fmt: skip
        """Judge the shipped configuration with its limits by the same people, or all of them by nested folds."""
        rates = Rates.of(configurations[shipped], weights)
        if nested_cv:
            chosen = nested(configurations)
            return cls(thresholds, rates, chosen.document(weights), chosen.figures(weights), chosen.chosen)
        points = {str(budget): rates.at(rates.within(budget)) for budget in BUDGETS}
        return cls(thresholds, rates, budget_rows(rates, thresholds), points, None)


def evaluate(
    folder: Path, told: Told = lambda *_: None, *, nested_cv: bool = False, resamples: int = RESAMPLED
) -> dict[str, Any]:
    """Return the task's document for a folder of daily parameters.

    ``nested_cv``: configuration and limits are chosen inside the fold, the references' limits too.
    """
    people, everybody = chosen_people(folder)
    weights = resampled(len(people), resamples)
    ours = Judged.of(
        _configurations(people, told, nested_cv=nested_cv), daily.SHIPPED_NAME, daily.LIMITS, weights,
        nested_cv=nested_cv,
    )  # fmt: skip
    nights = nightly.replay(people)
    shipped = _alone(people, [night.active[None, :] for night in nights], weights)
    further = sum(int((night.worse & healthy(person.day)).sum()) for person, night in zip(people, nights, strict=True))
    theirs, fixed = {}, {}
    for done, (name, reference) in enumerate(REFERENCES.items()):
        told(name, done, len(REFERENCES))
        paths = [reference.active(person.day, person.value[:, BASAL]) for person in people]
        counts = counted(people, paths)
        theirs[name] = Judged.of({name: counts}, name, reference.thresholds, weights, nested_cv=nested_cv)
        if reference.fixed is not None:
            place = int(np.argmin(np.abs(reference.thresholds - reference.fixed)))
            fixed[name] = _alone(people, [path[place : place + 1] for path in paths], weights)
    points = ours.points | {PROCESSOR: shipped}
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
        "detector": daily.NAME,
        "nested_cv": nested_cv,
        "configurations_tried": len(daily.CONFIGURATIONS),
        "chosen": ours.chosen or daily.SHIPPED_NAME,
        "budgets": ours.rows,
        PROCESSOR: row(shipped) | {"further": further},
        "references": {
            name: judged.rows | {"as_published": row(fixed[name]) if name in fixed else None}
            for name, judged in theirs.items()
        },
        "beside": {
            name: {point: beside(figures, judged.rates) for point, figures in points.items()}
            for name, judged in theirs.items()
        },
    }


def _configurations(people: list[Person], told: Told, *, nested_cv: bool) -> dict[str, Counts]:
    wanted = daily.CONFIGURATIONS if nested_cv else {daily.SHIPPED_NAME: daily.CONFIGURATIONS[daily.SHIPPED_NAME]}
    found = {}
    for done, (name, settings) in enumerate(wanted.items()):
        told("configurations", done, len(wanted))
        found[name] = counted(people, daily.paths(people, settings))
    return found


def _alone(people: list[Person], paths: list[Bools], weights: Doubles) -> Doubles:
    """Return the operating point (5, B) of a rule with one threshold."""
    return Rates.of(counted(people, paths), weights).at(np.zeros(len(weights), np.intp))
