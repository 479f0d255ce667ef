"""The detector of daily values: what raises it, what ends it, what it learns; one behaviour however rows are grouped."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import detectors.daily
from detectors.daily import LIMITS, Daily, DailySettings
from detectors.protocol import Bools, Doubles, State

USUAL = np.array([70.0, 78.0, 8.7])  # /min asleep and at rest by day, and the logarithm of 1 + steps
C = len(USUAL)


def days_of(rise: Doubles, seed: int = 0) -> Doubles:
    """(D, R, C) days of R people, both heart rates risen by ``rise`` (D, R)."""
    noise = np.random.default_rng(seed).normal(0, 1, (*rise.shape, C)) * np.array([2.0, 2.5, 0.3])
    values: Doubles = USUAL + noise
    values[:, :, :2] += rise[:, :, None]
    return values


def run(detector: Daily, values: Doubles, limit: float = 4.0, state: State | None = None) -> tuple[Bools, State]:
    """(D, R) whether an alert was active after each day."""
    n = values.shape[1]
    state = detector.new_state(n) if state is None else state
    rows = np.arange(n)
    said = [
        detector.advance(state, rows, np.full(n, day, np.int32), one, limit).active for day, one in enumerate(values)
    ]
    return np.array(said), state


def test_the_docstring_runs() -> None:
    assert doctest.testmod(detectors.daily).failed == 0


def test_a_rise_that_stays_is_raised_and_ends_and_a_quiet_person_is_left_alone() -> None:
    rise = np.zeros((60, 40))
    rise[30:37, :20] = 8
    active, _ = run(Daily(), days_of(rise))
    assert active[31:37, :20].any(axis=0).mean() > 0.9
    assert active[50:, :20].mean() < 0.2  # it ends
    assert active[30:37, 20:].mean() < 0.2


def test_who_wears_no_device_at_night_is_judged_by_the_day() -> None:
    rise = np.zeros((60, 40))
    rise[30:37, :20] = 8
    values = days_of(rise)
    values[:, :, 0] = np.nan
    active, _ = run(Daily(), values)
    assert active[31:37, :20].any(axis=0).mean() > 0.9
    assert active[30:37, 20:].mean() < 0.2


def test_two_heart_rates_that_go_together_are_not_two_witnesses() -> None:
    detector = Daily()
    _, state = run(detector, days_of(np.zeros((30, 1))))
    here, day = np.array([0]), np.array([30], np.int32)
    both, night, rest = (
        detector.advance(state.copy(), here, day, np.array([values]), 4.0)
        for values in ([74.0, 83.0, np.nan], [74.0, np.nan, np.nan], [np.nan, 83.0, np.nan])
    )
    z = both.z[0, :2]
    assert (night.heart[0], rest.heart[0]) == (z[0], z[1])
    assert both.heart[0] == pytest.approx(z.sum() / np.sqrt(3))  # of a correlation of 0.5: 2 + 2 x 0.5
    assert both.score[0] == pytest.approx(both.heart[0])


def test_a_lasting_change_is_followed_slowly_and_a_week_of_it_hardly() -> None:
    rise = np.zeros((110, 20))
    rise[30:] = 5
    means = [float(np.median(run(Daily(), days_of(rise[:days]))[1]["mean"][:, 0])) for days in (30, 37, 110)]
    assert means[1] - means[0] < 1
    assert means[2] - means[0] > 3.5


def followed(usual: Doubles, limit: float = LIMITS["0.1"], people: int = 20) -> tuple[Doubles, Bools]:
    """(D,) how far the slow mean of the median person is from a usual rate (D,) that moves, and (D, R) the alerts."""
    detector = Daily()
    values = days_of(np.repeat(usual[:, None], people, axis=1))
    state, away, active = detector.new_state(people), np.zeros(len(usual)), []
    for day, one in enumerate(values):
        said = detector.advance(state, np.arange(people), np.full(people, day, np.int32), one, limit)
        active.append(said.active)
        away[day] = float(np.median(state["mean"][:, 0])) - USUAL[0] - usual[day]
    return away, np.array(active)


def test_a_season_is_followed_and_hardly_told() -> None:
    day = np.arange(60 + 365)
    away, active = followed(np.cos(2 * np.pi * (day - 60) / 365))  # 2 /min from winter to summer
    assert np.abs(away[60:]).max() < 0.8
    begun = active[1:] & ~active[:-1]
    assert begun[60:].sum() / (20 * 365 / 7) < 0.02  # a patient-week


def test_training_is_followed_and_never_told() -> None:
    fall = np.concatenate([np.zeros(60), np.linspace(0, -7, 70), np.full(28, -7.0)])  # over ten weeks
    away, active = followed(fall)
    assert 0 < away[129] < 3.5
    assert 0 < away[-1] < 1.5
    assert not active[60:].any()


def test_a_rise_over_ten_weeks_is_told_to_all_and_followed_after_it() -> None:
    """Training that is given up and a heart that fails look alike: it is told as a slow deterioration, not forgotten."""
    away, active = followed(np.concatenate([np.zeros(60), np.linspace(0, 7, 70), np.full(28, 7.0)]))
    assert active[60:130].any(axis=0).all()
    assert -3.5 < away[129] < 0
    assert -1.5 < away[-1] < 0


def test_a_sickness_does_not_raise_the_threshold_it_is_judged_by() -> None:
    rise = np.zeros((44, 20))
    rise[30:] = 6
    detector = Daily()
    _, state = run(detector, days_of(rise[:30]))
    before = [float(np.sqrt(state["variance"][:, 0]).mean())]
    run(detector, days_of(rise)[30:], state=state)
    before.append(float(np.sqrt(state["variance"][:, 0]).mean()))
    assert before[1] < before[0] + 1  # /min, after a fortnight of 6 /min more


def test_the_guard_keeps_an_episode_out() -> None:
    rise = np.zeros((37, 20))
    rise[30:] = 8
    bias = [
        float(np.median(run(Daily(DailySettings(slow=slow, reach=2.5)), days_of(rise))[1]["mean"][:, 0])) - 70
        for slow in (0.1, 1.0)
    ]
    assert bias[0] < bias[1] < 2.0


def test_nothing_is_said_and_nothing_ends_without_data() -> None:
    rise = np.zeros((36, 1))
    rise[30:] = 10
    active, state = run(Daily(), days_of(rise))
    assert active[-1, 0]
    before = state.copy()
    again, state = run(Daily(), np.full((5, 1, C), np.nan), state=state)
    assert again.all()
    assert (state == before).all()


def test_a_reset_forgets() -> None:
    detector = Daily()
    _, state = run(detector, days_of(np.zeros((20, 3))))
    detector.reset(state, np.array([1]))
    assert state[1] == np.zeros((), detector.dtype)
    assert state[0] != np.zeros((), detector.dtype)


@given(st.integers(0, 1000), st.integers(1, 29))
@settings(max_examples=10, deadline=None)
def test_a_snapshot_goes_on_as_if_nothing_had_been(seed: int, cut: int) -> None:
    values = days_of(np.zeros((30, 3)), seed)
    values[np.random.default_rng(seed).random(values.shape) < 0.2] = np.nan
    detector = Daily()
    whole, end = run(detector, values)
    _, state = run(detector, values[:cut])
    restored = np.frombuffer(state.tobytes(), detector.dtype).copy()
    alone = [run(detector, values[:, [i]])[0][:, 0] for i in range(3)]
    assert np.array_equal(np.stack(alone, axis=1), whole)  # who stands beside changes nothing
    rest, restored = run(detector, values[cut:], state=restored)
    assert np.array_equal(rest, whole[cut:])
    assert np.array_equal(restored["mean"], end["mean"])
