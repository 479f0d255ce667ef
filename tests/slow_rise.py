"""The slow rule about resting heart rate worked out by a plain loop, from docs/detection.md; it shares no code with it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

LIMIT: Final = 4.5
PRIOR: Final = ((70.0, 9.0, 3.0, 1.0), (8.7, 0.6, 0.5, 0.15))  # center, between, a day's SD, its least; rate, steps
WEIGHT: Final = (1.0, -0.4)


class Night(NamedTuple):
    """What a night is compared with, and what came of it."""

    usual: float  # the slow mean before it
    n: int  # nights behind it
    sum: float
    active: bool
    level: float  # of the nights since the rise was told, before this one; 0 while none is
    worse: bool


class _Channel:
    def __init__(self, prior: tuple[float, float, float, float]) -> None:
        self.mean, self.variance, self.n = 0.0, 0.0, 0
        self._center, self._between, self._day, self._least = prior

    @property
    def spread(self) -> float:
        more = max(self.n - 1, 0)
        own = (more * self.variance + 5 * self._day**2) / (more + 5)
        return math.sqrt(max(own, self._least**2))

    @property
    def doubt(self) -> float:
        own = self._between**2 / (self._between**2 + self.spread**2 / self.n)
        return math.sqrt(self.spread**2 + self._between**2 * (1 - own))

    def z(self, value: float | None) -> float | None:
        if value is None or self.n < 5:
            return None
        own = self._between**2 / (self._between**2 + self.spread**2 / self.n)
        center = own * self.mean + (1 - own) * self._center
        return (value - center) / self.doubt

    def learn(self, value: float | None, *, suspicious: bool) -> None:
        if value is None:
            return
        share, away, spread = max(1 / 28, 1 / (self.n + 1)), value - self.mean, self.spread
        near, far = (max(-b * spread, min(away, b * spread)) if self.n >= 5 else away for b in (1.5, 2.5))
        if self.n == 0:
            self.mean = value
        else:
            self.mean += share * near
            if not (suspicious and self.n >= 5):
                self.variance = (1 - share) * (self.variance + share * far**2)
        self.n += 1


def nights(values: Iterable[tuple[float | None, float | None]]) -> list[Night]:
    """Return what is made of (heart rate asleep, steps of the day) day after day, None where unknown."""
    rate, steps = (_Channel(prior) for prior in PRIOR)
    total, active, found = 0.0, False, []
    level, since_told, further, told = 0.0, 0, 0.0, False
    for value, count in values:
        walked = None if count is None else math.log1p(count)
        scores = [rate.z(value), steps.z(walked)]
        usual, n = rate.mean, rate.n
        if scores[0] is not None:
            known = [(w, max(-4.0, min(4.0, z))) for w, z in zip(WEIGHT, scores, strict=True) if z is not None]
            score = sum(w * z for w, z in known) / sum(w * w for w, _ in known) ** 0.5
            total = max(0.0, min(total + min(score, 4.0) - 0.5, LIMIT + 2))
            was, active = active, total >= 0.5 * LIMIT if active else total > LIMIT and scores[0] >= 1
        before, worse = level, False
        if scores[0] is not None and value is not None:
            if not active:
                level, since_told, further, told = 0.0, 0, 0.0, False
            elif not was:
                level, since_told = value, 1
            else:
                away = (value - level) / rate.doubt
                further = max(0.0, min(further + min(away, 4.0) - 0.5, LIMIT + 2))
                worse = further > LIMIT and away >= 1 and not told
                told |= worse
                level += (value - level) / min(since_told + 1, 14)
                since_told += 1
        for channel, one in ((rate, value), (steps, walked)):
            channel.learn(one, suspicious=total > LIMIT / 2)
        found.append(Night(usual, n, total, active, before, worse))
    return found
