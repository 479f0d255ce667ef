"""What a person was doing in each minute, and what becomes of the minutes after a walk."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.adult_limits import ADULT_LIMITS
from detectors.baseline import ACTIVE_HEART, REST_HEART
from detectors.context import STILL_MINUTES, contexts
from detectors.limit_sets import alarm_range
from detectors.minutes import live_minutes
from detectors.pipeline import Pipeline
from detectors.protocol import (
    ACTIVE,
    ASLEEP,
    HEART_RATE,
    HOUR_MS,
    MINUTE_MS,
    RECOVERING,
    REST,
    STEPS,
    HourSlice,
    blank_hour,
)
from services.cli.evaluate_stream import process
from services.web import present
from simulators.series import series
from tests.unit.people import START_MS, fill, hour_of, live

NOON_MS = START_MS + 12 * HOUR_MS
UNKNOWN = float("nan")


def walked(steps: list[float], hour_ms: int = NOON_MS) -> HourSlice:
    """One person's hour: the steps of its minutes, unknown ones are not reported."""
    hour = blank_hour([0], [hour_ms], [0])
    hour.mean[0, : len(steps), STEPS] = steps
    hour.good[0, :, STEPS] = np.isfinite(hour.mean[0, :, STEPS])
    return hour


def told(hours: list[HourSlice], cuts: frozenset[int] = frozenset()) -> tuple[list[int], int]:
    """The contexts of whole hours, each handed in in pieces, and the last minute with steps."""
    last, found = np.zeros(1, np.int32), list[int]()
    edges = [0, *sorted(cuts), 60]
    for hour in hours:
        for first, end in zip(edges, edges[1:], strict=False):
            hour.first[:], hour.last[:] = first, end
            found += contexts(last, live_minutes(hour))[0].tolist()
    return found, int(last[0])


def by_hand(steps: list[float], hour_ms: int) -> list[int]:
    """The same, minute by minute, written down from what the page says."""
    found, since = [], 10_000
    for place, now in enumerate(steps):
        since = 0 if now > 0 else since + 1
        clock = (hour_ms // MINUTE_MS + place) % 1440
        still = ASLEEP if clock >= 22 * 60 or clock < 8 * 60 else REST
        found.append(ACTIVE if since == 0 else RECOVERING if since <= 10 else still)
    return found


def test_after_a_walk_come_ten_minutes_of_recovery_then_rest() -> None:
    found, _ = told([walked([0, 90, 90, 90, *[0] * 56])])
    assert found == [REST, *[ACTIVE] * 3, *[RECOVERING] * STILL_MINUTES, *[REST] * 46]


def test_recovery_goes_on_into_the_next_hour_and_whoever_lies_down_recovers_first() -> None:
    at_night = START_MS + 21 * HOUR_MS
    found, _ = told([walked([*[0] * 55, *[90] * 5], at_night), walked([0] * 60, at_night + HOUR_MS)])
    assert found[55:] == [*[ACTIVE] * 5, *[RECOVERING] * STILL_MINUTES, *[ASLEEP] * 50]


@pytest.mark.parametrize("unknown", [[UNKNOWN] * 60, [0.0] * 60])
def test_steps_that_are_not_known_count_as_none(unknown: list[float]) -> None:
    assert told([walked(unknown)])[0] == [REST] * 60
    assert told([walked([80, *unknown[1:]])])[0] == [ACTIVE, *[RECOVERING] * 10, *[REST] * 49]


@given(
    st.lists(st.sampled_from([0.0, 0.0, 0.0, UNKNOWN, 3.0, 110.0]), min_size=180, max_size=180),
    st.integers(0, 23),
    st.frozensets(st.integers(1, 59), max_size=8),
)
def test_however_it_is_cut_it_is_what_the_page_says(steps: list[float], begins: int, cuts: frozenset[int]) -> None:
    begin_ms = START_MS + begins * HOUR_MS
    hours = [walked(steps[h * 60 : h * 60 + 60], begin_ms + h * HOUR_MS) for h in range(3)]
    found = told(hours, cuts)
    assert found == told(hours)
    assert found[0] == by_hand(steps, begin_ms)


def test_what_is_measured_in_recovery_is_learned_with_activity_and_never_as_rest() -> None:
    hour = hour_of(14, np.full(1, 60.0))  # 14:00, nobody walks
    fill(hour, "heart_rate", np.where(np.arange(60) < 11, 120.0, 70.0)[None] + np.arange(60) % 2)
    hour.mean[0, 0, STEPS] = 100
    hour.last[:] = 59
    pipeline = Pipeline()
    state = pipeline.new_state(1)
    pipeline.settle(state, hour)
    open_hour = state["hour"][0]
    assert open_hour["context"].tolist() == [0, 48, 1, 10]
    assert (open_hour["n"][ACTIVE_HEART], open_hour["n"][REST_HEART]) == (11, 48)
    assert open_hour["sum"][REST_HEART] / open_hour["n"][REST_HEART] / 1000 < 71


def test_what_lies_beyond_a_limit_at_rest_is_learned_of_activity_and_of_recovery_from_it() -> None:
    high = alarm_range(ADULT_LIMITS).high[:, HEART_RATE]
    assert [float(high[context]) for context in (ASLEEP, REST, ACTIVE, RECOVERING)] == [130, 130, 190, 190]


def test_an_unusual_hour_at_rest_tells_how_many_minutes_were_left_out() -> None:
    pipeline = Pipeline()
    state = pipeline.new_state(1)
    live(pipeline, state, range(1, 13), np.zeros((12, 1)))
    found = []
    for number in range(12 * 24 + 14, 12 * 24 + 16):
        hour = hour_of(number, np.full(1, 60.0))
        hour.mean[:, :, STEPS] = 0
        hour.mean[:, 5:8, STEPS] = 100
        fill(hour, "heart_rate", np.full((1, 60), 120.0) + np.arange(60) % 3)
        found += [f for f in pipeline.settle(state, hour).findings if f.rule == "heart_rate_unusual_at_rest"]
    (one,) = found
    evidence = one.evidence
    assert (evidence["minutes"], evidence["active_minutes"], evidence["recovering_minutes"]) == (47, 3, 10)
    assert evidence["considered"]["activity"] == "ruled_out"
    shown = dict(present.evidence(evidence, "Europe/Berlin", datetime(2026, 11, 22, tzinfo=UTC)))
    assert shown["Minutes of activity, left out"] == "3"
    assert shown["Minutes after activity, left out"] == "10"


def test_hours_at_rest_are_two_in_a_row_across_the_wrap_of_their_number() -> None:
    number = 65_536 * 10  # hours since 1970: an afternoon of 2044
    first = number - 1 - START_MS // HOUR_MS
    assert (START_MS // HOUR_MS + first + 1) % 65_536 == 0
    pipeline = Pipeline()
    state = pipeline.new_state(1)
    days = (first - 14) // 24
    live(pipeline, state, range(days - 12, days), np.zeros((12, 1)))
    found = []
    for at in (first, first + 1):
        hour = hour_of(at, np.full(1, 60.0))
        hour.mean[:, :, STEPS] = 0
        fill(hour, "heart_rate", np.full((1, 60), 130.0) + np.arange(60) % 3)
        found += [f.change for f in pipeline.settle(state, hour).findings if f.rule == "heart_rate_unusual_at_rest"]
    assert found == ["raised"]


@pytest.mark.parametrize("steps", [49.0, UNKNOWN])
def test_recovery_delays_no_safety_limit(steps: float) -> None:
    """A heart that is fast from the end of a few steps on: all ten minutes that it must last are in recovery."""
    minute = NOON_MS + MINUTE_MS * np.arange(40)
    rate = np.where(np.arange(40) > 5, 150.0, 75.0)
    walk = np.where(np.arange(40) == 5, steps, 0.0)
    known = np.isfinite(walk)
    (heard,) = process([{"heart_rate": series(minute, rate), "steps": series(minute[known], walk[known])}], [0])
    (alert,) = [one for one in heard.alerts if one.rule == "tachycardia_at_rest"]
    assert alert.start_ms == minute[6]
    assert alert.found_ms == minute[16]
