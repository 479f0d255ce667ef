"""Was anything said before people fell ill, and more than about the same people on other days?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from detectors.protocol import Bools, Doubles, Ints
from evaluation import nightly
from evaluation.budgets import RESAMPLED, SEED, Rates, beside, budget_rows, resampled, row
from evaluation.days import CHANNELS, NotEvaluable, Person, read_people
from evaluation.references import REFERENCES
from evaluation.windows import count, eligible

BASAL: Final = CHANNELS.index("basal")
Told = Callable[[str, int, int], None]  # what is being done, done, of


@dataclass(frozen=True, slots=True)
class Paths:
    """What one rule said of N people: each (T, D) at T thresholds, and at the one it ships with, each (1, D)."""

    thresholds: Doubles
    swept: list[Bools]
    fixed: list[Bools] | None


def reference_paths(people: list[Person]) -> dict[str, Paths]:
    """Return what each reference says of the people."""
    found = {}
    for name, reference in REFERENCES.items():
        swept = [reference.active(person.day, person.value[:, BASAL]) for person in people]
        fixed = None
        if reference.fixed is not None:
            place = int(np.argmin(np.abs(reference.thresholds - reference.fixed)))
            fixed = [path[place : place + 1] for path in swept]
        found[name] = Paths(reference.thresholds, swept, fixed)
    return found


def nightly_paths(people: list[Person]) -> Paths:
    """Return what the processor's detection says; it has one threshold."""
    active = [night.active[None, :] for night in nightly.replay(people)]
    return Paths(nightly.THRESHOLDS, active, active)


@dataclass(frozen=True, slots=True)
class Judged:
    """One rule's rates in all resamples."""

    thresholds: Doubles
    rates: Rates
    fixed: Doubles | None  # (5, B) at the threshold it ships with

    @classmethod
    def of(cls, days: list[Ints], paths: Paths, weights: Doubles) -> Judged:
        """Judge what a rule said on the people's days."""
        rates = Rates.of(count(list(zip(days, paths.swept, strict=True))), weights)
        fixed = None
        if paths.fixed is not None:
            alone = Rates.of(count(list(zip(days, paths.fixed, strict=True))), weights)
            fixed = alone.at(np.zeros(len(weights), np.intp))
        return cls(paths.thresholds, rates, fixed)

    def document(self) -> dict[str, Any]:
        """Return the operating points: at the budgets, and ``as_shipped`` where there is a threshold."""
        shipped = None if self.fixed is None else row(self.fixed)
        return {**budget_rows(self.rates, self.thresholds), "as_shipped": shipped}


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


def evaluate(folder: Path, told: Told = lambda *_: None, resamples: int = RESAMPLED) -> dict[str, Any]:
    """Return the task's document for a folder of daily parameters."""
    people, everybody = chosen_people(folder)
    days = [person.day for person in people]
    weights = resampled(len(people), resamples)
    told("shipped detection", 0, 1 + len(REFERENCES))
    ours = Judged.of(days, nightly_paths(people), weights)
    theirs = {}
    for done, (name, paths) in enumerate(reference_paths(people).items(), start=1):
        told(name, done, 1 + len(REFERENCES))
        theirs[name] = Judged.of(days, paths, weights)
    return document(folder, people, everybody, ours, theirs, resamples) | {"detector": nightly.NAME}


def document(
    folder: Path, people: list[Person], everybody: list[Person], ours: Judged, theirs: dict[str, Judged], resamples: int
) -> dict[str, Any]:
    """Return what was found as plain JSON."""
    points: dict[str, Doubles] = {name: ours.rates.at(ours.rates.within(float(name))) for name in ("0.1", "0.2", "0.3")}
    if ours.fixed is not None:
        points["as_shipped"] = ours.fixed
    own = ours.document()
    counts = count([(person.day, np.zeros((1, len(person.day)), bool)) for person in people])
    return {
        "task": "onset",
        "data": folder.name,
        "n": len(people),
        "not_eligible": len(everybody) - len(people),
        "rows_left_out": sum(person.dropped for person in everybody),
        "control_windows": int(counts.windows.sum()),
        "healthy_weeks": round(float(counts.weeks.sum()), 2),
        "resamples": resamples,
        "seed": SEED,
        "configurations_tried": 1,
        "budgets": {name: own[name] for name in ("0.1", "0.2", "0.3")},
        "as_shipped": own["as_shipped"],
        "references": {name: judged.document() for name, judged in theirs.items()},
        "beside": {
            name: {point: beside(figures, judged.rates) for point, figures in points.items()}
            for name, judged in theirs.items()
        },
    }
