"""Trends over weeks: exact small cases, what holds for any days, and how often chance alone is called a change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, kendalltau, theilslopes

from detectors import robust, trends
from detectors.baseline import BASELINE_DTYPE, learn
from detectors.courses import recovery
from detectors.robust import CONFIDENCE, Estimate, shift, slope
from detectors.trends import Change, Daily
from detectors.wear import wear

LAST = 97  # 14 weeks: day 0 to day 97
COMPARISONS: list[Callable[[Daily, int], Change]] = [
    trends.against_first_weeks, trends.against_four_weeks_before, trends.over_eight_weeks, trends.against_weekdays,
]  # fmt: skip
PEOPLE = 200


def person(seed: int, decline: float = 0.0, alike: float = 0.4) -> Daily:
    """Fourteen weeks about 60 with an SD of 2, days like their neighbours; the last eight fall by ``decline`` in all."""
    random = np.random.default_rng(seed)
    value, state = np.empty(LAST + 1), random.normal()
    for day in range(LAST + 1):
        value[day] = 60 + 2 * state
        state = alike * state + np.sqrt(1 - alike**2) * random.normal()
    return Daily.of(np.arange(LAST + 1), value - decline * np.clip(np.arange(LAST + 1) - 41, 0, None) / 56)


# ------------------------------------------------------------------ the estimators


def test_slope_and_shift_are_the_medians_of_their_pairs() -> None:
    assert slope(np.array([0.0, 1, 2, 4]), np.array([1.0, 3, 2, 9])).value == 2.0  # of 2, .5, 2, -1, 2, 3.5
    assert shift(np.arange(2.0), np.array([1.0, 2]), np.arange(2.0, 5), np.array([4.0, 5, 9])).value == 3.5


def test_without_likeness_the_interval_and_p_are_those_of_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robust, "_widening", lambda stretches: 1.0)
    random = np.random.default_rng(4)
    day = np.sort(random.choice(60, 40, replace=False)).astype(float)
    value = 0.05 * day + random.normal(0, 1, 40)
    ours, theirs = slope(day, value), theilslopes(value, day, alpha=CONFIDENCE)
    assert ours.value == pytest.approx(theirs.slope)
    pairs = np.sort(robust._slopes(day, value))
    for end, other in ((ours.low, theirs.low_slope), (ours.high, theirs.high_slope)):
        assert abs(int(np.searchsorted(pairs, end)) - int(np.searchsorted(pairs, other))) <= 1  # rounding of the rank
    assert ours.p == pytest.approx(kendalltau(day, value, method="asymptotic").pvalue)


def test_few_days_leave_an_interval_open_however_clear_they_look() -> None:
    said = shift(np.arange(2.0), np.zeros(2), np.arange(2.0, 4), np.full(2, 100.0))
    assert (said.low, said.high, said.sure) == (-np.inf, np.inf, False)
    assert said.value == 100


def test_days_like_their_neighbours_make_less_sure() -> None:
    random = np.random.default_rng(1)
    apart = random.normal(0, 1, 56)
    alike = np.convolve(np.append(apart, random.normal(0, 1, 5)), np.ones(6), "valid")
    day = np.arange(56.0)
    wide, narrow = (shift(day[:28], v[:28], day[28:], v[28:]) for v in (alike / alike.std(), apart / apart.std()))
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)


# ------------------------------------------------------------------ exact cases


def test_the_anchor_is_the_one_the_baseline_keeps() -> None:
    random = np.random.default_rng(7)
    value = random.normal(60, 3, 70).astype(np.float32)
    clean = random.random(70) < 0.7
    state = np.zeros(1, BASELINE_DTYPE)
    for day in np.flatnonzero(clean):
        learn(state, np.array([20_000 + day], "i4"), value[[day]], np.array([1], "f4"))
    said = trends.against_first_weeks(Daily.of(20_000 + np.arange(70), value, clean), 20_069)
    assert said.reference == pytest.approx(float(state["anchor"][0]), abs=0.0051)  # it keeps hundredths
    assert said.compared_days == 14


def test_a_step_is_told_with_its_size_its_day_and_its_normal() -> None:
    day = np.arange(LAST + 1)
    daily = Daily.of(day, np.where(day < 60, 60, 64) + day % 3)
    said = trends.against_first_weeks(daily, LAST)
    assert (said.state, said.reference, said.value, said.days, said.compared_days) == ("higher", 61, 65, 28, 14)
    assert said.change is not None
    assert said.change.value == 4
    assert said.since == 61  # with its week's 61, 62, 60, 61, 62, 64, 65 the first whose median has left the anchor
    before = trends.against_four_weeks_before(daily, LAST)
    assert (before.state, before.since, before.compared_days) == ("higher", LAST - 27, 28)


def test_since_when_goes_no_further_back_than_is_known() -> None:
    day = np.r_[np.arange(45), np.arange(60, LAST - 4)]
    daily = Daily.of(day, np.where(day < 40, 60, 64) + day % 3)
    said = trends.against_first_weeks(daily, LAST)
    assert (said.state, said.since) == ("higher", 62)  # the third day after the gap is the first that has a week
    assert trends.against_first_weeks(daily.within(0, LAST - 20), LAST).state == "unknown"


def test_no_day_is_on_both_sides() -> None:
    daily = Daily.of(np.arange(41), np.r_[np.full(14, 60.0), np.full(27, 70.0)] + np.arange(41) % 2)
    assert trends.against_first_weeks(daily, 40).state == "unknown"  # the 14th day is the first of the four weeks
    assert trends.against_first_weeks(daily, 41).state == "higher"


def test_too_few_days_are_unknown_and_counted() -> None:
    day = np.r_[np.arange(14), np.arange(LAST - 12, LAST + 1)]  # 13 of the last 28
    said = trends.against_first_weeks(Daily.of(day, 60 + 9.0 * (day > 50)), LAST)
    assert (said.state, said.days, said.days_needed, said.change, said.since) == ("unknown", 13, 14, None, None)
    for comparison in COMPARISONS:
        nothing = comparison(Daily.of([], []), LAST)
        assert (nothing.state, nothing.value, nothing.reference, nothing.days) == ("unknown", None, None, 0)


def test_an_open_interval_says_nothing_however_many_days_are_there() -> None:
    """28 days that follow each other so closely that they count as few: nothing says that nothing changed."""
    random = np.random.default_rng(3)
    open_ones = 0
    for _ in range(20):
        daily = Daily.of(np.arange(28) + LAST - 55 + 14 * (np.arange(28) >= 14), random.normal(0, 1, 28).cumsum())
        before, after = daily.take(slice(14)), daily.take(slice(14, None))
        said = trends.against_four_weeks_before(daily, LAST)
        if trends._shift(before, after).bounded:
            assert said.state != "unknown"
            continue
        open_ones += 1
        assert (said.days, said.compared_days, said.enough) == (14, 14, True)
        assert (said.state, said.change, said.since) == ("unknown", None, None)
    assert open_ones > 5


def test_a_day_with_two_values_is_refused() -> None:
    with pytest.raises(ValueError, match="day 3 has two values"):
        Daily.of([3, 2, 3], [1, 2, 3])


def test_a_habit_is_of_weekdays() -> None:
    day = np.arange(LAST + 1)
    habit = np.where(day % 7 < 2, 12_000.0, 6_000.0) + 50 * (day % 5)
    assert trends.against_weekdays(Daily.of(day, habit), LAST).state == "no_clear_change"
    walked = habit + 3_000 * (day > LAST - 7)
    said = trends.against_weekdays(Daily.of(day, walked), LAST)
    assert (said.state, said.since, said.days) == ("higher", LAST - 6, 7)
    assert said.reference == pytest.approx(habit[-7:].mean(), abs=100)
    assert trends.against_weekdays(Daily.of(day[:-3], walked[:-3]), LAST).state == "unknown"


def test_recovery_says_how_far_and_since_when() -> None:
    value = [60.0, 61, 59] * 7 + [66, 72, 69, 66, 65, 65, 65]
    daily = Daily.of(range(28), value, [True] * 21 + [False] * 7)
    part = recovery(daily, 21, 24, 27, floor=1.2)
    assert (part.state, part.usual, part.worst, part.now, part.since) == ("not_back", 60, 72, 65, None)
    assert part.share == pytest.approx(7 / 12)
    whole = recovery(Daily.of(range(33), [*value, 61, 60, 62, 60, 61], daily_clean(33, 21)), 21, 24, 32, floor=1.2)
    assert (whole.state, whole.since, whole.days) == ("back", 28, 5)
    fall = recovery(
        Daily.of(range(33), [120 - v for v in [*value, 61, 60, 62, 60, 61]], daily_clean(33, 21)), 21, 24, 32, 1.2
    )
    assert (fall.state, fall.worst, fall.share, fall.since) == ("back", 48, whole.share, 28)
    assert recovery(daily.take(slice(25)), 21, 24, 34, floor=1.2).state == "unknown"  # nothing lately
    assert recovery(daily.take(slice(17, None)), 21, 24, 27, floor=1.2).state == "unknown"  # no usual


def daily_clean(n: int, clean: int) -> NDArray[np.bool_]:
    return np.arange(n) < clean


def test_wear_counts_days_asked_for_and_sees_it_fall() -> None:
    asked = np.arange(28)
    steady = wear(Daily.of(asked, np.full(28, 20.0)), asked, 27)
    assert (steady.state, steady.enough, steady.expected, steady.longest_gap) == ("not_falling", 28, 28, 0)
    shorter = wear(Daily.of(asked, np.where(asked < 14, 22.0, 15)), asked, 27)
    assert (shorter.state, shorter.enough, shorter.hours, shorter.hours_before) == ("falling", 28, 15, 22)
    gone = wear(Daily.of(asked[:20], np.full(20, 20.0)), asked, 27)
    assert (gone.state, gone.enough, gone.longest_gap, gone.gap_since) == ("falling", 20, 8, 20)
    paused = wear(Daily.of(asked[:20], np.full(20, 20.0)), asked[:20], 27)  # the rest was not asked for
    assert (paused.state, paused.enough, paused.expected) == ("unknown", 20, 20)
    nothing = wear(Daily.of([], []), asked[:0], 27)
    assert (nothing.state, nothing.expected, nothing.hours) == ("unknown", 0, None)


# ------------------------------------------------------------------ whatever the days

levels = st.integers(400, 900)
nearly_all_days = st.lists(levels | levels | levels | st.none(), min_size=LAST + 1, max_size=LAST + 1).map(
    lambda found: {day: level for day, level in enumerate(found) if level is not None}
)
known_days = st.dictionaries(st.integers(0, LAST), levels, max_size=LAST + 1) | nearly_all_days
some_people = settings(max_examples=40, deadline=None)


@some_people
@given(known_days, st.integers(-300, 300), st.randoms(use_true_random=False))
def test_shifting_every_value_moves_the_levels_alone_and_order_is_nothing(
    found: dict[int, int], by: int, random: object
) -> None:
    day, value = list(found), np.array(list(found.values()), float)
    for comparison in COMPARISONS:
        said = comparison(Daily.of(day, value), LAST)
        moved = comparison(Daily.of(day[::-1], value[::-1] + by), LAST)
        for name in ("value", "reference"):
            assert (getattr(said, name) is None) == (getattr(moved, name) is None)
            assert getattr(said, name) is None or getattr(moved, name) - by == pytest.approx(getattr(said, name))
        rest = [replace(one, value=None, reference=None, change=None) for one in (moved, said)]
        assert rest[0] == rest[1]
        assert (moved.change is None) == (said.change is None)
        if moved.change is not None and said.change is not None:
            assert asdict(moved.change) == pytest.approx(asdict(said.change), nan_ok=True)


@some_people
@given(known_days, st.sets(st.integers(0, LAST)))
def test_too_few_days_stay_too_few_with_fewer_and_what_is_said_is_bounded(
    found: dict[int, int], gone: set[int]
) -> None:
    fewer = {day: value for day, value in found.items() if day not in gone}
    for comparison in COMPARISONS:
        whole = comparison(Daily.of(list(found), list(found.values())), LAST)
        part = comparison(Daily.of(list(fewer), list(fewer.values())), LAST)
        assert part.days <= whole.days
        assert whole.enough or not part.enough
        for said in (whole, part):
            assert (said.state == "unknown") == (said.change is None)
            assert said.change is None or (said.enough and said.change.bounded)


@some_people
@given(st.floats(0.01, 5), st.sets(st.integers(0, 55), min_size=2), st.sets(st.integers(0, 55)))
def test_missing_days_never_make_a_line_surer(rise: float, known: set[int], gone: set[int]) -> None:
    day = np.array(sorted(known), float)
    fewer = np.array(sorted(known - gone), float)
    whole = slope(day, rise * day)
    assert whole.value == pytest.approx(rise)
    if len(fewer) >= 2:
        part = slope(fewer, rise * fewer)
        assert part.p >= whole.p
        assert whole.sure or not part.sure


# ------------------------------------------------------------------ how often it is wrong, and how often right


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda one: one.__name__)
def test_chance_is_called_a_change_about_as_rarely_as_said(comparison: Callable[[Daily, int], Change]) -> None:
    called = sum(comparison(person(seed), LAST).state in ("higher", "lower") for seed in range(PEOPLE))
    assert called <= binom.ppf(0.999, PEOPLE, 2 * (1 - CONFIDENCE)), f"{called} of {PEOPLE}"


def test_a_slow_decline_of_eight_weeks_is_found_and_dated() -> None:
    found = {"first_weeks": 0, "four_weeks_before": 0, "eight_weeks": 0}
    since = []
    for seed in range(50):
        for comparison in COMPARISONS[:3]:
            said = comparison(person(seed, decline=8), LAST)
            found[said.kind] += said.state == "lower"
            if said.kind == "first_weeks" and said.since is not None:
                since.append(said.since)
    assert min(found.values()) >= 40, found
    assert 42 <= np.median(since) <= 70


def test_missing_nights_find_less_and_no_more_falsely() -> None:
    keep = [np.random.default_rng([seed, 1]).random(LAST + 1) < 0.7 for seed in range(PEOPLE)]
    counts = {}
    for decline in (0.0, 6.0):
        for name in ("whole", "part"):
            counts[decline, name] = sum(
                trends.over_eight_weeks(
                    person(seed, decline).take(keep[seed] if name == "part" else slice(None)), LAST
                ).state == "lower"
                for seed in range(PEOPLE)
            )  # fmt: skip
    assert counts[6.0, "part"] < counts[6.0, "whole"]
    assert counts[0.0, "part"] <= binom.ppf(0.999, PEOPLE, 1 - CONFIDENCE)


def test_sure_is_that_the_interval_leaves_nothing_out() -> None:
    assert Estimate(1, 0.1, 2, 0.001).sure
    assert Estimate(-1, -2, -0.1, 0.001).sure
    assert not Estimate(1, 0.0, 2, 0.01).sure
