"""What a sentence about falls of oxygen saturation at night must say."""

from __future__ import annotations

from datetime import date
from typing import Final

from tests import night_falls
from tests.sentences.patient import DAY, NIGHT, Patient, Told
from tests.sentences.words import MINUTE, Expected, Shown, Untrue, day_and_month, day_of, duration, plain

ASLEEP: Final = f"""
    SELECT extract(epoch FROM minute)::bigint / 60, {DAY}, thousandths / 1000 FROM usable_spo2_jumps_too
    WHERE NOT active AND {NIGHT} AND minute NOT IN (
        SELECT date_trunc('minute', t) FROM told WHERE metric = 'spo2' AND quality NOT IN (0, 3, 4))
    ORDER BY minute"""


def expected(patient: Patient, told: Told) -> Expected:
    """Count a night's falls once more from all the minutes asleep up to it.

    Raises:
        Untrue: there are no readings of that night.
    """
    patient.minutes("spo2", jumps=True)
    rows = patient.connection.execute(ASLEEP.encode(), {"offset": told.offset}).fetchall()
    day = day_of(told.at - MINUTE, told.offset).toordinal()
    counted = night_falls.nights((minute, one.toordinal(), value) for minute, one, value in rows)
    night = next((one for one in counted if one.day == day), None)
    if night is None:
        msg = f"no readings asleep in the night to {day_of(told.at - MINUTE, told.offset)}"
        raise Untrue(msg)
    times = [] if night.falls == 1 else [str(night.falls)]
    watched = [str(night.readings), *duration(night.minutes * MINUTE)]
    rate: Expected = [Shown(night.rate, 1)] if night.every_minute else []
    deepest = [plain(night.deepest)] if night.falls else []
    usual: Expected = [Shown(night.usual, 1), *([] if night.every_minute else ["60"]), str(night.n)]
    shown: Expected = ["4", *times, *day_and_month(date.fromordinal(day)), *watched, *rate, *deepest]
    return [*shown, *(usual if night.n >= 5 else [])]
