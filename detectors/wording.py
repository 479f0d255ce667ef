"""How sentences show numbers and times: single readings, averages by ``DECIMALS``, minutes rounded down, local time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

NAMES: Final[Mapping[str, str]] = {
    "heart_rate": "heart rate",
    "resting_heart_rate": "resting heart rate",
    "steps": "steps",
    "spo2": "oxygen saturation",
    "respiratory_rate": "respiratory rate",
    "skin_temperature": "skin temperature",
    "body_temperature": "body temperature",
    "hrv_rmssd": "heart rate variability",
    "systolic_pressure": "systolic blood pressure",
    "diastolic_pressure": "diastolic blood pressure",
    "glucose": "glucose",
    "weight": "weight",
}
UNITS: Final[Mapping[str, str]] = {
    "heart_rate": "/min",
    "resting_heart_rate": "/min",
    "steps": "steps",
    "spo2": "%",
    "respiratory_rate": "/min",
    "skin_temperature": "°C",
    "body_temperature": "°C",
    "hrv_rmssd": "ms",
    "systolic_pressure": "mmHg",
    "diastolic_pressure": "mmHg",
    "glucose": "mg/dL",
    "weight": "kg",
}
DECIMALS: Final[Mapping[str, int]] = {
    "heart_rate": 0,
    "resting_heart_rate": 0,
    "steps": 0,
    "spo2": 1,
    "respiratory_rate": 1,
    "skin_temperature": 1,
    "body_temperature": 1,
    "hrv_rmssd": 0,
    "systolic_pressure": 0,
    "diastolic_pressure": 0,
    "glucose": 0,
    "weight": 2,
}
"""Decimals of averages (and of the usual value they are compared with)."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Told = Mapping[str, Any]
Voice = tuple[str, str, str]  # whose usual, whose metric, whose device


def reading(value: float) -> str:
    """Return a single reading with at most one decimal.

    >>> reading(84.0), reading(38.70)
    ('84', '38.7')
    """
    return f"{value:.1f}".removesuffix(".0")


def average(metric: str, value: float) -> str:
    """Return an average with the metric's decimals."""
    return f"{value:.{DECIMALS[metric]}f}"


def duration(ms: int) -> str:
    """Return whole minutes (seconds under two minutes), rounded down.

    >>> duration(765_000), duration(7_800_000), duration(45_000)
    ('12 min', '2 h 10 min', '45 s')
    """
    minutes = ms // 60_000
    if minutes < 2:
        return f"{ms // 1000} s"
    if minutes < 120:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def _local(ms: int, evidence: Told) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms, minutes=evidence.get("utc_offset_min", 0))


def day_of(day: int) -> str:
    """Return a local day, counted from 1970, as people write it.

    >>> day_of(20_779)
    '22 Nov'
    """
    return date_of(_EPOCH + timedelta(days=day))


def date_of(when: datetime) -> str:
    """Return the day of an instant."""
    return f"{when.day} {_MONTHS[when.month - 1]}"


def span(from_ms: int, to_ms: int, evidence: Told) -> str:
    """Return from when to when, in the wearer's time; with dates where it is not one day."""
    start, end = _local(from_ms, evidence), _local(to_ms, evidence)
    if start.date() == end.date():
        return f"from {start:%H:%M} to {end:%H:%M}"
    return f"from {date_of(start)} {start:%H:%M} to {date_of(end)} {end:%H:%M}"


def since(ms: int, evidence: Told) -> str:
    """Return since when, in the wearer's time."""
    when = _local(ms, evidence)
    return f"since {when:%H:%M} on {date_of(when)}"


def precise(value: float) -> str:
    """Return a value whose unit is in doubt, with three digits at least.

    >>> precise(0.97), precise(5.5), precise(98.6), precise(1783.5)
    ('0.97', '5.5', '98.6', '1784')
    """
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
