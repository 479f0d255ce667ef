"""The Numenta Anomaly Benchmark on a checkout's ``data/`` and ``labels/``, scored as it is published.

Source: Lavin and Ahmad 2015, for the score: the first detection in a labelled window earns 2σ(-5p) - 1, p from -1 at
the window's left edge to 0 at its right one, as a share of the most that can be earned; one outside costs the same
function of its distance to the window before in windows, at most the profile's weight; a window without any costs the
profile's weight for a miss; the first 15 % of a file (750 rows at most) are not judged; 0 is a detector that never
speaks, 100 a perfect one. One threshold for all files, the best of each profile, as everyone takes it.

The detector is ``detectors.daily`` on the value alone, a row taken as a day, once upwards and once downwards; a file
is brought to its units by the median and MAD of the rows that are not judged. It speaks where an alert begins. Its
setting (``SETTINGS``: other channels, slack, memory, guard and end than ``SHIPPED``) and its limits are for this
benchmark only: the score says nothing of what runs for patients.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import numpy as np

from detectors.daily import CHANNELS, Daily, DailySettings
from detectors.protocol import Bools, Doubles
from evaluation.days import NotEvaluable

EXPECTED: Final = (
    "a checkout of the benchmark: data/GROUP/FILE.csv of timestamp,value and labels/combined_windows.json of "
    "GROUP/FILE.csv → [[first, last], …], each the timestamp of a row"
)
NEXT: Final = "get one with `git clone https://github.com/numenta/NAB` and give its folder"
SETTINGS: Final = DailySettings(weights=(("basal", 1.0),), slack=1.0, rate=1 / 500, slow=1.0, clear=0.25, reach=2.5)
UNITS: Final = CHANNELS["basal"]
LIMITS: Final = np.array([2, 4, 6, 8, 11, 15, 20, 30, 45, 70, 100, 150], np.float64)
PROBATION: Final = 0.15
PROBATION_ROWS: Final = 5000
FAR: Final = 3.0  # windows past the last one: a false detection costs all it can


class Profile(NamedTuple):
    """What a detection earns, a false one costs, and a miss costs."""

    found: float
    false: float
    missed: float


PROFILES: Final[Mapping[str, Profile]] = {
    "standard": Profile(1.0, 0.11, 1.0),
    "reward_low_FP_rate": Profile(1.0, 0.22, 1.0),
    "reward_low_FN_rate": Profile(1.0, 0.11, 2.0),
}


class File(NamedTuple):
    """One series with its labelled windows, as the places of their first and last rows."""

    name: str
    value: Doubles  # (N,)
    windows: list[tuple[int, int]]

    @property
    def unjudged(self) -> int:
        """How many rows at the beginning are not judged."""
        return int(min(np.floor(PROBATION * len(self.value)), PROBATION * PROBATION_ROWS))


def evaluate(folder: Path, told: Any = lambda *_: None) -> dict[str, Any]:
    """Return the task's document.

    Raises:
        NotEvaluable: the folder is no such checkout, or a file can't be read.
    """
    files = read(folder)
    fired = detections(files, told)
    scores = {}
    for name, profile in PROFILES.items():
        by_limit = [
            normalised(files, [rows[t] for rows in fired], profile) for t in range(len(LIMITS))
        ]  # fmt: skip
        best = int(np.argmax(by_limit))
        scores[name] = {"score": round(by_limit[best], 2), "limit": float(LIMITS[best])}
    return {
        "task": "nab",
        "data": folder.name,
        "n": len(files),
        "windows": sum(len(_judged(file)) for file in files),
        "limits_tried": len(LIMITS),
        "profiles": scores,
    }


def read(folder: Path) -> list[File]:
    """Return every labelled file of a checkout, by name; NotEvaluable where one can't be read."""
    labels = folder / "labels" / "combined_windows.json"
    if not labels.is_file():
        _refuse(f"--data {folder} holds no labels/combined_windows.json")
    try:
        windows: dict[str, list[list[str]]] = json.loads(labels.read_text("utf-8"))
        named = sorted(windows.items())
    except (OSError, ValueError, AttributeError):
        _refuse(f"{labels} can't be read as a JSON object")
    return [_read(folder / "data", name, spans) for name, spans in named]


def _refuse(wrong: str) -> NoReturn:
    msg = f"{wrong}; expected is {EXPECTED}; {NEXT}"
    raise NotEvaluable(msg) from None


def _read(data: Path, name: str, spans: list[list[str]]) -> File:
    path = data / name
    if not path.is_file():
        _refuse(f"{path} is not there, though labels/combined_windows.json names it")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        place = {datetime.fromisoformat(row["timestamp"]): n for n, row in reversed(list(enumerate(rows)))}
        value = np.array([float(row["value"]) for row in rows])
    except (OSError, ValueError, KeyError, TypeError):
        _refuse(f"{path} can't be read as CSV with a time and a number in each row")
    if not rows:
        _refuse(f"{path} holds no rows")
    try:
        windows = [(place[datetime.fromisoformat(first)], place[datetime.fromisoformat(last)]) for first, last in spans]
    except (ValueError, KeyError, TypeError):
        _refuse(f"labels/combined_windows.json: the windows of {name}, {str(spans)[:80]}, are not at its rows")
    return File(name, value, windows)


def detections(files: list[File], told: Any = lambda *_: None) -> list[Bools]:
    """Return (T, N) a file: where an alert begins, at each limit."""
    t = len(LIMITS)
    series = [_in_units(file) for file in files]
    detector = Daily(SETTINGS)
    state = detector.new_state(len(files) * 2 * t)
    found = [np.zeros((t, len(file.value)), bool) for file in files]
    limits = np.tile(LIMITS, 2)
    most = max((len(file.value) for file in files), default=0)
    for i in range(most):
        here = [number for number, file in enumerate(files) if len(file.value) > i]
        rows = (np.array(here)[:, None] * 2 * t + np.arange(2 * t)).ravel()
        values = np.empty((len(rows), 1))
        up = np.repeat([series[number][i] for number in here], t).reshape(-1, t)
        values[:, 0] = np.concatenate([up, 2 * UNITS.center - up], axis=1).ravel()
        said = detector.advance(state, rows, np.full(len(rows), i, np.int32), values, np.tile(limits, len(here)))
        raised = np.asarray(said.raised.reshape(len(here), 2, t).any(axis=1))
        for place, number in enumerate(here):
            found[number][:, i] = raised[place, :]
        if i % 500 == 0:
            told("rows", i, most)
    return found


def _in_units(file: File) -> Doubles:
    known = file.value[: max(file.unjudged, 1)]
    middle = float(np.median(known))
    spread = 1.4826 * float(np.median(np.abs(known - middle))) or float(np.std(known)) or 1.0
    return np.asarray(UNITS.center + UNITS.day * np.clip((file.value - middle) / spread, -1e6, 1e6))


def _earned(position: Doubles) -> Doubles:
    """Return 2σ(-5p) - 1; -1 from ``FAR`` on."""
    near = np.minimum(position, FAR)
    return np.where(position >= FAR, -1.0, 2 / (1 + np.exp(5 * near)) - 1)


def _judged(file: File) -> list[tuple[int, int]]:
    """Return the windows that have a judged row."""
    return [(first, last) for first, last in file.windows if last >= file.unjudged]


def score(file: File, fired: Bools, profile: Profile) -> float:
    """Return a file's raw score; ``fired`` (N,)."""
    row = np.arange(len(file.value))
    counted = fired & (row >= file.unjudged)
    outside = np.ones(len(row), bool)
    past = np.full(len(row), FAR)  # distance to the window before, in windows
    total = 0.0
    for first, last in sorted(file.windows):
        inside = (row >= first) & (row <= last)
        outside &= ~inside
        width = last - first + 1
        past = np.where(row > last, (row - last) / max(width - 1, 1), past)
        if last < file.unjudged:
            continue
        hits = np.flatnonzero(counted & inside)
        if len(hits):
            position = -(last - hits[0] + 1) / width
            total += float(_earned(np.array(position)) / _earned(np.array(-1.0))) * profile.found
        else:
            total -= profile.missed
    return total + float(_earned(past[counted & outside]).sum()) * profile.false


def normalised(files: list[File], fired: list[Bools], profile: Profile) -> float:
    """Return the score over all files: 0 for silence, 100 for a detector that is perfect."""
    windows = sum(len(_judged(file)) for file in files)
    raw = sum(score(file, rows, profile) for file, rows in zip(files, fired, strict=True))
    nothing, perfect = -profile.missed * windows, profile.found * windows
    return 100 * (raw - nothing) / (perfect - nothing) if windows else 0.0
