"""Windows: a change that is expected is not told up to its size; anything else is told as ever, and as soon."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Final, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.afresh import start_afresh
from detectors.pipeline import Pipeline, take
from detectors.protocol import DAY_MS, HEART_RATE, Change, Finding, State
from detectors.windows import Window, Windows, timeline
from tests.unit.people import START_MS, hour_of

PEOPLE: Final = 4  # of each story, the same ones in every story
FROM, DAYS, LAST = 18, 28, 62  # the window's first day, after a fortnight and more was learned; how long it stands
HOURS: Final = (1, 2, 3, 4, 5, 9, 11, 14)  # of a day: what nobody judges need not be lived
BEGINS = START_MS + FROM * DAY_MS
RISE, HOUR, DRIFT = "resting_heart_rate_rise", "heart_rate_unusual_at_rest", "heart_rate_drift"
SHIFT = "heart_rate_shift"


class Story(NamedTuple):
    """How far a heart rate is from what was learned, from which day on; and the window, if it has any."""

    steps: tuple[tuple[int, float], ...]
    fall: float = 0
    rise: float = 0
    begins: int = FROM

    @property
    def windows(self) -> list[Window]:
        start = START_MS + self.begins * DAY_MS
        return [Window(start, start + DAYS * DAY_MS, self.fall, self.rise)] if self.fall or self.rise else []

    def away(self, day: int) -> float:
        return next((by for since, by in reversed(self.steps) if since <= day), 0.0)


RISEN, FAR, FALLEN = ((FROM, 7.0),), ((FROM, 16.0),), ((FROM, -9.0),)
ILL, ILL_AND_LOWER = ((FROM + 16, 9.0),), ((FROM, -8.0), (FROM + 16, 1.0))
STORIES: Final = {
    "risen": Story(RISEN), "risen as expected": Story(RISEN, rise=12), "far": Story(FAR),
    "further than expected": Story(FAR, rise=6), "fallen": Story(FALLEN), "fallen as expected": Story(FALLEN, fall=-12),
    "fallen further": Story(((FROM, -12.0),), fall=-6), "ill": Story(ILL), "ill against": Story(ILL, fall=-12),
    "ill and lower": Story(ILL_AND_LOWER), "ill and lower against": Story(ILL_AND_LOWER, fall=-12),
    "fell on": Story(((FROM, -9.0), (FROM + DAYS + 3, -20.0)), fall=-12),
    "expected too late": Story(((FROM, 9.0),), rise=12, begins=FROM + 5),
    "fallen a little": Story(((FROM, -6.0),)), "fallen a little as expected": Story(((FROM, -6.0),), fall=-12),
}  # fmt: skip


class Lived(NamedTuple):
    """What became of everybody: the findings, and the state on the last day."""

    findings: list[Finding]
    state: State

    def of(self, story: str, rule: str, change: Change | None = None) -> list[Finding]:
        return [f for f in self.findings if f.row in rows(story) and f.rule == rule and change in (None, f.change)]

    def first(self, story: str, rule: str) -> dict[int, int]:
        return {f.row - rows(story).start: f.at_ms for f in reversed(self.of(story, rule, "raised"))}


def rows(story: str) -> range:
    start = list(STORIES).index(story) * PEOPLE
    return range(start, start + PEOPLE)


def live(stories: list[Story], last: int) -> Lived:
    """Let the same few people live every story side by side."""
    pipeline, findings = Pipeline(), []
    state = pipeline.new_state(len(stories) * PEOPLE)
    own = {row: timeline(stories[row // PEOPLE].windows) for row in range(len(state)) if stories[row // PEOPLE].windows}
    windows, everybody = Windows(own), np.arange(len(state))
    for day in range(1, last):
        level = 60 + np.random.default_rng(day).normal(0, 1.5, PEOPLE)
        away = np.repeat([story.away(day) for story in stories], PEOPLE)
        for hour in HOURS:
            alike = hour_of(day * 24 + hour - 24, level)
            each = replace(take(alike, np.tile(np.arange(PEOPLE), len(stories))), rows=everybody)
            for values in (each.mean, each.low, each.high):
                values[:, :, HEART_RATE] += away[:, None]
            findings += pipeline.settle(state, each, opened=windows if own else None).findings
    return Lived(findings, state)


@pytest.fixture(scope="module")
def lived() -> Lived:
    return live(list(STORIES.values()), LAST)


def test_a_rise_that_is_expected_is_not_told_in_the_window_nor_after_it(lived: Lived) -> None:
    assert len(lived.first("risen", RISE)) == PEOPLE, "without a window everybody would be told of"
    assert [lived.of("risen as expected", rule) for rule in (RISE, HOUR)] == [[], []]
    assert all(f.at_ms > BEGINS + DAYS * DAY_MS for f in lived.of("risen as expected", DRIFT))
    mine = lived.state[list(rows("risen as expected"))]
    assert np.abs(mine["rise"]["mean"][:, 0] - 67).max() < 2, "it was learned meanwhile"
    assert not mine["before"].any(), "nothing is remembered of a window that is over"


def test_a_rise_beyond_the_size_is_told_as_soon_as_without_a_window(lived: Lived) -> None:
    for rule in (RISE, DRIFT):
        assert lived.first("further than expected", rule) == lived.first("far", rule)
    assert len(lived.first("far", RISE)) == PEOPLE


def test_a_fall_that_is_expected_is_no_drift_before_the_window_is_over_and_then_it_is(lived: Lived) -> None:
    over = BEGINS + DAYS * DAY_MS
    assert len(lived.first("fallen", DRIFT)) == PEOPLE
    assert any(at < over for at in lived.first("fallen", DRIFT).values())
    assert lived.first("fallen as expected", DRIFT), "nothing mutes what lies far from the first weeks"
    assert all(at > over for at in lived.first("fallen as expected", DRIFT).values())


def test_a_small_fall_is_asked_about_unless_it_is_expected(lived: Lived) -> None:
    assert len(lived.first("fallen a little", SHIFT)) == PEOPLE
    assert not lived.of("fallen a little as expected", SHIFT)
    assert not lived.of("fallen as expected", SHIFT)


def test_a_fall_beyond_the_size_is_a_drift(lived: Lived) -> None:
    assert len(lived.first("fallen further", DRIFT)) == PEOPLE


def test_a_fall_that_goes_on_is_told_although_the_first_one_was_expected(lived: Lived) -> None:
    assert {f.row for f in lived.of("fell on", DRIFT)} == set(rows("fell on"))
    assert {f.level for f in lived.of("fell on", DRIFT)} == {0, 1}


@pytest.mark.parametrize("story", ["ill", "ill and lower"])
def test_an_illness_against_the_stated_side_is_found_as_fast_as_without_a_window(lived: Lived, story: str) -> None:
    """Whether the medicine did anything or not."""
    ever, windowed = lived.first(story, RISE), lived.first(f"{story} against", RISE)
    assert len(windowed) == PEOPLE
    assert all(windowed[person] <= at_ms for person, at_ms in ever.items())


def test_an_alert_that_is_open_ends_by_good_nights_alone(lived: Lived) -> None:
    """It was told before the window: that the rise is expected now does not make it "back near usual"."""
    assert len(lived.first("expected too late", RISE)) == PEOPLE
    ends = [f for f in lived.of("expected too late", RISE, "cleared") if f.at_ms < BEGINS + 18 * DAY_MS]
    assert ends == []


def test_who_has_no_window_is_judged_to_the_last_bit_as_if_nobody_had() -> None:
    alone = live([Story(RISEN)], FROM + 2)
    beside = live([Story(RISEN), Story(RISEN, rise=12)], FROM + 2)
    assert alone.state.tobytes() == beside.state[:PEOPLE].tobytes()
    assert alone.findings == [f for f in beside.findings if f.row < PEOPLE]
    assert beside.state["before"][PEOPLE:].any(axis=(1, 2)).all()
    before = beside.state["before"].copy()
    start_afresh(beside.state, np.arange(2 * PEOPLE), HEART_RATE)
    assert np.array_equal(beside.state["before"], before), "a new normal buys no further room"


@pytest.mark.parametrize("next_hour", [11, 4 * 24 + 11])
def test_a_night_before_the_window_is_judged_without_it_whenever_the_next_hour_comes(next_hour: int) -> None:
    """The night that ends the day before the event; then data at once, or four days later within the window."""
    pipeline, level = Pipeline(), 60 + np.random.default_rng(1).normal(0, 1.5, PEOPLE)
    state = pipeline.new_state(PEOPLE)
    event = Window(BEGINS, BEGINS + DAYS * DAY_MS, 0, 12)
    opened = Windows({row: timeline([event]) for row in range(PEOPLE)})

    def settle(hour: int, by: float = 0) -> None:
        pipeline.settle(state, hour_of(hour, level + by), opened=opened)

    for day in range(1, FROM - 1):
        for hour in HOURS:
            settle((day - 1) * 24 + hour)
    for hour in HOURS[:6]:
        settle((FROM - 2) * 24 + hour, 9)
    settle((FROM - 2) * 24 + next_hour)
    assert (state["rise"]["sum"] > 1).all(), "a rise that nothing explained"


WINDOW = st.builds(
    lambda begins, lasts, fall, rise: Window(begins, begins + lasts, -fall, rise),
    st.integers(0, 60), st.integers(1, 40), st.floats(0, 20), st.floats(0, 20),
)  # fmt: skip


@given(st.lists(WINDOW, max_size=6), st.integers(0, 120), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_recording_makes_no_difference_and_sizes_are_never_added(
    windows: list[Window], at_ms: int, chance: Random
) -> None:
    assert timeline(windows) == timeline(chance.sample(windows, len(windows)))
    expected = Windows({3: timeline(windows), 5: []}).at(np.array([3, 4, 5]), np.full(3, at_ms))
    standing = [one for one in windows if one.from_ms <= at_ms < one.to_ms]
    assert expected.fall.tolist() == [min((one.fall for one in standing), default=0), 0, 0]
    assert expected.rise.tolist() == [max((one.rise for one in standing), default=0), 0, 0]
