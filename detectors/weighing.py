"""The newest weighing of one person as its readings come: the first one of a local day, of three readings at the most.

Weights are whole tens of grams, as in ``weight_runs``; instants are seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from detectors.weights import SAME_S, WEIGHING_S

QUARTER_S: Final = 900  # of an hour: local clocks differ by whole ones
DAY_S: Final = 86_400


@dataclass(slots=True)
class Newest:
    """It and where its wearer was; all zeros: none yet.

    >>> newest = Newest(first_s=25_200, middle=8000)
    >>> newest.is_repeat(20, 8000), newest.is_repeat(20, 8030)
    (False, True)
    >>> newest.repeat(8030)
    >>> newest.value, newest.least, newest.readings
    (8015, 8000, 2)
    """

    first_s: int = 0  # the newest weighing's first reading, seconds since 1970
    quarters: int = 0  # local time minus UTC then, in quarters of an hour
    middle: int = 0  # of its readings; of two the lower one
    other: int = 0  # of two the higher one, of three the lowest; 0: there is one
    three: bool = False  # as many as are looked at

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

    @property
    def quarter_s(self) -> int:
        """The quarter of an hour in which it began."""
        return self.first_s // QUARTER_S * QUARTER_S

    def is_repeat(self, later_s: int, weight: int) -> bool:
        """Tell whether a reading is another one of the newest weighing, and not one of it by another way."""
        same = later_s <= SAME_S and weight in (self.middle, self.other)
        return 0 < later_s <= WEIGHING_S and not same

    def repeat(self, weight: int) -> None:
        """Take a further reading of it; there is room for one."""
        if not self.other:
            self.middle, self.other = sorted((self.middle, weight))
        else:
            self.other, self.middle, _ = sorted((self.middle, self.other, weight))
            self.three = True


def local_day(t_s: int, quarters: int) -> int:
    """Return the local day of an instant.

    >>> local_day(86_399, 0), local_day(86_399, 4)
    (0, 1)
    """
    return (t_s + quarters * QUARTER_S) // DAY_S
