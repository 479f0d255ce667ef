"""What a sentence about a safety limit must say: the run of readings past its threshold, or back at its clear one."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from tests.sentences import limits_held
from tests.sentences.limits_held import LIMITS, LimitRule
from tests.sentences.patient import AT_REST, GOOD, Patient, Told
from tests.sentences.words import HOUR, Expected, Untrue, duration, plain, span

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


def expected(patient: Patient, told: Told) -> Expected:
    """The worst reading, the threshold, how long, and to the team what the device may be off by.

    Raises:
        Untrue: SQL finds no such run, or the threshold held for nobody then.
    """
    rule, when = LIMITS[told.rule], limits_held.held(patient.connection, patient.number, told.rule)
    if told.over:
        return _cleared(patient, told, rule, when)
    levels = next(one.levels for one in reversed(when) if one.since <= told.at)
    level = next((place for place in range(len(levels))[::-1] if plain(levels[place]) == told.tokens[1]), None)
    if level is None:
        msg = f"{told.tokens[1]} is no threshold of this rule; it had {levels}"
        raise Untrue(msg)
    threshold = levels[level]
    past = f"({limits_held.beyond(rule, when, level, told.at)}{AT_REST if rule.at_rest else ''})"
    first, n, high, low = _run(patient, told, rule, past)
    worst = high if rule.above else low
    shown: Expected = [plain(worst), plain(threshold), *_lasted(told, first, n, told_of=rule.lasting)]
    if level == 0 and told.to_team:
        shown += _doubt(patient, told, rule, first, worst, abs(float(plain(worst)) - threshold))
    return shown


def _cleared(patient: Patient, told: Told, rule: LimitRule, when: list[limits_held.Held]) -> Expected:
    first, n, _, _ = _run(patient, told, rule, limits_held.back(rule, when, told.at))
    worst = patient.one(
        f"""SELECT {"max" if rule.above else "min"}(value) FROM told
            WHERE metric = %(metric)s AND {GOOD} AND t BETWEEN %(start)s AND %(end)s""",
        metric=rule.metric, start=told.start, end=told.at,
    )[0]  # fmt: skip
    clear = next(one.clear for one in reversed(when) if one.since <= told.at)
    return [plain(clear), *_lasted(told, first, n, told_of=told.at > first), plain(worst)]


def _run(patient: Patient, told: Told, rule: LimitRule, past: str) -> tuple[datetime, int, float, float]:
    """Return since when, of how many readings, and the highest and lowest of them."""
    query, end = RUN.format(past=past, good=GOOD), told.at
    first, last, n, high, low, seldom = patient.one(query, metric=rule.metric, gap=rule.gap, longest=LONGEST, end=end)
    if last != end:
        msg = f"no such reading at {end:%H:%M}; the last one was at {last:%H:%M}"
        raise Untrue(msg)
    if seldom != ("in a row" in told.text) or (" apart" in told.text) != (seldom and n == 2):
        msg = f"of {n} readings, seldom: {seldom}, something else is told"
        raise Untrue(msg)
    return first, n, high, low


def _lasted(told: Told, first: datetime, n: int, *, told_of: bool) -> list[str]:
    """Return the tokens of how long a run lasted, of how many readings it is, and from when to when."""
    lasted, when = duration(told.at - first), span(first, told.at, told.offset)
    if "in a row" in told.text:
        return [str(n), *lasted, *when]
    return [*(lasted if told_of else []), str(n), *when]


def _doubt(patient: Patient, told: Told, rule: LimitRule, first: datetime, worst: float, beyond: float) -> list[str]:
    """The error of the most exact device, where every one that measured may be off by as much as it is beyond."""
    query = MEASURED_BY.format(good=GOOD)
    values = {"patient": patient.number, "metric": rule.metric, "end": told.at, "first": first}
    rows = patient.connection.execute(query.encode(), values).fetchall()
    errors = [MAY_BE_OFF.get((device_class, rule.metric)) for _, device_class in rows]
    off = [one[0] * worst / 100 if one[1] else one[0] for one in errors if one is not None]
    return [plain(min(off))] if off and len(off) == len(rows) and min(off) >= round(beyond, 1) else []
