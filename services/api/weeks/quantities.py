"""The daily quantities that statements about weeks are made of, and how days are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from detectors.protocol import Condition
from detectors.rules import NIGHT_BREATH_RISE, RESTING_HEART

EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Quantity:
    """One daily quantity: what it is called, and for nights which daily value it is."""

    key: str
    title: str
    unit: str
    decimals: int
    plain: str  # in the middle of a sentence to the patient
    plain_unit: str  # none: a number would tell a patient nothing
    metric: str = ""
    context: str = ""
    days: str = "nights"
    not_for: tuple[Condition, ...] = ()  # of whom it says nothing


QUANTITIES: Final[Mapping[str, Quantity]] = {
    quantity.key: quantity
    for quantity in (
        Quantity("resting_heart_rate", "Resting heart rate asleep", "/min", 1, "your resting heart rate at night",
                 "beats a minute", "heart_rate", "asleep", not_for=RESTING_HEART.not_for),
        Quantity("hrv_rmssd", "Heart rate variability asleep (RMSSD)", "ms", 0,
                 "the change between your heartbeats at night", "ms", "hrv_rmssd", "asleep",
                 not_for=("paced", "night_work")),
        Quantity("respiratory_rate", "Respiratory rate asleep", "/min", 1, "your breathing rate at night",
                 "breaths a minute", "respiratory_rate", "asleep", not_for=NIGHT_BREATH_RISE.not_for),
        Quantity("body_temperature", "Body temperature", "°C", 1, "your body temperature", "°C", "body_temperature",
                 "rest", "days"),
        Quantity("weight", "Weight", "kg", 1, "your weight", "kg", days="days"),
        Quantity("steps", "Steps a day", "steps", 0, "your step count", "steps a day", days="days"),
        Quantity("rest_regularity", "Regularity of rest (index to 100)", "points", 0,
                 "how regular your days and nights are", "", not_for=("night_work",)),
        Quantity("wear", "Hours with data a day", "h", 1, "the time you wear your device", "hours a day", days="days"),
    )
}  # fmt: skip


def day_of(day: date) -> int:
    """Return a local day as a number, days since 1970; of a datetime, the day its clock shows."""
    return day.toordinal() - EPOCH.toordinal()


def iso(day: int | None) -> str | None:
    """Return a local day as ``2026-11-22``; None stays None."""
    return None if day is None else (EPOCH + timedelta(days=day)).isoformat()


def date_words(day: int) -> str:
    """Return a local day as ``3 Oct``."""
    when = EPOCH + timedelta(days=day)
    return f"{when.day} {when:%b}"


def signed(value: float, places: int) -> str:
    """Return a difference with its sign, none for what rounds to 0.

    >>> signed(3.14, 1), signed(-0.04, 1), signed(-12, 0)
    ('+3.1', '0.0', '-12')
    """
    rounded = round(value, places)
    return f"{rounded:+.{places}f}" if rounded else f"{0:.{places}f}"
