"""What a sentence must say that compares a night or an hour with the person's own latest days."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from statistics import median
from typing import Final

from tests.sentences.patient import (
    BY_DAY,
    HEART_RATE,
    HRV,
    NIGHT,
    RESPIRATORY_RATE,
    SKIN_TEMPERATURE,
    SPO2,
    Daily,
    Patient,
    Told,
)
from tests.sentences.words import (
    HOUR,
    MINUTE,
    Expected,
    Shown,
    Untrue,
    compared,
    day_and_month,
    day_of,
    span,
)

BASELINE_DAYS, MEMORY_DAYS = 14, 64
USUAL_NIGHT: Final = {
    "night_skin_temperature_rise": SKIN_TEMPERATURE,
    "night_respiratory_rate_rise": RESPIRATORY_RATE,
}
SEVERAL: Final = ("night_vitals_together", "wearer_in_doubt")
VITALS_ASLEEP: Final = {  # as they are named in a sentence about several at once
    "resting heart rate": HEART_RATE,
    "heart rate variability while asleep": HRV,
    "respiratory rate while asleep": RESPIRATORY_RATE,
    "skin temperature while asleep": SKIN_TEMPERATURE,
    "oxygen saturation while asleep": SPO2,
}


def night(patient: Patient, told: Told) -> Expected:
    """The night and the usual one; where two in a row are told, the one before was above it too."""
    of, day = USUAL_NIGHT[told.rule], day_of(told.at - MINUTE, told.offset)
    values = patient.days(of, told.offset)
    earlier = [one for one in values if one < day]
    before = values[max(earlier)] if earlier else None
    return [*day_and_month(day), *_against_usual(patient, told, of, day, _night(patient, told, of, day), before)]


def hour(patient: Patient, told: Told) -> Expected:
    """The hour at rest by day and the usual rate; where it is told as the second one, the one before was above it too."""
    began = told.at - HOUR
    value = _hour(patient, told, began)
    before = _hour_before(patient, told) if "second hour" in told.text else None
    of_hour = _against_usual(patient, told, BY_DAY, day_of(began, told.offset), value, before)
    return [*span(began, told.at, told.offset), *of_hour]


def several(patient: Patient, told: Told) -> Expected:
    """The night's value and the usual one of each vital that the sentence names; since when, once it is over."""
    if "asked no longer" in told.text:
        return [*day_and_month(day_of(told.start, told.offset))]
    day, text = day_of(told.at - MINUTE, told.offset), told.text.lower()
    shown: Expected = [*day_and_month(day)]
    for _, of in sorted((text.find(words), of) for words, of in VITALS_ASLEEP.items() if words in text):
        values = _night(patient, told, of, day), median(_used_before(patient, told, of, day))
        shown += [Shown(value, of.decimals) for value in values]
    return shown


def _against_usual(patient: Patient, told: Told, of: Daily, day: date, value: float, before: float | None) -> Expected:
    known = _used_before(patient, told, of, day)
    usual = median(known)
    if "in a row" in told.text and (before is None or before <= usual):
        msg = f"the one before was {before}, not above the usual {usual}"
        raise Untrue(msg)
    return [*compared(value, usual, of.decimals, told.text), str(len(known))]


def _used_before(patient: Patient, told: Told, of: Daily, day: date) -> list[float]:
    """Return the recomputed values of the days the baseline knew, the latest 14."""
    used = patient.used(of, day)[-BASELINE_DAYS:]
    days = [one for one in used if used[-1] - one < timedelta(days=MEMORY_DAYS)]
    values = patient.days(of, told.offset)
    if not days or any(one not in values for one in days):
        msg = f"the baseline used days {days}, readings make {sorted(values)}"
        raise Untrue(msg)
    return [values[one] for one in days]


def _night(patient: Patient, told: Told, of: Daily, day: date) -> float:
    values = patient.days(of, told.offset)
    if day not in values:
        msg = f"no value for {day}; readings make {sorted(values)}"
        raise Untrue(msg)
    return values[day]


def _hour(patient: Patient, told: Told, began: datetime) -> float:
    patient.minutes("heart_rate")
    found = patient.one(
        f"""SELECT sum(thousandths) / 1000 / nullif(count(*), 0) FROM usable_heart_rate
            WHERE NOT active AND NOT {NIGHT} AND minute >= %(hour)s AND minute < %(hour)s + interval '1 hour'""",
        hour=began, offset=told.offset,
    )  # fmt: skip
    return float(found[0])


def _hour_before(patient: Patient, told: Told) -> float | None:
    """Return the latest earlier hour at rest; it may lie up to three hours before."""
    for back in (2, 3, 4):
        try:
            return _hour(patient, told, told.at - back * HOUR)
        except Untrue:
            continue
    return None
