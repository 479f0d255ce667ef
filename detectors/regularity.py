"""How alike a person's nights are: when the long rest of each day begins and ends, against the night before.

Source: the Sleep Regularity Index (Phillips 2017), the share of epochs found in the same state 24 hours apart, from
-100 (always the other) by 0 (half of them) to 100 (always the same). Deviations: sleep is the longest stretch of hours
without a walk from noon to noon, for few devices send sleep stages, and those not when somebody is up; an epoch is an
hour of the local clock; it is told night by night, each against the one before, so that weeks of it can be compared.
Interdaily stability and relative amplitude (Witting 1990, van Someren 1999) are not taken: made for movement by the
minute, they say of hourly steps how long the longest walk was, and that nobody walks at night.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.protocol import Bools, Longs
from detectors.trends import Daily

HOURS: Final = 24
WALKED_STEPS: Final = 100
"""An hour with fewer is rest: a way to the bathroom and back is no walk."""

LEAST_HOURS: Final = 20
"""Of a night's 24, as many must be known: whose device lies on a table at night shows no rest."""


def nightly(day: Longs, known: Bools, walked: Bools) -> Daily:
    """Return the index of each night of N local days, ascending; a night is from noon to noon and has its end's date.

    ``known`` (N, 24) whether the device was worn in an hour, ``walked`` (N, 24) whether there were ``WALKED_STEPS``. An
    hour that is not known ends a rest. Valid: for who sleeps at night; a night without the one before has no value.

    >>> usual = (np.arange(24) >= 7) & (np.arange(24) < 23)
    >>> late = (np.arange(24) >= 10) & (np.arange(24) < 23)  # up three hours later: of 24 hours 3 differ
    >>> found = nightly(np.arange(5), np.ones((5, 24), bool), np.array([usual, usual, late, late, late]))
    >>> found.day.tolist(), found.value.tolist()
    ([2, 3, 4], [75.0, 100.0, 100.0])
    """
    known, walked = (np.hstack([of[:-1, HOURS // 2 :], of[1:, : HOURS // 2]]) for of in (known, walked))
    whole = (np.diff(day) == 1) & (known.sum(axis=1) >= LEAST_HOURS)
    rest = np.zeros(known.shape, bool)
    for night, still in enumerate(known & ~walked):
        length, end = longest_run(still)
        rest[night, end - length : end] = True
    value = -100 + 200 * (rest[1:] == rest[:-1]).mean(axis=1)
    judged = whole[1:] & whole[:-1]
    return Daily.of(day[2:][judged], value[judged])


def longest_run(flags: Bools) -> tuple[int, int]:
    """Return the length of the longest run of true values, the last of several, and the index after it."""
    best, end, length = 0, 0, 0
    for i, flag in enumerate(flags.tolist()):
        length = length + 1 if flag else 0
        if length >= best and length:
            best, end = length, i + 1
    return best, end
