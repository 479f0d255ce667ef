"""What a sentence must say about a value whose unit is in doubt."""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.sentences.patient import Patient, Told
from tests.sentences.words import Expected, Untrue, precise, since


class Confused(NamedTuple):
    """A unit a metric is confused with: the metric's own unit is ``factor`` times a value in it plus ``offset``."""

    factor: float
    offset: float
    soft: tuple[float, float]  # plausible in the metric's own unit


CONFUSED: Final = {
    "heart_rate": (Confused(60, 0, (30, 220)),),
    "spo2": (Confused(100, 0, (70, 100)),),
    "body_temperature": (Confused(5 / 9, -160 / 9, (34, 42)), Confused(1, -273.15, (34, 42))),
    "systolic_pressure": (Confused(7.500616827, 0, (70, 220)),),
    "glucose": (Confused(18.0156, 0, (40, 400)),),
}


def expected(patient: Patient, told: Told) -> Expected:
    """What was set aside, and what it is in the other unit; or the good reading that ended it.

    Raises:
        Untrue: nothing was set aside then, or it is plausible in no other unit.
    """
    metric = told.rule.removeprefix("check_value_")
    if told.over:
        value = patient.one(
            "SELECT value FROM told WHERE metric = %(metric)s AND t = %(at)s AND quality = 0",
            metric=metric,
            at=told.at,
        )[0]
        return [precise(value), *since(told.at, told.offset)]
    kept = patient.one(
        """SELECT q.value FROM quarantined_reading q JOIN metric m ON m.id = q.metric_id
           WHERE q.patient_id = %(patient)s AND m.key = %(metric)s AND q.t = %(at)s AND q.reason = 'unit_suspected'""",
        patient=patient.number, metric=metric, at=told.start,
    )[0]  # fmt: skip
    for unit in CONFUSED[metric]:
        low, high = unit.soft
        meant, sent = kept * unit.factor + unit.offset, (kept - unit.offset) / unit.factor
        if low <= meant <= high:
            return [precise(kept), *since(told.start, told.offset), precise(meant)]
        if low <= sent <= high:  # said to be in the other unit, and was in the metric's own
            return [precise(sent), *since(told.start, told.offset), precise(sent)]
    msg = f"{kept} is plausible in no unit this checker knows for {metric}"
    raise Untrue(msg)
