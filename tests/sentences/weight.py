"""What a sentence about a fast gain of weight must say, worked out by plain loops from docs/detection.md.

It shares no code with what made the sentence. Taken from the alert: the instant it speaks of.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from statistics import median
from typing import Final, NamedTuple

from tests.sentences.patient import GOOD, Patient, Told
from tests.sentences.words import HOUR, MINUTE, Expected, Untrue, day_and_month

READ: Final = f"""
    SELECT date_trunc('second', t), value::float8 FROM told WHERE metric = 'weight' AND {GOOD} ORDER BY t"""
DAYS: Final = timedelta(days=3)
MORE, NEAR, ODD, AGAIN = 2.0, 1.0, 5.0, 7  # kg, kg, kg, weighings


class Weighing(NamedTuple):
    """The first one of a local day."""

    day: date
    readings: list[tuple[datetime, float]]  # kg, the first three within the hour

    @property
    def value(self) -> float:
        return math.floor(round(median(kilograms for _, kilograms in self.readings) * 100, 3) + 0.5) / 100

    @property
    def least(self) -> float:
        return min(kilograms for _, kilograms in self.readings)


class Said(NamedTuple):
    """What a weighing changed, at its newest reading."""

    change: str  # raised, worsened, near, calm
    newest: Weighing
    low: Weighing  # what it was counted from


class Place(NamedTuple):
    """A weighing of the days before, or what it was counted from if it showed a gain once."""

    day: date
    stands: Weighing


@dataclass
class Course:
    """One person's weighings as they follow each other."""

    before: list[Place] = field(default_factory=list)
    half: date | None = None  # showed a gain once
    base: Weighing | None = None  # of the gain that is told
    top: float = 0.0
    worse: bool = False
    calm: int = 0
    back: bool = False
    fresh: bool = False  # told by this very weighing

    def near(self, one: Weighing) -> list[Place]:
        places = [each for each in self.before if one.day - each.day <= DAYS]
        if len(places) > 1 and all(over(v, places[-1].stands.value, ODD) for v in (places[-2].stands.value, one.value)):
            places.pop()
        return places

    def low(self, one: Weighing) -> Weighing | None:
        return min(
            (each.stands for each in self.near(one)), key=lambda each: (each.value, -each.day.toordinal()), default=None
        )

    def shown(self, one: Weighing) -> Weighing | None:
        """From what it is a fast gain that is news."""
        low = self.low(one)
        if low is None or self.worse or not over(one.value, low.value, MORE):
            return None
        on_top = self.base is None or over(low.value, self.base.value, NEAR) or over(one.value, self.top, MORE)
        return low if on_top else None

    def is_calm(self, one: Weighing) -> bool | None:
        low = self.low(one)
        if over(one.value, self.top, NEAR) or (low is not None and over(one.value, low.value, MORE)):
            return False
        return None if low is None and over(one.value, self.top, 0) else True

    def take(self, one: Weighing) -> Said | None:
        """A weighing with its readings so far."""
        low = self.shown(one)
        if self.base is not None and self.back and not over(one.value, self.base.value, NEAR):
            return Said("near", one, self.base)
        if self.base is not None and not self.fresh and self.calm + 1 >= AGAIN and self.is_calm(one):
            return Said("calm", one, self.base)
        if low is None or not (self.half or (len(one.readings) > 1 and over(one.least, low.value, MORE))):
            return None
        return Said("raised" if self.base is None else "worsened", one, low)

    def told(self, said: Said) -> None:
        self.before = [each for each in self.before if each.day != self.half]
        self.half = None
        if said.change in ("near", "calm"):
            self.base, self.worse, self.calm, self.back, self.fresh = None, False, 0, False, False
            return
        self.worse, self.base = self.base is not None, self.base or said.low
        rise = round((said.newest.value - self.base.value) * 100)
        self.top, self.fresh = self.base.value - (-rise // 10) / 10 if rise <= 2540 else math.inf, True

    def close(self, one: Weighing) -> None:
        """Its day is over."""
        shown, places = self.shown(one), self.near(one)
        if self.base is not None:
            calm = self.is_calm(one)
            self.back = not over(one.value, self.base.value, NEAR)
            self.calm = 0 if self.fresh or calm is False else self.calm + int(calm is True)
        self.fresh = False
        self.half = one.day if shown else self.half
        self.before = [*places, Place(one.day, shown or one)]


def weighings(rows: list[tuple[datetime, float]], offset: timedelta) -> list[Weighing]:
    """The first weighing of each local day."""
    found: dict[date, list[tuple[datetime, float]]] = {}
    for t, kilograms in rows:
        of_day, weight = found.setdefault((t + offset).date(), []), math.floor(round(kilograms * 100, 3) + 0.5) / 100
        begins = of_day[0][0] if of_day else t
        copied = t <= begins + MINUTE and weight in [one for _, one in of_day]
        if not of_day or (begins < t <= begins + HOUR and not copied):
            of_day.append((t, weight))
    return [Weighing(day, of_day[:3]) for day, of_day in found.items()]


def course(weighed: list[Weighing]) -> Iterator[Said]:
    """Everything that is told of a person."""
    now = Course()
    for one in weighed:
        if now.half and one.day - now.half > DAYS:
            now.half = None
        for n in range(1, len(one.readings) + 1):
            said = now.take(one._replace(readings=one.readings[:n]))
            if said is not None:
                yield said
                now.told(said)
        now.close(one)


def over(one: float, other: float, kilograms: float) -> bool:
    return round(one - other, 2) > kilograms


def exact(kilograms: float) -> str:
    return f"{kilograms:.2f}".rstrip("0").rstrip(".")


def expected(patient: Patient, told: Told) -> Expected:
    """The numbers of a sentence, to the team or to the patient.

    Raises:
        Untrue: the weight did not rise so, or is not back.
    """
    rows = [(t, float(value)) for t, value in patient.connection.execute(READ).fetchall()]
    ended, further = told.over, "further, by" in told.text
    change = ("near" if "in a row" in told.text else "calm") if ended else "worsened" if further else "raised"
    said = [one for one in course(weighings(rows, told.offset)) if one.change == change]
    if told.change == "settled" and further:  # dated as what it became worse than
        said = [one for one in said if one.newest.readings[-1][0] >= told.at][:1]
    else:
        said = [one for one in said if one.newest.readings[-1][0] == told.at]
    if not said:
        msg = f"no weight of {told.at} {change} anything"
        raise Untrue(msg)
    _, newest, low = said[0]
    now = [exact(newest.value), *day_and_month(newest.day)]
    if ended:
        return [*now, exact(NEAR) if change == "near" else str(AGAIN), exact(low.value)]
    if ("another person" in told.text) != over(newest.value, low.value, ODD):
        msg = f"{newest.value} kg after {low.value} kg"
        raise Untrue(msg)
    return [exact(newest.value - low.value), exact(low.value), *day_and_month(low.day), *now, "2", "3"]
