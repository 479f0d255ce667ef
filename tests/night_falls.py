"""Falls of oxygen saturation at night worked out by a plain loop, from docs/detection.md; it shares no code with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Night(NamedTuple):
    """What is counted of a night that ends on ``day``, and what was usual before it."""

    day: int
    falls: int
    readings: int
    minutes: int
    deepest: float
    usual: float  # falls an hour, or in sixty readings
    n: int  # nights behind it
    told: int  # after it: 0 nothing, 1, 2

    @property
    def known(self) -> bool:
        return self.minutes >= 240

    @property
    def every_minute(self) -> bool:
        return self.readings >= 0.9 * self.minutes

    @property
    def rate(self) -> float:
        return self.falls * 60 / self.readings


def nights(readings: Iterable[tuple[int, int, float]]) -> list[Night]:
    """Return what is made of usable minutes asleep: (minute, day, saturation), in order."""
    found: list[Night] = []
    last, level, scatter, depth = None, 0, 100, 0  # hundredths of a point; tenths
    counts: dict[int, list[int]] = {}  # day → falls, readings, minutes, deepest
    for minute, day, value in readings:
        falls = counts.setdefault(day, [0, 0, 0, 0])
        level = max(8500, round(round(value * 1000) / 10)) if last is None else level
        below = level - round(value * 1000) / 10
        needed = max(400, 4.5 * scatter)
        near = last is not None and minute - last <= 10
        if not near:
            depth = 0
        elif depth and below < needed / 2:
            falls[0], falls[3], depth = falls[0] + 1, max(falls[3], depth), 0
        elif depth or below >= needed:
            depth = max(depth, 1, min(round(below / 10), 255))
        if near and last is not None:
            falls[1], falls[2] = falls[1] + 1, falls[2] + minute - last
        if below < 400:
            scatter = round(scatter + 0.05 * (min(abs(below), 400) - scatter))
        level = round(level + 0.1 * max(-100.0, min(200.0, -below)))
        last = minute
    usual, n, told, calm = 0.0, 0, 0, 0
    for day, (number, seen, minutes, deepest) in sorted(counts.items()):
        night = Night(day, number, seen, minutes, deepest / 10, usual, n, told)
        if night.known:
            bound = min(15.0, 5 + 2 * usual) if n >= 5 else 15.0
            reached = 0 if number < 8 or night.rate < bound else 1 if night.rate < 25 else 2
            calm = calm + 1 if told and night.rate < bound / 2 else 0
            if not told and not reached:
                n = min(n + 1, 14)
                usual = round((usual + (night.rate - usual) / n) * 100) / 100
            told, calm = (0, 0) if calm == 2 else (max(told, reached), calm)
        found.append(night._replace(told=told))
    return found
