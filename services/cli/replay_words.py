"""What a recording that was judged without servers comes to, in plain words and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from detectors.adult_limits import ADULT_LIMITS
from detectors.baseline import LEARNED, PAIR_CONTEXT, PAIRS
from detectors.coverage import nights
from detectors.protocol import ASLEEP, CONTEXTS, MINUTE_MS, VITALS
from detectors.rules import WEIGHT_GAIN
from detectors.wording import UNITS
from ingest.catalogue import catalogue
from ingest.frame import GOOD, OUT_OF_RANGE, UNIT_SUSPECTED
from services.cli.replay_alone import Judged
from services.processor.in_memory import LOOKED_AT
from services.processor.records import AlertRow
from simulators.series import Series

SHOWN: Final = 5  # values set aside that are named, a metric
LIMITED: Final = frozenset(limit.metric for limit in ADULT_LIMITS)
A_NIGHT: Final = {
    pair.metric: pair.least_minutes
    for pair, context in zip(PAIRS, PAIR_CONTEXT.tolist(), strict=True)
    if context == ASLEEP
}
"""Metric → minutes that make a night."""
CONTEXT_WORDS: Final[Mapping[str, str]] = {"asleep": "asleep", "rest": "at rest", "active": "active"}


def _readings(n: int) -> str:
    return "1 reading" if n == 1 else f"{n:,} readings"


def unit_of(metric: str) -> str:
    """Return a metric's unit as people write it."""
    return UNITS.get(metric, catalogue()[metric].unit)


def lines(one: Judged) -> Iterator[str]:
    """Yield what is to be said of one person, line by line: what was found, what could be judged, what could not."""
    first, last = one.recording.span_ms
    yield f"{one.recording.person}: {_readings(one.recording.n)} from {when(one, first)} to {when(one, last)}"
    for row in one.findings:
        yield f"{when(one, row.found_ms)} {row.priority:6} {row.sentence}; {course(one, row)}"
    if not one.findings:
        yield "Nothing unusual was found in what could be judged:"
    for metric in one.readings:
        yield f"  {catalogue()[metric].title}: {judged(one, metric)}"
    for metric, stream in one.set_aside.items():
        yield f"  set aside: {refused(one, metric, stream)}"
    if one.repeated:
        yield f"  left out: {_readings(one.repeated)} of an instant that had one already"


def judged(one: Judged, metric: str) -> str:
    """Return how far a metric could be judged, in words; too little is never worded as normal."""
    n = _readings(len(one.readings[metric].t_ms))
    if metric not in LOOKED_AT:
        return f"{n}; no rule looks at it"
    usual = one.usual(metric)
    seldom = too_seldom(one, metric)
    short = f"measured too seldom for a night: needs {seldom[0]} minutes, had {seldom[1]} at the most" if seldom else ""
    if metric == WEIGHT_GAIN.metric:
        return f"{n}; a fast gain of it would be told, no usual range is learned of it"
    if not usual:
        limits = "only fixed limits hold" if metric in LIMITED else "no limit holds"
        shown = "" if metric in LIMITED or metric in VITALS else "shown as a trend and not judged: "
        return f"{n}; {shown}{short or 'no usual range is learned of it'}, {limits}"
    known = [
        f"usual {CONTEXT_WORDS[band.context]} {band.center:.{catalogue()[metric].decimals}f} {unit_of(metric)} "
        f"({band.n_days} days)"
        for band in usual
        if band.learned
    ]
    if short:
        known.append(short)
    waits = [band for band in usual if not band.learned and not (seldom and band.context == CONTEXTS[ASLEEP])]
    learning = [f"{CONTEXT_WORDS[band.context]} {band.n_days}" for band in waits]
    if learning:
        known.append(f"still learning ({', '.join(learning)} of {LEARNED} days)")
    return f"{n}; {', '.join(known)}"


def too_seldom(one: Judged, metric: str) -> tuple[int, int] | None:
    """Return the minutes that a night of a metric needs, and the most that any had; None where one had enough."""
    learned = any(band.learned and band.context == CONTEXTS[ASLEEP] for band in one.usual(metric))
    if learned or metric not in A_NIGHT:
        return None
    stream = one.readings[metric]
    minutes = np.unique(stream.t_ms[stream.quality == GOOD] // MINUTE_MS)
    local = minutes + np.array([one.recording.offset_at(minute * MINUTE_MS) for minute in minutes.tolist()], np.int64)
    most = max(nights(local, metric).values(), default=0)
    return (A_NIGHT[metric], most) if 0 < most < A_NIGHT[metric] else None


def refused(one: Judged, metric: str, stream: Series) -> str:
    """Return which values of a metric can't be true, when they came, and what is allowed."""
    entry = catalogue()[metric]
    shown = [
        f"{value:g} at {when(one, t_ms)}"
        for t_ms, value in zip(stream.t_ms[:SHOWN].tolist(), stream.value[:SHOWN].tolist(), strict=True)
    ]
    more = f" and {len(stream.t_ms) - SHOWN:,} more" if len(stream.t_ms) > SHOWN else ""
    unit = " (is it in another unit?)" if (stream.quality == UNIT_SUSPECTED).any() else ""
    low, high = entry.hard
    return f"{metric} {', '.join(shown)}{more}; allowed are {low:g} to {high:g} {unit_of(metric)}{unit}"


def stamp(one: Judged, ms: int) -> str:
    """Return an instant as RFC 3339 with the wearer's offset."""
    return one.local(ms).isoformat()


def course(one: Judged, row: AlertRow) -> str:
    """Return what became of a finding, in words."""
    worse = f"worse at {when(one, row.last_evidence_ms)}, " if row.last_evidence_ms > row.found_ms else ""
    if row.resolved_ms is None:
        return f"{worse}had not ended when the recording did"
    return f"{worse}ended {when(one, row.resolved_ms)}"


def when(one: Judged, ms: int) -> str:
    """Return an instant in the wearer's local time, to the minute."""
    return f"{one.local(ms):%Y-%m-%d %H:%M}"


def document(one: Judged) -> dict[str, Any]:
    """Return one person's findings as plain JSON; instants are RFC 3339 with the wearer's offset."""
    return {
        "person": one.recording.person,
        "from": stamp(one, one.recording.span_ms[0]),
        "to": stamp(one, one.recording.span_ms[1]),
        "findings": [
            {
                "rule": row.rule,
                "priority": row.priority,
                "began": stamp(one, row.started_ms),
                "found": stamp(one, row.found_ms),
                "ended": None if row.resolved_ms is None else stamp(one, row.resolved_ms),
                "sentence": row.sentence,
                "patient_sentence": row.patient_sentence or None,
                "evidence": row.evidence,
            }
            for row in one.findings
        ],
        "metrics": {
            metric: {
                "readings": len(stream.t_ms),
                "looked_at": metric in LOOKED_AT,
                "too_seldom_for_a_night": None
                if (seldom := too_seldom(one, metric)) is None
                else {"needs_minutes": seldom[0], "had_minutes": seldom[1]},
                "usual": [
                    {
                        "context": band.context,
                        "center": round(band.center, 3),
                        "spread": round(band.spread, 3),
                        "days": band.n_days,
                        "learned": band.learned,
                    }
                    for band in one.usual(metric)
                ],
            }
            for metric, stream in one.readings.items()
        },
        "set_aside": [
            {
                "metric": metric,
                "time": stamp(one, t_ms),
                "value": round(value, 4),
                "allowed": list(catalogue()[metric].hard),
                "reason": "out_of_range" if code == OUT_OF_RANGE else "unit_suspected",
            }
            for metric, stream in one.set_aside.items()
            for t_ms, value, code in zip(
                stream.t_ms.tolist(), stream.value.tolist(), stream.quality.tolist(), strict=True
            )
        ],
        "repeated": one.repeated,
    }
