"""What a sentence about a fast gain of weight must say, worked out by plain loops from docs/detection.md.

It shares no code with what made the sentence. Taken from the alert: where it began, and the instant it speaks of.
"""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta
from statistics import median
from typing import Any, Final, NamedTuple

import psycopg

from tests.sentence_rules import GOOD, HOUR
from tests.sentence_words import MONTHS, Expected, Untrue

READ: Final = f"""
    SELECT date_trunc('second', t), value::float8 FROM told WHERE metric = 'weight' AND {GOOD} AND t <= %s ORDER BY t"""
DAYS: Final = timedelta(days=3)
MORE, NEAR, ODD, AGAIN = 2.0, 1.0, 5.0, 7  # kg, kg, kg, weighings


class Weighing(NamedTuple):
    """The first one of a local day."""

    day: date
    readings: list[float]  # kg, the first three within the hour

    @property
    def value(self) -> float:
        return math.floor(median(self.readings) * 100 + 0.5) / 100


class Rise(NamedTuple):
    """What a weighing comes to against the three days before it."""

    newest: Weighing
    low: Weighing | None
    beyond: bool
    repeated: bool


def weighings(rows: list[tuple[datetime, float]], offset: timedelta) -> list[Weighing]:
    """The first weighing of each local day."""
    found: dict[date, list[tuple[datetime, float]]] = {}
    for t, kilograms in rows:
        of_day = found.setdefault((t + offset).date(), [])
        if not of_day or of_day[0][0] < t <= of_day[0][0] + HOUR:
            of_day.append((t, math.floor(round(kilograms * 100, 3) + 0.5) / 100))
    return [Weighing(day, [kilograms for _, kilograms in of_day[:3]]) for day, of_day in found.items()]


def over(one: float, other: float, kilograms: float) -> bool:
    return round(one - other, 2) > kilograms


def rises(weighed: list[Weighing]) -> list[Rise]:
    """Each weighing against those of the three days before it, but for one far below both its neighbours."""
    kept: list[Weighing] = []
    found = []
    for one in weighed:
        near = [each for each in kept if one.day - each.day <= DAYS]
        if len(near) > 1 and all(over(each.value, near[-1].value, ODD) for each in (near[-2], one)):
            kept.remove(near.pop())
        low = min(near, key=lambda each: each.value, default=None)
        beyond = low is not None and over(one.value, low.value, MORE)
        twice = low is not None and len(one.readings) > 1 and over(min(one.readings), low.value, MORE)
        found.append(Rise(one, low, beyond, twice))
        kept.append(one)
    return found


def risen(seen: list[Rise]) -> bool:
    """Whether the newest weighing is a fast gain that was seen twice."""
    *before, last = seen
    lately = [one for one in before if last.newest.day - one.newest.day <= DAYS]
    return last.beyond and (last.repeated or any(one.beyond for one in lately))


def of_day(day: date) -> list[str]:
    return [str(day.day), MONTHS[day.month - 1]]


def exact(kilograms: float) -> str:
    return f"{kilograms:.2f}".rstrip("0").rstrip(".")


def expected(connection: psycopg.Connection[Any], told: Any, text: str) -> Expected:
    """The numbers of a sentence, to the team or to the patient.

    Raises:
        Untrue: the weight did not rise so, or is not back.
    """
    rows = [(t, float(value)) for t, value in connection.execute(READ, [told.at]).fetchall()]
    seen = rises(weighings(rows, told.offset))
    last = seen[-1]
    if told.change != "resolved":
        if not risen(seen) or last.low is None:
            msg = f"no fast gain, seen twice, to {last.newest.day}"
            raise Untrue(msg)
        if ("another person" in text) != over(last.newest.value, last.low.value, ODD):
            msg = f"{last.newest.value} kg after {last.low.value} kg"
            raise Untrue(msg)
        gain = exact(last.newest.value - last.low.value)
        lower = [exact(last.low.value), *of_day(last.low.day)]
        return [gain, *lower, exact(last.newest.value), *of_day(last.newest.day), "2", "3"]
    for t, _ in rows:  # where it was told, and from which weight on
        first = rises(weighings([row for row in rows if row[0] <= t], told.offset))
        if t >= told.start and risen(first):
            break
    base = first[-1].low.value if first[-1].low else math.nan
    now = [exact(last.newest.value), *of_day(last.newest.day)]
    if "in a row" in text:
        if any(over(one.newest.value, base, NEAR) for one in seen[-2:]):
            msg = f"{[one.newest.value for one in seen[-2:]]} kg are not near {base} kg"
            raise Untrue(msg)
        return [*now, exact(NEAR), exact(base)]
    known = [one for one in seen if one.low is not None][-AGAIN:]
    if len(known) < AGAIN or any(one.beyond for one in known):
        msg = f"{[one.newest.value for one in known]} kg are rises"
        raise Untrue(msg)
    return [*now, str(AGAIN), exact(base)]
