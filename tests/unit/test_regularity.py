"""Regularity of nights: exact small cases, what is not known, and how often it is wrong and right of made-up people."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detectors import trends
from detectors.regularity import nightly
from detectors.trends import Daily

ALL = 112
HOUR = np.arange(24)


def up(wake: float, sleep: float) -> NDArray[np.bool_]:
    return (wake <= HOUR) & (sleep > HOUR)


def whole(days: list[NDArray[np.bool_]]) -> Daily:
    return nightly(np.arange(len(days)), np.ones((len(days), 24), bool), np.array(days))


def person(seed: int, before: float, after: float) -> Daily:
    """Sixteen weeks of somebody who gets up at 7 and goes to bed at 23, give or take an SD of hours, another one for four.

    They walk in some of the hours in which they are up, and charge the device for one in the evening.
    """
    random = np.random.default_rng(seed)
    walks, walked, known = random.uniform(0.45, 0.9), np.zeros((ALL, 24), bool), np.ones((ALL, 24), bool)
    for day in range(ALL):
        sd = before if day < ALL - 28 else after
        wake, sleep = 7 + sd * random.normal(), 23 + sd * random.normal()
        walked[day] = up(wake - 0.5, sleep - 0.5) & (random.random(24) < walks)
        known[day, random.integers(18, 24)] = False
    return nightly(np.arange(ALL), known, walked)


def test_a_rest_is_the_longest_stretch_without_a_walk_and_is_held_against_the_night_before() -> None:
    nap = up(7, 23) & (HOUR != 14) & (HOUR != 15)
    found = whole([up(7, 23), up(7, 23), up(8, 22), nap, up(7, 23)])
    assert found.day.tolist() == [2, 3, 4]
    # To the third day it ends an hour later; the one after began an hour earlier and ends an hour earlier; then back.
    assert found.value.tolist() == pytest.approx([100 - 200 / 24, 100 - 400 / 24, 100 - 200 / 24])


def test_rest_in_the_other_half_of_the_day_is_all_the_other_way_round() -> None:
    assert whole([up(0, 0), up(0, 24), up(0, 0)]).value.tolist() == [-100.0]  # noon to midnight, then midnight to noon


def test_what_is_not_known_makes_no_night_and_no_neighbour() -> None:
    days = [up(7, 23)] * 8
    known = np.ones((8, 24), bool)
    known[3, 12:17] = False  # five hours of the night to day 4
    assert nightly(np.arange(8), known, np.array(days)).day.tolist() == [2, 3, 6, 7]
    known[3, 12] = True
    assert nightly(np.arange(8), known, np.array(days)).day.tolist() == [2, 3, 4, 5, 6, 7]
    gap = np.array([0, 1, 2, 4, 5, 6])
    assert nightly(gap, np.ones((6, 24), bool), np.array(days[:6])).day.tolist() == [2, 6]
    for n in range(3):
        assert (
            len(whole(days[:n]) if n else nightly(np.zeros(0, int), np.ones((0, 24), bool), np.ones((0, 24), bool)))
            == 0
        )


hours = st.lists(st.lists(st.sampled_from([0, 1, 2]), min_size=24, max_size=24), min_size=3, max_size=6)


@given(hours)
def test_it_lies_within_its_bounds_and_is_the_same_for_the_days_alone(found: list[list[int]]) -> None:
    code = np.array(found)
    known, walked, day = code > 0, code > 1, np.arange(len(code))
    before = known.copy(), walked.copy()
    said = nightly(day, known, walked)
    assert np.array_equal(known, before[0])
    assert np.array_equal(walked, before[1])
    assert ((said.value >= -100) & (said.value <= 100)).all()
    for last in range(3, len(code) + 1):  # a night looks at nothing but the three days it lies in
        part = nightly(day[last - 3 : last], known[last - 3 : last], walked[last - 3 : last])
        assert part.value.tolist() == said.within(last - 1, last - 1).value.tolist()


def test_chance_is_no_change_and_bedtimes_at_any_hour_are() -> None:
    comparison = trends.against_four_weeks_before
    as_ever = [comparison(person(seed, 1, 1), ALL - 1).state for seed in range(60)]
    assert as_ever.count("higher") + as_ever.count("lower") <= 3
    wild = [comparison(person(seed, 0.5, 2.5), ALL - 1).state for seed in range(60)]
    assert wild.count("lower") >= 15
    assert "higher" not in wild
