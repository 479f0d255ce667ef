"""A device that measures every few minutes knows nights too; one that measures every minute is judged as ever."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import coverage
from detectors.afresh import start_afresh
from detectors.baseline import LEARNED, NIGHT_HEART, REST_HEART, usual
from detectors.coverage import covered
from detectors.gate import GATE_DTYPE, USABLE, Gate
from detectors.minutes import live_minutes
from detectors.pipeline import Pipeline
from detectors.protocol import DATA_STATES, HEART_RATE, STEPS, HourSlice, State, blank_hour
from detectors.settled import Settled
from tests.unit.people import START_MS, hour_of, nights

PEOPLE = 2
MINUTES = np.arange(60)


def seldom(hour: HourSlice, kept: np.ndarray) -> HourSlice:
    """The same hour, of which only these minutes (60,) hold a heart rate and steps."""
    mean, good = hour.mean.copy(), hour.good.copy()
    for metric in (HEART_RATE, STEPS):
        mean[:, ~kept, metric], good[:, ~kept, metric] = np.nan, 0
    return replace(hour, mean=mean, good=good)


def lived(every: int, days: int, risen: int = 99) -> tuple[State, list[Settled]]:
    """So many days of people whose device measures every so many minutes; from day ``risen`` on 12 /min more."""
    pipeline = Pipeline()
    state, settled = pipeline.new_state(PEOPLE), []
    for number in range(10, days * 24 + 11):
        day = (number + 14) // 24
        level = 60 + np.random.default_rng([1, day]).normal(0, 1, PEOPLE) + 12 * (day > risen)
        settled.append(pipeline.settle(state, seldom(hour_of(number, level), MINUTES % every == 0)))
    return state, settled


@pytest.mark.parametrize("every", [6, 15])
def test_a_device_that_measures_every_few_minutes_learns_nights_and_finds_a_rise(every: int) -> None:
    state, settled = lived(every, 13, risen=9)
    assert (state["baselines"]["n"][:, [NIGHT_HEART, REST_HEART]] >= LEARNED).all()
    assert len(nights(settled)) == 13 * PEOPLE
    raised = {
        f.row for one in settled for f in one.findings if (f.rule, f.change) == ("resting_heart_rate_rise", "raised")
    }
    assert raised == set(range(PEOPLE))


def test_a_device_that_measures_every_20_minutes_knows_no_night_and_never_says_usual() -> None:
    state, settled = lived(20, 6)
    assert len(nights(settled)) == 0
    assert (state["baselines"]["n"][:, NIGHT_HEART] == 0).all()
    told = {DATA_STATES[code] for one in settled for code in one.hours.state[:, HEART_RATE].tolist()}
    assert told <= {"learning", "unknown"}


def test_few_readings_make_a_night_less_sure_and_enough_of_them_no_less() -> None:
    state = Pipeline().new_state(3)
    day = state["day"]
    day["n"][:, NIGHT_HEART], day["more"][:, 0] = [17, 18, 180], [153, 162, 0]
    assert coverage.enough(day)[:, NIGHT_HEART].tolist() == [False, True, True]
    assert coverage.noise(day)[1:, NIGHT_HEART] == pytest.approx([16 / 18 - 16 / 180, 0])
    expected = usual(state["baselines"])
    wider = expected.widened(coverage.noise(day)).day - expected.day
    assert (wider[:, NIGHT_HEART] > 0).tolist() == [True, True, False]


def test_an_evening_of_seldom_readings_is_no_night() -> None:
    pipeline = Pipeline()
    state = pipeline.new_state(PEOPLE)
    for number in range(10, 36):
        hour = seldom(hour_of(number, np.full(PEOPLE, 60.0)), (MINUTES % 10 == 0) & (22 <= number < 24))
        assert len(nights([pipeline.settle(state, hour)])) == 0
    assert (state["baselines"]["n"][:, NIGHT_HEART] == 0).all()


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 179), min_size=1), st.sets(st.integers(1, 179), max_size=5))
def test_a_reading_stands_for_at_most_ten_minutes_and_for_none_that_another_does(
    measured: set[int], cuts: set[int]
) -> None:
    kept = np.zeros(180, bool)
    kept[list(measured)] = True
    found = []
    state, opened = np.zeros(1, GATE_DTYPE), np.zeros(1, np.int32)
    for first, last in zip([0, *sorted(cuts | {60, 120})], [*sorted(cuts | {60, 120}), 180], strict=True):
        start = first // 60 * 60
        hour = blank_hour([0], [START_MS + start * 60_000], [0], first - start, last - start)
        inside = kept[start : start + 60]
        hour.mean[0, inside, HEART_RATE], hour.good[0, inside, HEART_RATE] = 60, 1
        hour.low[0, inside, HEART_RATE], hour.high[0, inside, HEART_RATE] = 59, 61
        begins, minutes = (hour.hour_ms // 3_600_000).astype(np.int32), live_minutes(hour)
        Gate.turn(state, begins - opened)
        opened = begins
        before = Gate.last(state, begins)[:, coverage.COVERED]
        code = Gate().judge(state, minutes)
        assert ((code[0, :, HEART_RATE] == USABLE) == inside[first - start : last - start]).all()
        found += coverage.more_minutes(before, minutes, code)[0, :, 0].tolist()
    more = np.array(found)
    assert (more[~kept] == 0).all()
    assert more.max() < coverage.STANDS
    at = np.flatnonzero(kept)
    assert (more[at[1:]] < np.diff(at)).all()  # so a device that measures every minute has none
    total = coverage.nights(START_MS // 60_000 + np.arange(180)[kept], "heart_rate")
    assert sum(total.values()) == int(more.sum()) + len(at)


def test_steps_are_no_more_than_received_until_there_is_a_habit_and_then_what_their_last_day_was() -> None:
    def steps(settled: list[Settled]) -> set[str]:
        return {DATA_STATES[code] for one in settled for code in one.hours.state[:, STEPS].tolist()}

    pipeline = Pipeline()
    state = pipeline.new_state(PEOPLE)

    def live(first: int, last: int, walks: bool = True) -> list[Settled]:
        settled = []
        for number in range(first, last):
            hour = hour_of(number, np.full(PEOPLE, 60.0))
            hour.mean[:, :, STEPS] *= walks
            settled.append(pipeline.settle(state, hour))
        return settled

    day = 24
    assert steps(live(10, 10 + (LEARNED + 1) * day)) == {"learning"}
    assert steps(live(10 + (LEARNED + 1) * day, 10 + 9 * day)) == {"normal"}
    live(10 + 9 * day, 10 + 10 * day, walks=False)
    assert steps(live(10 + 10 * day, 10 + 11 * day, walks=False)) == {"unusual"}
    assert steps(live(10 + 14 * day, 10 + 15 * day)) == {"learning"}  # nobody knows of the days between


def test_steps_without_a_heart_rate_are_never_said_to_be_usual() -> None:
    pipeline = Pipeline()
    state, told = pipeline.new_state(1), set()
    for number in range(10, 10 * 24):
        hour = blank_hour([0], [START_MS + number * 3_600_000], [0])
        hour.mean[:, :, STEPS], hour.good[:, :, STEPS] = 0, 1
        told |= set(pipeline.settle(state, hour).hours.state[:, STEPS].tolist())
    assert [DATA_STATES[code] for code in told] == ["learning"]


def test_a_new_normal_forgets_what_the_open_day_had_of_it() -> None:
    state = Pipeline().new_state(1)
    state["day"]["n"][:, NIGHT_HEART], state["day"]["more"][:, 0], state["day"]["devices"][:, NIGHT_HEART] = 20, 180, 1
    start_afresh(state, np.array([0]), HEART_RATE)
    assert covered(state["day"])[0, NIGHT_HEART] == 0
    assert state["day"]["devices"][0, NIGHT_HEART] == 0
