"""One person's readings in a CSV file of one's own: a column for each metric, or rows of ``time,metric,value``.

The first line names the columns. With a column for each metric::

    time,heart_rate,steps,spo2
    2026-11-22T08:30:00+01:00,61,0,97
    2026-11-22T08:31:00+01:00,64,12,

In rows, with the unit (UCUM) if it is not the catalogue's::

    time,metric,value,unit
    2026-11-22T08:30:00+01:00,body_temperature,98.6,[degF]

``time`` is ISO 8601 with the wearer's offset from UTC, or Unix milliseconds; an empty cell is no reading. Rows keep
their order: an instant may go back or come twice.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Final

import numpy as np

from ingest.catalogue import Metric, catalogue, nearest
from ingest.clock import to_datetime, to_ms
from ingest.units import accepted_units, conversion
from simulators.recording import NotARecording, Recording
from simulators.series import HOUR_MS, Series

ROWS: Final = ("metric", "value")  # columns that say that a row is one reading
FIRST_MS: Final = 10**11  # a smaller number is in seconds: as milliseconds it lies in 1973 or before
LAST_MS: Final = 4_102_444_800_000  # the year 2100

Reading = tuple[str, str, str]  # metric, value, unit ("": the catalogue's), as written
Split = Callable[[list[str]], Iterator[Reading]]  # the cells of a row to the readings in it


def read_csv(path: Path, zone: tzinfo | None = None) -> Recording:
    """Return a CSV file as one person's recording.

    Args:
        path: the file; its name without the ending names the person.
        zone: where the person lives. Times without an offset are read there, and it tells night from day whatever
            offset they have. None: times without an offset are UTC, and night is told by the offsets.

    Raises:
        NotARecording: a column is missing or unknown, or a line can't be read.
        OSError: there is no such file, or it may not be read.
    """
    streams: dict[str, tuple[list[int], list[float]]] = {}
    offsets: dict[int, int] = {}  # start of the hour → the wearer's offset in minutes
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            head = [name.strip() for name in next(rows, [])]
            split, at = _columns(head, path)
            for row in rows:
                if row:
                    where = f"{path} line {rows.line_num}"
                    moment = _instant(row[at] if at < len(row) else "", zone, where)
                    t_ms = to_ms(moment)
                    offsets[t_ms // HOUR_MS * HOUR_MS] = _minutes(moment if zone is None else moment.astimezone(zone))
                    for reading in split(row):
                        metric, value = _value(reading, where)
                        t, values = streams.setdefault(metric, ([], []))
                        t.append(t_ms)
                        values.append(value)
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"{path} is not a CSV file in UTF-8: {error}"
        raise NotARecording(msg) from error
    return Recording(path.stem, {metric: _stream(t, value) for metric, (t, value) in streams.items()}, _steps(offsets))


def _columns(head: list[str], path: Path) -> tuple[Split, int]:
    """Return how a row is taken apart, and where its time is."""
    if "time" not in head or len(head) < 2 or len(set(head)) != len(head):
        found = ",".join(head) or "nothing"
        msg = (
            f"{path} line 1: the columns are {found}; needed are time, each name once, and either a column for each "
            "metric, e.g. time,heart_rate,steps, or time,metric,value and, if you like, unit"
        )
        raise NotARecording(msg)
    if set(ROWS) <= set(head):
        places = [head.index(name) for name in (*ROWS, "unit") if name in head]
        return lambda row: _one(row, places), head.index("time")
    metrics = [(place, name) for place, name in enumerate(head) if name != "time"]
    for _, name in metrics:
        _known(name, f"{path} line 1")
    return lambda row: _each(row, metrics), head.index("time")


def _one(row: list[str], places: list[int]) -> Iterator[Reading]:
    cells = [row[place].strip() if place < len(row) else "" for place in places]
    yield cells[0], cells[1], cells[2] if len(cells) > 2 else ""


def _each(row: list[str], metrics: list[tuple[int, str]]) -> Iterator[Reading]:
    for place, metric in metrics:
        if place < len(row) and (cell := row[place].strip()):
            yield metric, cell, ""


def _known(name: str, where: str) -> Metric:
    metric = catalogue().get(name)
    if metric is None:
        near = nearest(name)
        vitals = ", ".join(key for key, entry in catalogue().items() if entry.kind != "waveform")
        hint = f"did you mean {near}?" if near else f"allowed are {vitals}"
        msg = f"{where}: metric {name!r} is not in the catalogue; {hint}"
        raise NotARecording(msg)
    if metric.kind == "waveform":
        msg = f"{where}: {name} is a waveform, which a CSV of single values cannot carry; leave it out"
        raise NotARecording(msg)
    return metric


def _instant(text: str, zone: tzinfo | None, where: str) -> datetime:
    text = text.strip()
    try:
        moment = to_datetime(int(text)) if text.lstrip("-").isdigit() else datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=zone or UTC)
        if FIRST_MS <= to_ms(moment) < LAST_MS:
            return moment
    except (ValueError, OverflowError, OSError):
        pass
    msg = (
        f"{where}: time {text!r} can't be read; allowed are ISO 8601, best with an offset, e.g. "
        "2026-11-22T08:30:00+01:00, and Unix milliseconds, e.g. 1795332600000, in the years 1974 to 2099"
    )
    raise NotARecording(msg)


def _value(reading: Reading, where: str) -> tuple[str, float]:
    name, text, unit = reading
    metric = _known(name, where)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        msg = f"{where}: {name} {text!r} is no number; write it like 61 or 36.7, or leave the reading out"
        raise NotARecording(msg)
    to_kept = conversion(metric, unit or metric.unit)
    if to_kept is None:
        msg = f"{where}: {name} cannot be given in {unit!r}; allowed are {', '.join(accepted_units(metric))}"
        raise NotARecording(msg)
    return name, value * to_kept.factor + to_kept.offset


def _minutes(moment: datetime) -> int:
    offset = moment.utcoffset()
    return 0 if offset is None else int(offset.total_seconds()) // 60


def _steps(offsets: dict[int, int]) -> tuple[tuple[int, int], ...]:
    """Return (from which instant on, offset in minutes) where it changes."""
    steps: list[tuple[int, int]] = []
    for hour_ms, minutes in sorted(offsets.items()):
        if not steps or steps[-1][1] != minutes:
            steps.append((hour_ms, minutes))
    return tuple(steps)


def _stream(t_ms: list[int], value: list[float]) -> Series:
    return Series(np.array(t_ms, np.int64), np.array(value, np.float32), np.zeros(len(t_ms), np.uint8))
