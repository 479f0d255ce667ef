"""The course of a day: what is unlike and what is not, what is unknown, and what a sickness must not teach."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from detectors.apart import LEAST_HOURS, coded
from detectors.novelty import DAYS, REFERENCE_DAYS
from detectors.shape import APART_DAYS, LEAST_DAYS, UNLIKE, Course, Shape

Rates = NDArray[np.float64]
FIRST = 20_000
AT = np.arange(24)  # hours from 10:00 on
ROW = np.array([0])


def day(seed: int, to_bed: int = 13, level: float = 0, swing: float = 15) -> Rates:
    """Asleep from 23:00 to 7:00, or from another hour on."""
    asleep = (AT - to_bed) % 24 < 8
    return np.asarray(70 + level - swing * asleep + np.random.default_rng(seed).normal(0, 3, 24))


def told(days: list[Rates], numbers: list[int] | None = None) -> list[Course]:
    shape = Shape()
    state = shape.new_state(1)
    at = numbers or list(range(len(days)))
    return [
        shape.advance(state, ROW, np.array([FIRST + n], np.int32), rate[None]) for n, rate in zip(at, days, strict=True)
    ]


def last(days: list[Rates], numbers: list[int] | None = None) -> Course:
    return told(days, numbers)[-1]


USUAL = [day(seed) for seed in range(40)]
WHOLE = [np.rint(one) for one in USUAL[:20]]
quickly = settings(deadline=None, max_examples=30)


@cache
def learned() -> NDArray[np.void]:
    """Return what is known after WHOLE."""
    shape = Shape()
    state = shape.new_state(1)
    for n, rate in enumerate(WHOLE):
        shape.advance(state, ROW, np.array([FIRST + n], np.int32), rate[None])
    return state


def next_day(rate: Rates) -> Course:
    return Shape().advance(learned().copy(), ROW, np.array([FIRST + 20], np.int32), rate[None])


@pytest.mark.parametrize("later", [7, -6])
def test_turned_nights_are_unlike_and_said_to_be_turned(later: int) -> None:
    said = last([*USUAL, day(99, 13 + later)])
    assert said.unlike[0]
    assert said.turned[0] == later
    assert last([*USUAL, day(99)]).p[0] > UNLIKE


def test_a_fast_heart_for_some_hours_of_the_night_is_unlike_and_not_turned() -> None:
    fast = day(99) + 25 * ((AT >= 15) & (AT < 19))
    said = last([*USUAL, fast])
    assert (said.unlike[0], said.turned[0]) == (True, 0)


@pytest.mark.parametrize("later", [-1, 1])
def test_summer_time_and_a_night_an_hour_later_are_no_other_course(later: int) -> None:
    moved = np.roll(day(99), later)
    assert not last([*USUAL, moved]).unlike[0]
    spring = np.where(AT == 16, np.nan, day(99))  # no 2:00 on that day
    assert not last([*USUAL, spring]).unlike[0]


@quickly
@given(st.integers(-20, 60), st.integers(0, 200))
def test_neither_the_level_nor_the_scale_of_a_day_changes_its_score(level: int, seed: int) -> None:
    rate = np.rint(day(seed))
    plain = next_day(rate)
    for other in (rate + level, 2 * (rate - 70) + 70 + level):
        said = next_day(other)
        assert said.distance[0] == pytest.approx(plain.distance[0], abs=1e-9)
        assert said.p[0] == plain.p[0]


@quickly
@given(st.integers(0, 19), st.integers(0, 20))
def test_a_day_that_was_there_before_lies_at_no_distance(which: int, level: int) -> None:
    said = next_day(WHOLE[which] + level)
    assert said.distance[0] == 0
    assert said.nearest[0] == FIRST + which
    assert not said.unlike[0]


@quickly
@given(arrays(bool, (12, 24)), arrays(bool, (12, 24)))
def test_more_unknown_hours_never_make_an_unknown_day_a_known_one(
    hidden: NDArray[np.bool_], more: NDArray[np.bool_]
) -> None:
    some = [np.where(gone, np.nan, rate) for gone, rate in zip(hidden & (AT % 3 == 0), USUAL, strict=False)]
    less = [np.where(gone, np.nan, rate) for gone, rate in zip(more, some, strict=True)]
    for before, after in zip(told(some), told(less), strict=True):
        assert after.hours[0] <= before.hours[0]
        assert after.days[0] <= before.days[0]
        assert np.isfinite(before.p[0]) or not np.isfinite(after.p[0])


def test_what_is_unknown_is_neither_unlike_nor_like() -> None:
    few = np.where(AT < LEAST_HOURS - 1, day(99, 3), np.nan)
    said = last([*USUAL, few])
    assert np.isnan(said.p[0])
    assert np.isnan(said.distance[0])
    assert (said.unlike[0], said.nearest[0], said.hours[0]) == (False, 0, LEAST_HOURS - 1)
    assert np.isnan(last([*USUAL[: LEAST_DAYS - 1], day(99, 3)]).p[0])
    assert np.isfinite(last([*USUAL[:LEAST_DAYS], day(99, 3)]).p[0])
    halves = [np.where((AT < 17) == (seed % 2 == 0), rate, np.nan) for seed, rate in enumerate(USUAL)]
    assert np.isnan(last([*halves, np.where(AT >= 7, day(99), np.nan)]).p[0])  # known hours, but other ones


def test_days_of_more_than_four_weeks_ago_are_forgotten() -> None:
    numbers = [*range(20), 20 + DAYS]
    assert last(USUAL[:21], numbers).days[0] == 0
    assert last(USUAL[:21], [*range(20), DAYS + 10]).days[0] == 10


def test_what_lasts_is_told_for_a_fortnight_and_then_is_one_of_the_weeks() -> None:
    said = told([*USUAL, *(day(seed, 4) for seed in range(100, 130))])[40:]
    unlike = [bool(one.unlike[0]) for one in said]
    assert all(unlike[:APART_DAYS])
    assert not any(unlike[APART_DAYS + 2 :])


def test_an_unlike_fortnight_does_not_make_the_next_one_less_so() -> None:
    week = [day(seed, 4) for seed in range(100, 107)]
    after = [day(seed) for seed in range(200, 210)]
    other = day(99) + 25 * ((AT >= 15) & (AT < 19))
    once, never = (
        last([*USUAL, *week, *after, other]),
        last([*USUAL, *(day(s) for s in range(300, 307)), *after, other]),
    )
    assert once.unlike[0]
    assert never.unlike[0]
    assert once.p[0] < 1.5 / REFERENCE_DAYS  # of the seven the first alone, on which nothing was suspected before


def test_a_single_day_of_nothing_but_one_value_is_no_error() -> None:
    flat = np.full(24, 70.0)
    assert np.isfinite(last([*USUAL, flat]).p[0])
    assert last([flat] * 20).distance[0] == 0


@quickly
@given(arrays(float, (1, 24), elements=st.one_of(st.floats(20, 250), st.just(np.nan))))
def test_a_day_is_kept_in_a_byte_an_hour(rate: Rates) -> None:
    found = coded(rate)
    assert ((found == -128) == np.isnan(rate)).all()
    assert (np.abs(found[~np.isnan(rate)]) <= 127).all()
