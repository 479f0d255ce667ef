"""What a sentence must say about what changes slowly: a drift from the first weeks, a small shift, a slow rise."""

from __future__ import annotations

import math
from datetime import date, timedelta
from statistics import median
from typing import Final, NamedTuple

from tests.sentences.own_days import BASELINE_DAYS
from tests.sentences.patient import BY_DAY, DAY, HEART_RATE, HRV, RESPIRATORY_RATE, SPO2, Patient, Told
from tests.sentences.words import MINUTE, Apart, Expected, Shown, Untrue, compared, day_and_month, day_of
from tests.slow_rise import Day, days

DRIFT: Final = {
    "heart_rate_drift": HEART_RATE,
    "spo2_drift": SPO2,
    "respiratory_rate_drift": RESPIRATORY_RATE,
    "hrv_rmssd_drift": HRV,
}
SHIFT: Final = {  # and the side that is told
    "heart_rate_shift": (HEART_RATE, "lower"),
    "spo2_shift": (SPO2, "lower"),
    "respiratory_rate_shift": (RESPIRATORY_RATE, "higher"),
}
RISE: Final = ("resting_heart_rate_rise", "resting_heart_rate_new_normal")
STEPS: Final = f"""
    WITH off AS (
        SELECT DISTINCT date_trunc('minute', t) AS minute FROM told WHERE quality = 3 OR (metric = 'wear' AND value = 0)
    ), one AS (
        SELECT date_trunc('minute', t) AS minute, sum(value::float8) AS steps FROM told
        WHERE metric = 'steps' AND quality IN (0, 4) GROUP BY 1 HAVING sum(value::float8) BETWEEN 0 AND 300
    )
    SELECT {DAY} AS day, sum(round(steps))::float8 FROM one WHERE minute NOT IN (SELECT minute FROM off)
    GROUP BY 1 HAVING count(*) >= 600"""


class First(NamedTuple):
    """Of a day's heart rates asleep and at rest the one that is told first, and the tokens of the other one."""

    value: float | None
    usual: float
    n: int  # days behind the usual one
    other: Expected


def drift(patient: Patient, told: Told) -> Expected:
    """The night, or where there is none the fortnight that ends with the day, and the first fortnight's median."""
    of, day = DRIFT[told.rule], day_of(told.at - MINUTE, told.offset)
    values = patient.days(of, told.offset)
    used = [values[one] for one in patient.used(of, day + timedelta(days=1))]
    now, first = values.get(day, median(used[-BASELINE_DAYS:])), median(used[:BASELINE_DAYS])
    shown: Expected = [Shown(now, of.decimals), Apart(of.decimals), str(BASELINE_DAYS), Shown(first, of.decimals)]
    return [*day_and_month(day), *shown]


def shift(patient: Patient, told: Told) -> Expected:
    """The night against its slow mean: the slow rule's, or one that follows the nights the baseline used.

    Of the heart rates the one further below is told first, then the other one where both are known.
    """
    of, side = SHIFT[told.rule]
    day = day_of(told.at - MINUTE, told.offset)
    further: Expected = []
    if of is HEART_RATE:
        value, usual, _, further = _heart_rates(patient, told, day, side=-1)
    else:
        nights = patient.days(of, told.offset)
        value, usual = nights.get(day), _slow_mean([nights[one] for one in patient.used(of, day)])
    if value is None or not told.over and (value > usual) != (side == "higher"):
        msg = f"{value} in the night to {day}, usual {usual}: not {side}"
        raise Untrue(msg)
    drifted = "is told as far from the first weeks now" in told.text
    if drifted and not told.over or (f"been {side} since" in told.text) != (drifted or not told.over):
        msg = f"{told.change}, and says otherwise"
        raise Untrue(msg)
    began = day_and_month(day_of(told.start, told.offset)) if drifted or not told.over else []
    return [*began, *day_and_month(day), *compared(value, usual, of.decimals, told.text), *further]


def rise(patient: Patient, told: Told) -> Expected:
    """The day's heart rate that is further above its slow mean, then the other one where both are known."""
    day = day_of(told.at - MINUTE, told.offset)
    value, usual, n, other = _heart_rates(patient, told, day, side=1)
    if value is None:
        msg = f"no value for {day}"
        raise Untrue(msg)
    shown: Expected = [*day_and_month(day), *compared(value, usual, 0, told.text), str(n)]
    if told.over:
        return shown
    asked = told.rule == "resting_heart_rate_new_normal"
    return [*shown, *other, *(day_and_month(day_of(told.start, told.offset)) if asked else [])]


def _slow_mean(values: list[float]) -> float:
    usual = median(values[:BASELINE_DAYS])
    for value in values[BASELINE_DAYS:]:
        usual += (value - usual) / 28
    return usual


def _heart_rates(patient: Patient, told: Told, day: date, *, side: int) -> First:
    """Order a day's heart rates by how far above (``side`` 1) or below (-1) their slow means they are.

    Raises:
        Untrue: the sentence tells the other one first.
    """
    values, judged = _slow(patient, told, day)
    z = [-math.inf if one is None else side * one for one in judged.z]
    first = z.index(max(z))
    if ("in the night" in told.text, "at rest by day" in told.text.partition(";")[0]) != (first == 0, first == 1):
        msg = f"of asleep and at rest by day, {judged.z} SDs from the usual, the other one is told first"
        raise Untrue(msg)
    other: Expected = []
    if (value := values[1 - first]) is not None and judged.z[1 - first] is not None:
        other = [Shown(value, 0), Shown(judged.usual[1 - first], 0)]
    return First(values[first], judged.usual[first], judged.n[first], other)


def _slow(patient: Patient, told: Told, day: date) -> tuple[tuple[float | None, float | None], Day]:
    """Return a day's heart rates asleep and at rest, and what the slow means make of them."""
    asleep = patient.days(HEART_RATE, told.offset)
    steps = _steps(patient, told.offset)
    by_day = patient.days(BY_DAY, told.offset)
    rest = {one: rate for one, rate in by_day.items() if one in steps}  # without steps nobody knows that it was rest
    known = sorted(one for one in asleep.keys() | steps.keys() if one <= day)
    return (asleep.get(day), rest.get(day)), days((asleep.get(d), rest.get(d), steps.get(d)) for d in known)[-1]


def _steps(patient: Patient, offset: timedelta) -> dict[date, float]:
    return dict(patient.connection.execute(STEPS.encode(), {"offset": offset}).fetchall())
