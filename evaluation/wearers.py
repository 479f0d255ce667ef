"""The onset task on raw recordings (zipped CSV and ``onset.csv``): who was told what, and when. Too few for a claim."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np

from evaluation.days import NotEvaluable
from evaluation.heard import Heard, Processor, Streams
from simulators.recording import NotARecording, Recording, read_folder
from simulators.series import DAY_MS, Series

EXPECTED: Final = (
    "PERSON_hr.csv.zip and PERSON_steps.csv.zip a person, and an onset.csv of person,event,date,certainty with dates "
    "like 2020-07-05"
)
EPOCH: Final = date(1970, 1, 1).toordinal()
WINDOW: Final = (-14, 0)  # days about the onset in which an alert counts as before it


@dataclass(frozen=True, slots=True)
class Wearer:
    """One person's readings, and the day of onset since 1970, None where there is no label."""

    name: str
    streams: Streams
    onset: int | None
    event: str

    @property
    def weeks(self) -> float:
        """Weeks with heart rate: days that hold some, by sevens."""
        heart = self.streams.get("heart_rate")
        return 0.0 if heart is None else len(np.unique(heart.t_ms // DAY_MS)) / 7


def is_folder_of_recordings(folder: Path) -> bool:
    """Tell whether a folder holds raw recordings."""
    return folder.is_dir() and any(folder.glob("*_*.csv.zip"))


def in_order(recording: Recording) -> Streams:
    """Return a recording's streams ascending, of an instant that comes twice the first: all came in time."""
    return {metric: _ascending(stream) for metric, stream in recording.streams.items()}


def _ascending(stream: Series) -> Series:
    _, first = np.unique(stream.t_ms, return_index=True)
    return stream.part(first)


def read_wearers(folder: Path) -> list[Wearer]:
    """Return everybody of a folder of recordings.

    Raises:
        NotEvaluable: a file can't be read.
    """
    try:
        recordings = list(read_folder(folder))
    except NotARecording as error:
        raise NotEvaluable(str(error)) from error
    labels = _labels(folder / "onset.csv")
    return [Wearer(one.person, in_order(one), *labels.get(one.person, (None, ""))) for one in recordings]


def _labels(path: Path) -> dict[str, tuple[int, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return {
                row["person"]: (date.fromisoformat(row["date"]).toordinal() - EPOCH, row["event"])
                for row in csv.DictReader(file)
            }
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        msg = f"{path} can't be read ({error}); expected are {EXPECTED}"
        raise NotEvaluable(msg) from error


def evaluate(folder: Path, processor: Processor, told: Any = lambda *_: None) -> dict[str, Any]:
    """Return a timeline a person, and the rate of alerts by rule over all weeks; no claim is made of so few."""
    wearers = read_wearers(folder)
    told("reading", 1, 1)
    heard = processor([one.streams for one in wearers], [0] * len(wearers), lambda n, of: told("processor", n, of))
    weeks = sum(one.weeks for one in wearers)
    rules: dict[str, int] = {}
    for each in heard:
        for alert in each.alerts:
            rules[alert.rule] = rules.get(alert.rule, 0) + 1
    return {
        "task": "onset",
        "data": folder.name,
        "n": len(wearers),
        "labelled": sum(one.onset is not None for one in wearers),
        "weeks": round(weeks, 2),
        "claim": "none: too few people with a label; read the timelines",
        "alerts_a_week": {rule: round(n / weeks, 4) for rule, n in sorted(rules.items())} if weeks else {},
        "timelines": [_timeline(one, each) for one, each in zip(wearers, heard, strict=True)],
    }


def _timeline(one: Wearer, heard: Heard) -> dict[str, Any]:
    first = min((int(stream.t_ms[0]) for stream in one.streams.values() if len(stream.t_ms)), default=0) // DAY_MS
    zero = first if one.onset is None else one.onset

    def day(ms: int | None) -> float | None:
        return None if ms is None else round(ms / DAY_MS - zero, 2)

    alerts = [
        {"rule": a.rule, "start_day": day(a.start_ms), "found_day": day(a.found_ms), "end_day": day(a.end_ms)}
        for a in sorted(heard.alerts, key=lambda a: a.found_ms)
    ]
    found = [a["found_day"] for a in alerts if isinstance(a["found_day"], float)]
    before = [d for d in found if WINDOW[0] <= d < WINDOW[1] + 1]
    return {
        "person": one.name,
        "day_0": one.event or "first reading",
        "weeks": round(one.weeks, 2),
        "nights_judged": int((heard.nights.n_days >= 5).sum()),
        "alerts_in_14_days_before": len(before) if one.onset is not None else None,
        "alerts": alerts,
    }
