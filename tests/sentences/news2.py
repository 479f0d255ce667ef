"""What a sentence about NEWS2 must say, worked out by plain loops from docs/detection.md and the chart.

It shares no code with what made the sentence. Taken from the alert: where it began, and the instant it speaks of.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import psycopg

from tests.sentences.patient import AT_REST, GOOD, Patient, Told
from tests.sentences.words import HOUR, MINUTE, Expected, Untrue, duration, plain, span

MAX_AGE: Final = {
    "respiratory_rate": HOUR, "spo2": HOUR, "supplemental_oxygen": HOUR, "systolic_pressure": 12 * HOUR,
    "heart_rate": HOUR, "consciousness": 4 * HOUR, "body_temperature": 4 * HOUR,
}  # fmt: skip
READ: Final = f"""
    SELECT metric, date_trunc('second', t), value::float8 FROM told r
    WHERE metric = ANY(%(metrics)s) AND {GOOD} AND t <= %(end)s AND t >= %(start)s - interval '13 hours'
      AND (metric NOT IN ('heart_rate', 'respiratory_rate') OR (true{AT_REST})) ORDER BY t"""
PROFILE: Final = """
    SELECT effective_at, payload->'oxygen' FROM patient_change
    WHERE patient_id = %s AND kind = 'profile' AND effective_at <= %s ORDER BY effective_at, id"""


class Known(NamedTuple):
    """A parameter at an instant."""

    value: float
    age: timedelta | None  # None: the profile says so
    points: int


def half_up(value: float, metric: str) -> float:
    step = 10 if metric in ("body_temperature", "supplemental_oxygen") else 1
    return math.floor(round(value * step, 4) + 0.5) / step


def points(metric: str, v: float, *, scale_2: bool, on_oxygen: bool) -> int:
    """The chart, by hand."""
    if metric == "respiratory_rate":
        return 3 if v <= 8 or v >= 25 else 2 if v >= 21 else 1 if v <= 11 else 0
    if metric == "spo2" and scale_2:
        low = 3 if v <= 83 else 2 if v <= 85 else 1 if v <= 87 else 0
        high = 3 if v >= 97 else 2 if v >= 95 else 1 if v >= 93 else 0
        return low or (high if on_oxygen else 0)
    if metric == "spo2":
        return 3 if v <= 91 else 2 if v <= 93 else 1 if v <= 95 else 0
    if metric == "systolic_pressure":
        return 3 if v <= 90 or v >= 220 else 2 if v <= 100 else 1 if v <= 110 else 0
    if metric == "heart_rate":
        return 3 if v <= 40 or v >= 131 else 2 if v >= 111 else 1 if v <= 50 or v >= 91 else 0
    if metric == "body_temperature":
        return 3 if v <= 35 else 2 if v >= 39.1 else 1 if v <= 36 or v >= 38.1 else 0
    return {"supplemental_oxygen": 2, "consciousness": 3}[metric] if v > 0 else 0


class Story:
    """One patient's readings that count, up to an instant."""

    def __init__(self, connection: psycopg.Connection[Any], patient: int, start: datetime, end: datetime) -> None:
        rows = connection.execute(READ, {"metrics": list(MAX_AGE), "start": start, "end": end}).fetchall()
        self.rows: list[tuple[str, datetime, float]] = [(metric, t, float(value)) for metric, t, value in rows]
        self.profiles = connection.execute(PROFILE, [patient, end]).fetchall()
        self.start = start
        self.occasions = sorted({t for _, t, _ in self.rows})

    def oxygen(self, now: datetime) -> dict[str, Any]:
        """What the profile that held at an instant says of oxygen."""
        said: list[dict[str, Any] | None] = [oxygen for since, oxygen in self.profiles if since <= now]
        return (said[-1] if said else None) or {}

    def scale_2(self, now: datetime) -> bool:
        return bool(self.oxygen(now).get("target") == [88, 92])

    def known(self, now: datetime, *, held: bool = False) -> dict[str, Known]:
        """Each parameter at an instant; ``held``: with what became too old since the episode began."""
        newest = {metric: (t, value) for metric, t, value in self.rows if t <= now}
        seen = {}
        for metric, (t, value) in newest.items():
            since_start = held and t >= self.start - MAX_AGE[metric]
            if now - t <= MAX_AGE[metric] or since_start:
                seen[metric] = (half_up(value, metric), now - t)
        shown: dict[str, tuple[float, timedelta | None]] = {**seen}
        fresh = now - newest["supplemental_oxygen"][0] <= HOUR if "supplemental_oxygen" in newest else False
        home = self.oxygen(now).get("home")
        if not fresh and (home or (home is False and "supplemental_oxygen" not in newest)):
            shown["supplemental_oxygen"] = (float(home), None)
        on = shown.get("supplemental_oxygen", (0.0, None))[0] > 0
        return {
            metric: Known(*shown[metric], points(metric, shown[metric][0], scale_2=self.scale_2(now), on_oxygen=on))
            for metric in MAX_AGE if metric in shown
        }  # fmt: skip

    def total(self, now: datetime, *, held: bool = False) -> int:
        return sum(one.points for one in self.known(now, held=held).values())

    def run(self, level: int, end: datetime) -> datetime:
        """Since when the score has been at a level, never lower for five minutes, up to an instant: looked at backwards."""
        since = after = end
        for now in reversed([t for t in self.occasions if t <= end]):
            if after - now > HOUR or (self.total(now) < level and since - now >= 5 * MINUTE):
                break
            since = now if self.total(now) >= level else since
            after = now
        return since

    def below(self, end: datetime) -> datetime:
        """Since when it has been below 5, with what became too old as it was last."""
        since = end
        for now in reversed([t for t in self.occasions if t <= end]):
            if since - now > HOUR or self.total(now, held=True) >= 5:
                break
            since = now
        return since


def expected(patient: Patient, told: Told) -> Expected:
    """The numbers of a sentence, to the team or to the patient.

    Raises:
        Untrue: the score was not what it says.
    """
    story = Story(patient.connection, patient.number, told.start, told.at)
    to_team = told.text.startswith("NEWS2")
    if told.over:
        since = story.below(told.at)
        if told.at - since < HOUR:
            msg = f"below 5 only since {since:%H:%M}"
            raise Untrue(msg)
        worst = max(story.total(t) for t in story.occasions if told.start <= t <= told.at)
        lasted: Expected = [*duration(told.at - since), *span(since, told.at, told.offset)]
        return ["2", "5", *lasted, str(worst)] if to_team else lasted
    levels = [level for level in (7, 5) if told.at - story.run(level, told.at) >= 15 * MINUTE]
    level = int(told.tokens[4]) if to_team else levels[0] if levels else 0
    if level not in levels:
        msg = f"{level} or more for 15 minutes: no; so long were {levels}"
        raise Untrue(msg)
    if to_team and ("at least" in told.text) != (len(story.known(told.at)) < 7):
        msg = f"known are {sorted(story.known(told.at))}"
        raise Untrue(msg)
    since, now = story.run(level, told.at), story.known(told.at)
    stayed = duration(told.at - since)
    made_of: Expected = []
    for metric, one in now.items():
        if one.points:
            worded = metric == "consciousness" or one.age is None
            made_of += [] if worded else [plain(one.value)]
            old = duration(one.age) if one.age is not None and one.age > HOUR else []
            made_of += [*old, str(one.points)] if to_team else []
    when = span(since, told.at, told.offset)
    if not to_team:
        return [*stayed, *when, *made_of]
    total = str(story.total(told.at))
    scale: Expected = ["2"] if story.scale_2(told.at) else []
    return ["2", total, str(len(now)), "7", str(level), *stayed, "5", *when, *made_of, *scale]
