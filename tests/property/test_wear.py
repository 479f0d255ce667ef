"""Wear of many people is each one's own, and what anybody would count by hand."""

from __future__ import annotations

from itertools import groupby
from statistics import median

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.trends import SPAN, Daily
from detectors.wear import ENOUGH_HOURS, HALF, Wear, wear, wears

LAST = 40
day = st.tuples(st.booleans(), st.one_of(st.none(), st.integers(0, 24)))  # asked for, hours or nothing known
people = st.lists(st.lists(day, min_size=LAST + 3, max_size=LAST + 3), min_size=1, max_size=5)


def alone(days: list[tuple[bool, int | None]]) -> Wear:
    """By the function for one, of days before and after those that are looked at too."""
    known = {at: hours for at, (_, hours) in enumerate(days) if hours is not None}
    asked = [at for at, (asked, _) in enumerate(days) if asked]
    return wear(Daily.of(list(known), list(known.values())), np.array(asked, np.int64), LAST)


@settings(max_examples=60, deadline=None)
@given(people)
def test_of_many_is_said_what_is_said_of_each_and_what_a_hand_counts(
    found: list[list[tuple[bool, int | None]]],
) -> None:
    first = LAST - SPAN + 1
    looked = [days[first : LAST + 1] for days in found]
    hours = np.array([[hours or 0 for _, hours in days] for days in looked], float)
    asked = np.array([[asked for asked, _ in days] for days in looked])
    together = wears(hours, asked, LAST)
    for i, days in enumerate(found):
        said = together[i]
        assert said == alone(days)
        mine = [(at, hours[i, at]) for at in range(SPAN) if asked[i, at]]
        halves = [[h for at, h in mine if (at >= HALF) == late] for late in (False, True)]
        assert [said.hours_before, said.hours] == [median(half) if half else None for half in halves]
        assert (said.expected, said.expected_lately) == (len(mine), len(halves[1]))
        assert said.enough_lately == sum(h >= ENOUGH_HOURS for h in halves[1])
        gaps = [list(run) for lacks, run in groupby(mine, lambda one: one[1] < ENOUGH_HOURS) if lacks]
        longest: list[tuple[int, float]] = max(reversed(gaps), key=len, default=[])
        since = first + longest[0][0] if longest else None
        assert (said.longest_gap, said.gap_since) == (len(longest), since)
