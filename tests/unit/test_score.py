"""p-values: drawn from a reference to the person's own days, bounded, and taught nothing by what is suspected."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtrit

import detectors.score
from detectors.afresh import start_afresh
from detectors.baseline import NIGHT_BREATH, NIGHT_HEART, PAIRS
from detectors.pipeline import Pipeline
from detectors.protocol import HEART_RATE, VITALS, State
from detectors.score import BOUNDS, MOST_DAYS, REFERENCE, REFERENCE_DAYS, TAIL_DTYPE, count, p_value, student
from tests.unit.people import live, nights

Z = np.linspace(-9, 9, 181)


def tail(days: int, *beyond: int) -> State:
    own = np.zeros((), TAIL_DTYPE)
    own["days"], own["beyond"] = days, beyond
    return own


def p_of(own: State, n: int = 14) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return p_value(Z, np.full(len(Z), n), np.full(len(Z), own))


def test_the_docstrings_run() -> None:
    assert doctest.testmod(detectors.score).failed == 0


def test_at_the_bounds_it_is_the_share_of_own_and_reference_days() -> None:
    degrees = 18
    at = -stdtrit(degrees, BOUNDS / 2)
    n = np.full(len(BOUNDS), 14)
    assert student(at, n) == pytest.approx(BOUNDS)
    assert p_value(at, n) == pytest.approx(REFERENCE)
    for days in (40, MOST_DAYS):
        own = np.full(len(BOUNDS), tail(days, 1, 3, 10))
        wanted = (np.array([1, 3, 10]) + REFERENCE_DAYS * REFERENCE) / (days + REFERENCE_DAYS)
        assert p_value(at, n, own) == pytest.approx(wanted)


@given(st.integers(0, MOST_DAYS), st.lists(st.integers(0, MOST_DAYS), min_size=3, max_size=3), st.integers(0, 255))
@settings(deadline=None)
def test_further_out_is_never_less_unusual_and_no_count_makes_it_nonsense(days: int, beyond: list[int], n: int) -> None:
    own = tail(days, *sorted(min(one, days) for one in beyond))
    p = p_of(own, n)
    assert ((p > 0) & (p <= 1)).all()
    assert (np.diff(p[:91]) >= -1e-12).all()
    assert p == pytest.approx(p[::-1])
    assert np.isnan(p_value(np.array(np.nan), np.array(14), own))


def test_a_young_patient_alone_has_no_small_p_and_whose_nights_scatter_has_larger_ones() -> None:
    z = np.array(4.0)
    alone, calm, wild = (
        float(p_value(z, np.array(14), own)) for own in (tail(0, 0, 0, 0), tail(14, 0, 0, 0), tail(14, 1, 2, 4))
    )
    assert float(student(z, np.array(14))) < calm < alone < wild
    assert calm > alone * REFERENCE_DAYS / (REFERENCE_DAYS + 14) * 0.99  # a fortnight can't take off more


def test_counts_are_bounded_and_what_is_long_ago_counts_less() -> None:
    own = np.zeros(1, TAIL_DTYPE)
    for _ in range(100):
        count(own, np.array([0.0005]), np.array([True]))
    early = own.copy()
    for _ in range(2000):
        count(own, np.array([0.5]), np.array([True]))
        assert own["days"][0] <= MOST_DAYS
    assert early["beyond"].tolist() == [[100] * 3]
    assert own["beyond"].tolist() == [[0] * 3]


def test_what_is_suspected_teaches_no_p_and_an_ordinary_night_does() -> None:
    rise = np.zeros((40, 2))
    rise[20:, 1] = 12  # a rise that is told and stays
    pipeline = Pipeline()
    state = pipeline.new_state(2)
    live(pipeline, state, range(1, 21), rise[:20])
    before = state["tails"].copy()
    told = live(pipeline, state, range(21, 41), rise[20:])
    assert any(one.row == 1 and one.rule == "resting_heart_rate_rise" for each in told for one in each.findings)
    more = state["tails"]["days"].astype(int) - before["days"]
    assert more[0, NIGHT_HEART] > 10
    assert more[1].max() <= 2  # the first nights of it, before anything was suspected
    assert more[0, NIGHT_BREATH] == more[0, NIGHT_HEART]
    assert state["rise_tails"]["days"][0, 0] > 20
    assert len(before["days"][0]) == len(PAIRS)


def test_a_new_normal_forgets_the_counts_of_its_metric_alone() -> None:
    state = Pipeline().new_state(2)
    for tails in (state["tails"], state["rise_tail"]):
        tails["days"], tails["beyond"] = 9, 1
    start_afresh(state, np.array([1]), VITALS.index("respiratory_rate"))
    assert (state["tails"]["days"][1] == [0 if pair.metric == "respiratory_rate" else 9 for pair in PAIRS]).all()
    assert state["rise_tail"]["days"].tolist() == [9, 9]
    start_afresh(state, np.array([1]), HEART_RATE)
    assert state["rise_tail"]["days"].tolist() == [9, 0]
    assert state["tails"]["beyond"][1, NIGHT_HEART].tolist() == [0, 0, 0]
    assert (state["tails"]["days"][0] == 9).all()


def test_a_night_is_told_by_the_nights_before_it() -> None:
    pipeline = Pipeline()
    state = pipeline.new_state(1)
    said = nights(live(pipeline, state, range(1, 26), np.zeros((25, 1))))
    own = np.zeros(1, TAIL_DTYPE)
    for place in range(len(said.z)):
        z, n = said.z[place : place + 1], said.n_days[place : place + 1]
        assert said.p[place] == pytest.approx(float(p_value(z, n, own)[0]))
        count(own, student(z, n), n >= 5)
