"""People as folders of daily heart-rate parameters describe them: one ``ID_results.csv`` a person.

Source: the format of Mayer et al., whose model splits a day's heart rate into a basal rate, a circadian swing, a rise
per step and noise; day 0 is the onset of symptoms. Rows are taken in the order of their days; a day without a basal
rate is no valid day.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from detectors.protocol import Doubles, Ints

COLUMNS: Final = {
    "basal": "Constant Vertical Shift in HR",
    "amplitude": "Amplitude of Circadian Oscillation",
    "per_step": "Heart Rate Increase per Step",
    "noise": "Uncorrelated noise (standard deviation)",
    "steps": "Daily step count",
}
"""Daily quantities, and the column of each."""

CHANNELS: Final = tuple(COLUMNS)
SUFFIX: Final = "_results.csv"
EXPECTED: Final = (
    "a folder with one ID_results.csv a person, whose first line names the columns Day, "
    + ", ".join(COLUMNS.values())
    + "; Day 0 is the onset of symptoms"
)


class NotEvaluable(ValueError):
    """What was named cannot be evaluated; the text names it and what was expected."""


@dataclass(frozen=True, slots=True)
class Person:
    """D valid days of one person, ascending."""

    name: str
    day: Ints  # (D,) days since the onset of symptoms
    value: Doubles  # (D, C) in the order of CHANNELS: /min, /min, /min a step, /min, steps; NaN where unknown
    group: str  # where the data come from, as the file says; empty where it doesn't
    dropped: int = 0  # rows left out: no basal rate, or a day given twice


def read_people(folder: Path) -> list[Person]:
    """Return everybody of a folder, by name.

    Raises:
        NotEvaluable: there is no such file, or one that can't be read.
    """
    paths = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
    if not paths:
        msg = f"{folder} holds no ID{SUFFIX}; expected is {EXPECTED}"
        raise NotEvaluable(msg)
    return [read_person(path) for path in paths]


def read_person(path: Path) -> Person:
    """Return one person's file; NotEvaluable where it can't be read."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{path} is no CSV file: {error}; expected is {EXPECTED}"
        raise NotEvaluable(msg) from error
    header = [name.lower() for name in rows[0]] if rows else []
    wanted = {"day": "Day", **COLUMNS}
    missing = [column for column in wanted.values() if column.lower() not in header]
    if missing:
        msg = f"{path} line 1: no column {missing[0]!r} in {','.join(header)[:120]!r}; expected is {EXPECTED}"
        raise NotEvaluable(msg)
    place = [header.index(column.lower()) for column in wanted.values()]
    table = np.array([_numbers(path, n, row, place) for n, row in enumerate(rows[1:], start=2)], np.float64)
    table = table.reshape(len(rows) - 1, len(place))
    valid = table[np.isfinite(table[:, :2]).all(axis=1)]
    day, first = np.unique(valid[:, 0].astype(np.int32), return_index=True)
    source = header.index("data source") if "data source" in header else None
    group = rows[1][source] if source is not None and len(rows) > 1 and source < len(rows[1]) else ""
    name = path.name.removesuffix(SUFFIX)
    return Person(name, day, valid[first, 1:], group, dropped=len(table) - len(day))


def _numbers(path: Path, line: int, row: list[str], place: list[int]) -> list[float]:
    """Return the wanted cells of a row, NaN where one is empty."""
    found = []
    for at in place:
        cell = row[at] if at < len(row) else ""
        try:
            number = float(cell) if cell else math.nan
        except ValueError as error:
            msg = f"{path} line {line}: {cell!r} is no number; expected is {EXPECTED}"
            raise NotEvaluable(msg) from error
        found.append(number if math.isfinite(number) else math.nan)
    return found
