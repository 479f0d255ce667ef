"""A page of a judged recording in one file: charts, each person's own usual range, findings with their sentences.

It needs no network: the chart library, the styles and the numbers are in it, and it tells the browser to load nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ingest.catalogue import catalogue
from services.cli.replay_alone import Band, Hour, Judged
from services.cli.replay_words import course, judged, refused, unit_of, when
from services.processor.core import HOUR_MS
from services.processor.records import AlertRow
from simulators.series import Series

HERE: Final = Path(__file__).parent / "page"
WEB: Final = Path(__file__).parents[1] / "web" / "static"
EVERY_READING: Final = 3000  # more readings of a metric are drawn by the hour
SPREADS: Final = 2  # an ordinary hour's mean lies within two spreads of the center
SILENCE_MS: Final = 2 * HOUR_MS  # a line is broken where nothing came for so long, or for three usual steps

Column = list[float | None]


def page(title: str, people: Sequence[Judged]) -> str:
    """Return the page as HTML; everything that was read is escaped in it."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("recording.html").render(
        title=title,
        people=[_person(one) for one in people],
        styles=[_ours(WEB / "vendor/uPlot.min.css"), _ours(WEB / "app.css")],
        scripts=[_ours(WEB / "vendor/uPlot.iife.min.js"), _ours(HERE / "recording.js")],
    )


def _ours(path: Path) -> str:
    """Return a file of ours for a script or style element, which no text in it may end."""
    text = path.read_text("utf-8")
    if "</" in text:
        msg = f"{path} holds '</', which would end the element that it is put into"
        raise ValueError(msg)
    return text


def _person(one: Judged) -> dict[str, Any]:
    numbered = list(enumerate(one.findings, start=1))
    first, last = one.recording.span_ms
    return {
        "name": one.recording.person,
        "span": f"{when(one, first)} to {when(one, last)}, local time",
        "findings": [_finding(one, number, row) for number, row in numbered],
        "set_aside": [refused(one, metric, stream) for metric, stream in one.set_aside.items()],
        "charts": [
            {
                "metric": metric,
                "title": catalogue()[metric].title,
                "unit": unit_of(metric),
                "judged": judged(one, metric),
                "findings": [_finding(one, number, row) for number, row in numbered if _is_of(row, metric)],
                "data": _chart(one, metric, stream, [(number, row) for number, row in numbered if _is_of(row, metric)]),
            }
            for metric, stream in one.readings.items()
        ],
    }


def _is_of(row: AlertRow, metric: str) -> bool:
    return bool(row.evidence.get("metric") == metric)


def _finding(one: Judged, number: int, row: AlertRow) -> dict[str, Any]:
    return {
        "number": number,
        "priority": row.priority,
        "when": when(one, row.found_ms),
        "sentence": row.sentence,
        "course": course(one, row),
    }


def _chart(one: Judged, metric: str, stream: Series, findings: Sequence[tuple[int, AlertRow]]) -> dict[str, Any]:
    first, last = one.recording.span_ms
    few = len(stream.t_ms) <= EVERY_READING
    columns = _readings(stream) if few else _hours(one.hours.get(metric, []))
    return {
        "title": catalogue()[metric].title,
        "unit": unit_of(metric),
        "decimals": catalogue()[metric].decimals,
        "by_the_hour": not few,
        "from": first,
        "to": max(last, first + HOUR_MS),
        "offsets": one.recording.offsets or [[0, 0]],
        **columns,
        "band": _bands(one.bands.get(metric, [])),
        "findings": [
            {"number": number, "priority": row.priority, "from": row.started_ms, "to": row.resolved_ms or last}
            for number, row in findings
        ],
    }


def _readings(stream: Series) -> dict[str, list[Any]]:
    t, value = stream.t_ms, stream.value.astype(np.float64).round(3)
    steps = np.diff(t)
    silence = max(SILENCE_MS, 3 * int(np.median(steps))) if len(steps) else SILENCE_MS
    before = np.flatnonzero(steps > silence) + 1
    instants = np.insert(t, before, t[before - 1] + 1)
    column = _plain(np.insert(value, before, np.nan))
    return {"t": instants.tolist(), "mean": column, "low": column, "high": column}


def _hours(hours: Sequence[Hour]) -> dict[str, list[Any]]:
    """Return hours as columns, each in its middle, with an empty one where hours are missing between two."""
    columns: dict[str, list[Any]] = {"t": [], "mean": [], "low": [], "high": []}

    def add(*row: float | None) -> None:
        for column, number in zip(columns.values(), row, strict=True):
            column.append(number)

    end_ms = hours[0].hour_ms if hours else 0
    for hour in hours:
        if hour.hour_ms - end_ms >= SILENCE_MS:
            add(end_ms, None, None, None)
        add(hour.hour_ms + HOUR_MS // 2, round(hour.mean, 2), round(hour.low, 2), round(hour.high, 2))
        end_ms = hour.hour_ms + HOUR_MS
    return columns


def _plain(values: Any) -> Column:
    return [None if value != value else value for value in values.tolist()]


def _bands(bands: Sequence[Band]) -> list[dict[str, Any]]:
    """Return the learned bands, hours in a row with the same one together."""
    joined: list[dict[str, Any]] = []
    for band in bands:
        if not band.learned:
            continue
        low, high = band.center - SPREADS * band.spread, band.center + SPREADS * band.spread
        part = {"context": band.context, "low": round(low, 2), "high": round(high, 2)}
        last = joined[-1] if joined else None
        if last and last["to"] == band.hour_ms and all(last[name] == part[name] for name in part):
            last["to"] += HOUR_MS
        else:
            joined.append({**part, "from": band.hour_ms, "to": band.hour_ms + HOUR_MS})
    return joined
