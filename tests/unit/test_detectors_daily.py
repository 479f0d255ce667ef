"""The detector of daily values: what raises it, what ends it, what it learns; one behaviour however rows are grouped."""

from __future__ import annotations

import doctest

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import detectors.daily
from detectors.daily import Daily, DailySettings
from detectors.protocol import Bools, Doubles, State

USUAL = np.array([70.0, 8.7])  # /min, and the logarithm of 1 + steps
C = len(USUAL)


def days_of(rise: Doubles, seed: int = 0) -> Doubles:
    """(D, R, C) days of R people, the basal rate risen by ``rise`` (D, R)."""
    noise = np.random.default_rng(seed).normal(0, 1, (*rise.shape, C)) * np.array([2.0, 0.3])
    values: Doubles = USUAL + noise
    values[:, :, 0] += rise
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


def test_a_lasting_change_is_followed_slowly_and_a_week_of_it_hardly() -> None:
    rise = np.zeros((110, 20))
    rise[30:] = 5
    means = [float(np.median(run(Daily(), days_of(rise[:days]))[1]["mean"][:, 0])) for days in (30, 37, 110)]
    assert means[1] - means[0] < 1
    assert means[2] - means[0] > 3.5


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
