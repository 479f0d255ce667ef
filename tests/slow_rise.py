"""The slow rule about resting heart rate worked out by a plain loop, from docs/detection.md; it shares no code with it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

LIMIT: Final = 4.5
# center, between, a day's SD, its least: of the rate asleep, at rest by day, and of the logarithm of the steps
PRIOR: Final = ((70.0, 9.0, 3.0, 1.0), (74.0, 11.0, 4.0, 1.5), (8.7, 0.6, 0.5, 0.15))
WEIGHT: Final = (1.0, 1.0, -0.4)
TOGETHER: Final = 0.5


class Day(NamedTuple):
    """What a day is compared with, and what came of it; the first of a pair is of the night, the second of the day."""

    usual: tuple[float, float]  # the slow means before it
    n: tuple[int, int]  # days behind them
    z: tuple[float | None, float | None]
    sum: float
    active: bool
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


def days(values: Iterable[tuple[float | None, float | None, float | None]]) -> list[Day]:
    """Return what is made of (heart rate asleep, at rest by day, steps of the day) day after day, None where unknown."""
    channels = [_Channel(prior) for prior in PRIOR]
    total, active, found = 0.0, False, []
    level: list[float | None] = [None, None]
    since_told, further, told = 0, 0.0, False
    for asleep, rest, count in values:
        day = [asleep, rest, None if count is None else math.log1p(count)]
        scores = [channel.z(value) for channel, value in zip(channels, day, strict=True)]
        usual, n = (channels[0].mean, channels[1].mean), (channels[0].n, channels[1].n)
        heart, worse = _together(scores[:2], WEIGHT), False
        if heart is not None:
            clipped = [None if z is None else max(-4.0, min(4.0, z)) for z in scores]
            score = _together(clipped, WEIGHT)
            assert score is not None
            total = max(0.0, min(total + min(score, 4.0) - 0.5, LIMIT + 2))
            was, active = active, total >= 0.5 * LIMIT if active else total > LIMIT and heart >= 1
            if not active:
                level, since_told, further, told = [None, None], 0, 0.0, False
            elif not was:
                level, since_told = day[:2], 1
            else:
                apart = [None if a is None or b is None else a - b for a, b in zip(day[:2], level, strict=True)]
                pairs = zip(apart, channels[:2], strict=True)
                away = _together([None if a is None else a / channel.doubt for a, channel in pairs], WEIGHT)
                if away is not None:
                    further = max(0.0, min(further + min(away, 4.0) - 0.5, LIMIT + 2))
                    worse = further > LIMIT and away >= 1 and not told
                    told |= worse
                level = [
                    value if was is None else was + (0.0 if a is None else a / min(since_told + 1, 14))
                    for value, was, a in zip(day[:2], level, apart, strict=True)
                ]
                since_told += 1
        for channel, value in zip(channels, day, strict=True):
            channel.learn(value, suspicious=total > LIMIT / 2)
        found.append(Day(usual, n, (scores[0], scores[1]), total, active, worse))
    return found


def _together(scores: list[float | None], weights: tuple[float, ...]) -> float | None:
    """The weighted sum in its own SDs: the first two scores are correlated, the others are not."""
    known = [(place, w, z) for place, (w, z) in enumerate(zip(weights, scores, strict=False)) if z is not None]
    if not known:
        return None
    hearts = [w for place, w, _ in known if place < 2]
    both = 2 * TOGETHER * hearts[0] * hearts[1] if len(hearts) == 2 else 0.0
    return sum(w * z for _, w, z in known) / math.sqrt(sum(w * w for _, w, _ in known) + both)
