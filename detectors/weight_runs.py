"""One person's weights as they come, and whether they have risen fast: see ``weight_gain``.

Hardly anybody has a weight in a batch, so it is plain numbers and plain conditions, as in ``limit_runs``. Weights are
whole tens of grams here: what scales show, and sums of them are exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from detectors.protocol import Change
from detectors.weights import CALM, ENDS, GAIN, GAIN_DAYS, JUMP, MOST_READINGS, WEIGHING_S

QUARTER_S: Final = 900  # of an hour: local clocks differ by whole ones
DAY_S: Final = 86_400


@dataclass(slots=True)
class Run:
    """The newest weighing, those of the days before it, and the rise that is told or half seen; all zeros: none yet."""

    first_s: int = 0  # the newest weighing's first reading, seconds since 1970
    quarters: int = 0  # local time minus UTC then, in quarters of an hour
    middle: int = 0  # of its readings; of two the lower one
    other: int = 0  # of two the higher one, of three the lowest; 0: there is one
    three: bool = False  # as many as are looked at
    before: list[int] = field(default_factory=lambda: [0] * GAIN_DAYS)  # of the day before, and further back; 0: none
    beyond: list[bool] = field(default_factory=lambda: [False] * GAIN_DAYS)  # whether that was a fast gain
    since_s: int = 0  # the first reading of the earliest weighing that was one, in a row that is not over
    base: int = 0  # from which the rise that is told was counted; 0: none is
    calm: int = 0  # weighings in a row that were no fast gain, while one is told
    back: bool = False  # whether the weighing before was near the base again

    @property
    def day(self) -> int:
        """The local day of the newest weighing, counted from 1970."""
        return local_day(self.first_s, self.quarters)

    @property
    def readings(self) -> int:
        """How many readings of the newest weighing are looked at."""
        return 3 if self.three else int(self.middle > 0) + int(self.other > 0)

    @property
    def value(self) -> int:
        """The newest weighing's: the middle of its readings, between two of them rounded up."""
        return (self.middle + self.other + 1) // 2 if self.other and not self.three else self.middle

    @property
    def least(self) -> int:
        """The lowest reading of it."""
        return self.other if self.three else self.middle

    def take(self, t_s: int, quarters: int, weight: int) -> Change | None:
        """Take the next good reading, in tens of grams; return what changed. After ``cleared`` ``forget`` it."""
        day = local_day(t_s, quarters)
        if not self.middle or day > self.day:
            if self.middle:
                self._close(day)
            self.first_s, self.quarters = t_s, quarters
            self.middle, self.other, self.three = weight, 0, False
        elif self.readings < MOST_READINGS and 0 < t_s - self.first_s <= WEIGHING_S:
            self._repeat(weight)
        else:
            return None  # the same one by another way; later on a day: what was eaten and drunk is no gain
        return self._ends() if self.base else self._rises()

    def forget(self) -> None:
        """Know of no rise; what was weighed stays."""
        self.since_s, self.base, self.calm, self.back, self.beyond = 0, 0, 0, False, [False] * GAIN_DAYS

    def lowest(self) -> int | None:
        """Return how many days before the newest weighing the lowest one was, None where there is none."""
        weights = self._without_dip()
        known = [days for days in range(GAIN_DAYS, 0, -1) if weights[days - 1]]
        return min(known, key=lambda days: weights[days - 1], default=None)

    def _without_dip(self) -> list[int]:
        """Return the weights before, less one that lies implausibly far below both its neighbours: somebody else's."""
        known = [place for place, weight in enumerate(self.before) if weight]
        weights = list(self.before)
        if len(known) > 1:
            last, earlier = weights[known[0]], weights[known[1]]
            if min(earlier, self.value) - last > JUMP:
                weights[known[0]] = 0
        return weights

    def _gain(self, weight: int) -> int | None:
        days = self.lowest()
        return None if days is None else weight - self.before[days - 1]

    def _is_beyond(self) -> bool:
        return (self._gain(self.value) or 0) > GAIN

    def _repeat(self, weight: int) -> None:
        if not self.other:
            self.middle, self.other = sorted((self.middle, weight))
        else:
            self.other, self.middle, _ = sorted((self.middle, self.other, weight))
            self.three = True

    def _close(self, day: int) -> None:
        """End the newest weighing's day, for one of a later ``day`` has come."""
        was, gain, ago = self._is_beyond(), self._gain(self.value), day - self.day
        if self.base:
            self.back = self.value <= self.base + ENDS
            self.calm = self.calm if gain is None else 0 if was else self.calm + 1
        if was and not self.since_s:
            self.since_s = self.first_s
        weights = [*[0] * (ago - 1), self.value, *self._without_dip()] if ago <= GAIN_DAYS else []
        rises = [*[False] * (ago - 1), was, *self.beyond] if ago <= GAIN_DAYS else []
        self.before = (weights + [0] * GAIN_DAYS)[:GAIN_DAYS]
        self.beyond = (rises + [False] * GAIN_DAYS)[:GAIN_DAYS]
        if not self.base and not any(self.beyond):
            self.since_s = 0

    def _rises(self) -> Change | None:
        days = self.lowest()
        if days is None or not self._is_beyond():
            return None
        repeated = self.readings > 1 and (self._gain(self.least) or 0) > GAIN
        if not (repeated or any(self.beyond)):
            return None
        self.since_s, self.base = self.since_s or self.first_s, self.before[days - 1]
        return "raised"

    def _ends(self) -> Change | None:
        near = self.back and self.value <= self.base + ENDS
        calm = self.calm + 1 >= CALM and self._gain(self.value) is not None and not self._is_beyond()
        return "cleared" if near or calm else None


def local_day(t_s: int, quarters: int) -> int:
    """Return the local day of an instant.

    >>> local_day(86_399, 0), local_day(86_399, 4)
    (0, 1)
    """
    return (t_s + quarters * QUARTER_S) // DAY_S
