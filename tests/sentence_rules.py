"""What the checker of sentences knows of the rules, and the queries with which it recomputes them.

Written from docs/detection.md and the schema.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Final, NamedTuple

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
GOOD: Final = "quality IN (0, 5)"  # for the limits: not doubted by the device
BASELINE_DAYS, MEMORY_DAYS = 14, 64


class LimitRule(NamedTuple):
    """A safety limit as docs/detection.md and its table of adult limits describe it."""

    metric: str
    above: bool
    levels: tuple[float, ...]
    inclusive: bool
    clear: float
    gap: timedelta  # a longer step is told as one between readings in a row
    at_rest: bool = False
    lasting: bool = True  # its sentence tells for how long


def _limit(metric: str, side: str, levels: Iterable[float], clear: float, gap_min: int, **other: bool) -> LimitRule:
    inclusive, at_rest = other.get("inclusive", False), other.get("at_rest", False)
    lasting = other.get("lasting", True)
    return LimitRule(metric, side == "above", tuple(levels), inclusive, clear, gap_min * MINUTE, at_rest, lasting)


LIMITS: Final = {
    "spo2_low": _limit("spo2", "below", (90, 85), 92, 15),
    "tachycardia_at_rest": _limit("heart_rate", "above", (130, 150), 120, 5, at_rest=True),
    "tachycardia_extreme": _limit("heart_rate", "above", (190,), 170, 5),
    "bradycardia": _limit("heart_rate", "below", (38, 32), 42, 5),
    "respiratory_rate_high": _limit("respiratory_rate", "above", (25, 30), 22, 15, inclusive=True, at_rest=True),
    "respiratory_rate_low": _limit("respiratory_rate", "below", (8,), 10, 15, inclusive=True),
    "fever": _limit("body_temperature", "above", (38.5, 39.5), 38, 60, inclusive=True),
    "hypothermia": _limit("body_temperature", "below", (35, 34), 35.5, 60),
    "glucose_low": _limit("glucose", "below", (70, 54), 80, 30),
    "glucose_high": _limit("glucose", "above", (250,), 220, 30),
    "systolic_high": _limit("systolic_pressure", "above", (180,), 170, 30, inclusive=True, lasting=False),
    "systolic_low": _limit("systolic_pressure", "below", (90,), 100, 30, inclusive=True, lasting=False),
    "spo2_high_on_oxygen": _limit("spo2", "above", (95, 97), 92, 15, inclusive=True),
}


# What docs/detection.md says a single reading of a class of device may be off by; True: in % of the value.
MAY_BE_OFF: Final = {
    ("wrist_optical", "heart_rate"): (15, False),
    ("wrist_optical", "spo2"): (6, False),
    ("wrist_optical", "respiratory_rate"): (1.62, False),
    ("ring_optical", "spo2"): (3.55, False),
    ("patch_ecg", "heart_rate"): (2, True),
    ("finger_oximeter", "spo2"): (4, False),
    ("cuff", "systolic_pressure"): (8, False),
    ("cgm", "glucose"): (11, True),
}
# Of what class each device was said to be that measured the end of a run, of its last quarter of an hour.
MEASURED_BY: Final = """
    SELECT d.key, coalesce((SELECT c.payload->>'device_class' FROM patient_change c
                            WHERE c.patient_id = %(patient)s AND c.kind = 'assignment' AND c.subject = d.key
                              AND c.payload ? 'device_class' AND c.effective_at <= %(end)s
                            ORDER BY c.effective_at DESC, c.id DESC LIMIT 1), 'unknown')
    FROM device d WHERE d.id IN (
        SELECT device FROM told WHERE metric = %(metric)s AND {good} AND t <= %(end)s
                                  AND t >= greatest(%(first)s, %(end)s - interval '15 minutes'))"""


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


class UsualRule(NamedTuple):
    """A rule that compares with the person's own days."""

    metric: str
    decimals: int
    asleep: bool
    least_minutes: int  # usable minutes that make a day


DRIFT: Final = {  # metric → decimals, usable minutes asleep that make a night
    "heart_rate_drift": ("heart_rate", 0, 180),
    "spo2_drift": ("spo2", 1, 20),
    "respiratory_rate_drift": ("respiratory_rate", 1, 20),
    "hrv_rmssd_drift": ("hrv_rmssd", 0, 5),
}
SHIFT: Final = {  # metric → decimals, usable minutes asleep that make a night, the side that is told
    "heart_rate_shift": ("heart_rate", 0, 180, "lower"),
    "spo2_shift": ("spo2", 1, 20, "lower"),
    "respiratory_rate_shift": ("respiratory_rate", 1, 20, "higher"),
}
SLOW: Final = ("resting_heart_rate_rise", "resting_heart_rate_new_normal")
NIGHT_MINUTES, REST_MINUTES = 180, 60  # usable ones that make a day's heart rate asleep, and at rest by day
USUAL: Final = {
    "night_skin_temperature_rise": UsualRule("skin_temperature", 1, True, 20),
    "night_respiratory_rate_rise": UsualRule("respiratory_rate", 1, True, 20),
    "heart_rate_unusual_at_rest": UsualRule("heart_rate", 0, False, 60),
}
VITALS_ASLEEP: Final = {  # as they are named in a sentence about several at once
    "resting heart rate": UsualRule("heart_rate", 0, True, 180),
    "heart rate variability while asleep": UsualRule("hrv_rmssd", 0, True, 5),
    "respiratory rate while asleep": UsualRule("respiratory_rate", 1, True, 20),
    "skin temperature while asleep": UsualRule("skin_temperature", 1, True, 20),
    "oxygen saturation while asleep": UsualRule("spo2", 1, True, 20),
}
# The gate of the adaptive path: lowest and highest plausible minute, largest change a minute, equal minutes of a flat line
GATE: Final = {
    "heart_rate": (30, 220, 60, 30),
    "skin_temperature": (25, 40, 3, 240),
    "respiratory_rate": (6, 40, 20, 120),
    "spo2": (70, 100, 15, 180),
    "hrv_rmssd": (5, 250, 1000000, 60),
}
VITALS: Final = (
    "heart_rate", "steps", "spo2", "respiratory_rate", "skin_temperature", "body_temperature", "hrv_rmssd",
)  # fmt: skip

UNPACK: Final = """
    CREATE TEMP TABLE told AS
    SELECT m.key AS metric, b.device_id AS device, b.t0 + coalesce(b.offsets_ms[i], (i - 1)::bigint * b.step_us / 1000) * interval '1 ms' AS t,
           b.value[i] AS value, coalesce(b.quality[i], 0) AS quality
    FROM reading_block b JOIN metric m ON m.id = b.metric_id CROSS JOIN LATERAL generate_subscripts(b.value, 1) AS i
    WHERE b.patient_id = %s"""
LONGEST: Final = 36 * HOUR
# The run of readings past a value that ends at an instant: nothing else between them, no gap too long; its longest step.
RUN: Final = """
    WITH good AS (
        SELECT t, value, {past} AS past, t - lag(t) OVER (ORDER BY t) AS step
        FROM told AS r WHERE metric = %(metric)s AND {good} AND t <= %(end)s AND t >= %(end)s - interval '4 days'
    ), cut AS (
        SELECT max(t) FILTER (WHERE NOT past) AS other, max(t) FILTER (WHERE step > %(longest)s) AS gap FROM good
    ), run AS (
        SELECT t, value, CASE WHEN t > min(t) OVER () THEN step END AS step FROM good, cut
        WHERE past AND (cut.other IS NULL OR t > cut.other) AND (cut.gap IS NULL OR t >= cut.gap)
    )
    SELECT min(t), max(t), count(*), max(value), min(value), coalesce(max(step) > %(gap)s, false) FROM run"""
AT_REST: Final = """ AND coalesce((SELECT sum(s.value::float8) FROM told s WHERE s.metric = 'steps' AND s.quality IN (0, 5)
    AND s.t BETWEEN r.t - interval '10 minutes' AND r.t), 0) < 50"""
MINUTES: Final = """
    CREATE TEMP TABLE usable_{name} AS
    WITH off AS (
        SELECT DISTINCT date_trunc('minute', t) AS minute FROM told WHERE quality = 3 OR (metric = 'wear' AND value = 0)
    ), step AS (
        SELECT date_trunc('minute', t) AS minute FROM told WHERE metric = 'steps' AND quality IN (0, 4)
        GROUP BY 1 HAVING sum(value) > 0
    ), mean AS (
        SELECT date_trunc('minute', t) AS minute, avg(value::float8)::real AS mean, min(value) = max(value) AS steady
        FROM told WHERE metric = '{metric}' AND quality IN (0, 4) GROUP BY 1
    ), worn AS (
        SELECT m.*, lag(mean) OVER w AS before, extract(epoch FROM minute - lag(minute) OVER w) / 60 AS age
        FROM mean m WHERE minute NOT IN (SELECT minute FROM off) WINDOW w AS (ORDER BY minute)
    ), island AS (
        SELECT *, sum(CASE WHEN age <= 5 AND steady AND mean = before THEN 0 ELSE 1 END) OVER (ORDER BY minute) AS row_of
        FROM worn
    ), judged AS (
        SELECT minute, mean, row_number() OVER (PARTITION BY row_of ORDER BY minute) AS equal_ones,
               coalesce(age <= 5 AND abs(mean - before) > {step} * age, false) AS jump
        FROM island
    ), stirred AS (  -- the last minute with steps, up to each minute
        SELECT minute, max(step) OVER (ORDER BY minute) AS last_step
        FROM (SELECT coalesce(j.minute, s.minute) AS minute, s.minute AS step
              FROM judged j FULL JOIN step s ON s.minute = j.minute) AS both_of_them
    )
    SELECT minute, round((mean * 1000::real)::float8) AS thousandths,
           minute - last_step <= interval '10 minutes' IS TRUE AS active
    FROM judged JOIN stirred USING (minute)
    WHERE mean BETWEEN {low} AND {high} AND (NOT jump OR {jumps}) AND equal_ones < {flat}"""
LOCAL: Final = "(minute AT TIME ZONE 'UTC' + %(offset)s)"
NIGHT: Final = f"({LOCAL}::time >= '22:00' OR {LOCAL}::time < '08:00')"
# A day runs from 10:00 to 10:00 and carries the date of its end; an hour belongs to it as a whole.
DAY: Final = "(date_trunc('hour', minute) AT TIME ZONE 'UTC' + %(offset)s + interval '14 hours')::date"
ASLEEP: Final = f"""
    SELECT extract(epoch FROM minute)::bigint / 60, {DAY}, thousandths / 1000 FROM usable_spo2_jumps_too
    WHERE NOT active AND {NIGHT} AND minute NOT IN (
        SELECT date_trunc('minute', t) FROM told WHERE metric = 'spo2' AND quality NOT IN (0, 3, 4))
    ORDER BY minute"""
STEPS: Final = f"""
    WITH off AS (
        SELECT DISTINCT date_trunc('minute', t) AS minute FROM told WHERE quality = 3 OR (metric = 'wear' AND value = 0)
    ), one AS (
        SELECT date_trunc('minute', t) AS minute, sum(value::float8) AS steps FROM told
        WHERE metric = 'steps' AND quality IN (0, 4) GROUP BY 1 HAVING sum(value::float8) BETWEEN 0 AND 300
    )
    SELECT {DAY} AS day, sum(round(steps))::float8 FROM one WHERE minute NOT IN (SELECT minute FROM off)
    GROUP BY 1 HAVING count(*) >= 600"""
