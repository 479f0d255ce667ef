"""One person's weights as they come, and whether they have risen fast: see ``weight_gain``.

Hardly anybody has a weight in a batch, so it is plain numbers and plain conditions, as in ``limit_runs``. Weights are
whole tens of grams here: what scales show, and sums of them are exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from detectors.protocol import Change
from detectors.weighing import Newest, local_day
from detectors.weights import CALM, ENDS, GAIN, GAIN_DAYS, JUMP, MOST_READINGS

RISE_UNIT: Final = 10  # tens of grams in which the rise that is told is kept
NO_TOP: Final = 255  # of these and more: what is told is no bound


class Low(NamedTuple):
    """The weight from which a gain is counted."""

    weight: int
    days: int  # before the newest weighing


@dataclass(slots=True)
class Run(Newest):
    """The newest weighing, those of the days before it, and the rise that is told or half seen; all zeros: none yet.

    In the place of a weighing by which a gain was seen once stands what that was counted from: so the next one is held
    against it too. Once it was seen twice the place is empty.
    """

    before: list[int] = field(default_factory=lambda: [0] * GAIN_DAYS)  # of the day before, and further back; 0: none
    half: int = 0  # how many days before a gain was seen once, 0: none was
    ago: int = 0  # how many days before that lay what it was counted from
    since_s: int = 0  # where the rise that is told or half seen began, to the quarter of an hour
    base: int = 0  # from which the rise that is told was counted; 0: none is
    rise: int = 0  # how far what was told lay above it, in RISE_UNIT rounded up
    worse: bool = False  # a further one was told
    calm: int = 0  # one more than weighings in a row showed no further rise; 0: the newest one told it, or none is
    back: bool = False  # whether the weighing before was near the base again

    @property
    def near(self) -> bool:
        """Whether it is near what the rise was counted from."""
        return self.value <= self.base + ENDS

    def take(self, t_s: int, quarters: int, weight: int) -> Change | None:
        """Take the next good reading, in tens of grams; return what changed. When that was told, ``go_on``."""
        day = local_day(t_s, quarters)
        if not self.middle or day > self.day:
            if self.middle:
                self._close(day - self.day)
            self.first_s, self.quarters = t_s, quarters
            self.middle, self.other, self.three = weight, 0, False
        elif self.readings < MOST_READINGS and self.is_repeat(t_s - self.first_s, weight):
            self.repeat(weight)
        else:
            return None  # the same one by another way; later on a day: what was eaten and drunk is no gain
        return self._ends() or self._rises()

    def go_on(self, change: Change) -> None:
        """Forget what is over with a change that was told; what was weighed stays."""
        if self.half:
            self.before[self.half - 1] = 0
        self.half = self.ago = 0
        if change == "cleared":
            self.since_s, self.base, self.rise, self.worse, self.calm, self.back = 0, 0, 0, False, 0, False

    def lowest(self) -> Low | None:
        """Return the lowest weight of the days before, of equal ones the latest; None where there is none."""
        known = [(weight, place + 1) for place, weight in enumerate(self._without_dip()) if weight]
        lows = [Low(weight, days + self.ago if days == self.half else days) for weight, days in known]
        return min(lows, key=lambda low: (low.weight, low.days), default=None)

    def _without_dip(self) -> list[int]:
        """Return the weights before, less one that lies implausibly far below both its neighbours: somebody else's."""
        known = [place for place, weight in enumerate(self.before) if weight]
        weights = list(self.before)
        if len(known) > 1:
            last, earlier = weights[known[0]], weights[known[1]]
            if min(earlier, self.value) - last > JUMP:
                weights[known[0]] = 0
        return weights

    def _close(self, days: int) -> None:
        """End the newest weighing's day, for one so many days later has come."""
        shown, weights = self._shown(), self._without_dip()
        if self.base:
            self.back = self.near
            if not self.calm or self._is_calm() is False:
                self.calm = 1
            elif self._is_calm():
                self.calm += 1
        if shown and not self.base:
            self.since_s = self.quarter_s
        self.half, self.ago = (days, shown.days) if shown else (self.half + days, self.ago) if self.half else (0, 0)
        if self.half > GAIN_DAYS:
            self.half = self.ago = 0
        if not self.base and not self.half:
            self.since_s = 0
        weights = [*[0] * min(days - 1, GAIN_DAYS), shown.weight if shown else self.value, *weights]
        self.before = weights[:GAIN_DAYS]

    def _shown(self) -> Low | None:
        """Return from what the newest weighing is a fast gain that was not told, None: it is none."""
        low = self.lowest()
        if low is None or self.value - low.weight <= GAIN or self.worse:
            return None
        further = low.weight > self.base + ENDS or self._is_above(GAIN)
        return low if further or not self.base else None

    def _is_above(self, by: int) -> bool:
        """Tell whether the newest weighing lies so much above what was told."""
        return self.rise < NO_TOP and self.value > self.base + self.rise * RISE_UNIT + by

    def _rises(self) -> Change | None:
        low = self._shown()
        if low is None or not (self.half or self.readings > 1 and self.least - low.weight > GAIN):
            return None
        self.worse = self.base > 0
        self.since_s, self.base = self.since_s or self.quarter_s, self.base or low.weight
        self.rise = min(-((self.base - self.value) // RISE_UNIT), NO_TOP)
        self.calm = 0
        return "worsened" if self.worse else "raised"

    def _ends(self) -> Change | None:
        if not self.base:
            return None
        return "cleared" if self.back and self.near or self.calm >= CALM and self._is_calm() else None

    def _is_calm(self) -> bool | None:
        """Tell whether the newest weighing shows no further rise, None: with nothing in the days before, who knows."""
        low = self.lowest()
        if self._is_above(ENDS) or low is not None and self.value - low.weight > GAIN:
            return False
        return None if low is None and self._is_above(0) else True
