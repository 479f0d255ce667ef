"""What a sentence about a device must say: not worn, poor signal, battery low, silent."""

from __future__ import annotations

from typing import Final

from tests.sentences.patient import Patient, Told
from tests.sentences.words import HOUR, Expected, duration, since, span

VITALS: Final = (
    "heart_rate", "steps", "spo2", "respiratory_rate", "skin_temperature", "body_temperature", "hrv_rmssd",
)  # fmt: skip
VITALS_SQL: Final = ", ".join(f"'{one}'" for one in VITALS)


def not_worn(patient: Patient, told: Told) -> Expected:
    """Since when nothing was heard of the person."""
    first = patient.one(
        f"""WITH minute AS (
                SELECT date_trunc('minute', t) AS minute,
                       bool_or(quality = 3 OR (metric = 'wear' AND value = 0)) AS off,
                       bool_or(quality IN (0, 4) AND metric IN ({VITALS_SQL})) AS heard
                FROM told WHERE t <= %(at)s GROUP BY 1)
            SELECT min(minute) FROM minute
            WHERE off AND minute > coalesce((SELECT max(minute) FROM minute WHERE heard AND NOT off), '-infinity')""",
        at=told.at,
    )[0]
    return [*since(first, told.offset)]


def poor_signal(patient: Patient, told: Told) -> Expected:
    """The share of the hour's readings that are of poor signal, of the worst metric."""
    share = patient.one(
        f"""SELECT max(share) FROM (
                SELECT metric, count(*) FILTER (WHERE quality NOT IN (0, 4))::float8 / count(*) AS share FROM told
                WHERE t >= %(at)s - interval '1 hour' AND t < %(at)s AND quality <> 3 AND metric IN ({VITALS_SQL})
                GROUP BY metric HAVING count(*) >= 20) AS metrics""",
        at=told.at,
    )[0]
    return [f"{100 * share:.0f}", *span(told.at - HOUR, told.at, told.offset)]


def battery_low(patient: Patient, told: Told) -> Expected:
    """What the device said at that instant, in percent."""
    percent = patient.one("SELECT value FROM told WHERE metric = 'battery' AND t = %(at)s", at=told.at)[0]
    return [f"{percent:.0f}"]


def silent(patient: Patient, told: Told) -> Expected:
    """The last reading and how long ago; what came later, and late, had not been received when silence was told."""
    last = patient.one(
        """SELECT max(t) FROM told WHERE t < %(start)s AND NOT EXISTS (
               SELECT 1 FROM frame_log f WHERE f.patient_id = %(patient)s AND f.late > 0
               AND f.received_at > %(start)s AND told.t BETWEEN f.t_first AND f.t_last)""",
        start=told.start, patient=patient.number,
    )[0]  # fmt: skip
    return [*since(last, told.offset), *duration(told.start - last)]
