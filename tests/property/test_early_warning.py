"""NEWS2 told or not told is the same however readings are cut, and whoever else is looked at with them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.early_occasions import Holds, Timelines
from detectors.early_points import MOST, in_steps
from detectors.early_warning import EarlyWarning
from detectors.protocol import Bools, Finding, Readings, Rows
from detectors.scores import news2
from detectors.scores.clinical import rounded
from detectors.scores.observations import PARAMETERS

PEOPLE, T0 = 3, 1_800_000_000
HOLDS: Timelines = {
    1: [(0, Holds(scale_2=True, home_oxygen=True)), ((T0 + 7200) * 1000, Holds(off=True))],
    2: [((T0 + 3600) * 1000, Holds(home_oxygen=False))],
}
FEW, MANY = 60, 400


def story(seed: int, n: int) -> Readings:
    """Readings around the boundaries of the chart, within some hours, of people some of whom are unwell for a while."""
    rng = np.random.default_rng(seed)
    row, metric = rng.integers(0, PEOPLE, n), rng.integers(0, len(PARAMETERS), n)
    minute = np.sort(rng.integers(0, rng.integers(60, 900), n))
    ill = (minute > rng.integers(0, 200)) & (minute < rng.integers(200, 900))
    usual = np.array([16, 97, 0, 120, 75, 0, 37.0])
    worse = np.array([23, 93, 1, 100, 115, 1, 38.6])
    spread = np.array([2, 1.5, 0, 8, 12, 0, 0.4])
    value = np.where(ill, worse[metric], usual[metric]) + rng.normal(0, 1, n) * spread[metric]
    order = np.lexsort((minute, row))
    t_ms = (T0 + 60 * minute.astype(np.int64)) * 1000
    return take(
        Readings(
            row.astype(np.intp), metric.astype(np.int16), t_ms, value.astype(np.float32),
            rng.random(n) < 0.95, rng.random(n) < 0.9,
        ),
        order,
    )  # fmt: skip


def take(readings: Readings, which: Any) -> Readings:
    return Readings(*(getattr(readings, field.name)[which] for field in fields(readings)))


def in_order(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda one: (one.row, one.at_ms))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), n=st.integers(FEW, MANY), cuts=st.lists(st.integers(0, 900), max_size=12))
def test_any_cut_gives_the_same_and_nobody_bears_on_another(seed: int, n: int, cuts: list[int]) -> None:
    early, given_ones = EarlyWarning(), story(seed, n)
    whole, parts = early.new_state(PEOPLE), early.new_state(PEOPLE)
    expected = in_order(early.advance(whole, given_ones, HOLDS))
    edges = [T0 * 1000, *((T0 + 60 * minute) * 1000 for minute in sorted(cuts)), 1 << 60]
    found = []
    for low, high in zip(edges, edges[1:], strict=False):
        inside = (given_ones.t_ms >= low) & (given_ones.t_ms < high)
        kept = parts.tobytes()  # a restart
        parts = np.frombuffer(bytearray(kept), early.dtype)
        found += early.advance(parts, take(given_ones, inside), HOLDS)
    assert in_order(found) == expected
    assert parts.tobytes() == whole.tobytes()
    for row in range(PEOPLE):
        alone = early.new_state(PEOPLE)
        only = early.advance(alone, take(given_ones, given_ones.row == row), HOLDS)
        assert only == [one for one in expected if one.row == row]
        assert alone[row].tobytes() == whole[row].tobytes()


class _EverybodyWalks(EarlyWarning):
    def _concerned(self, state: Any, readings: Any, rows: Rows, begins: Rows, holds: Timelines) -> Bools:
        return np.ones(len(rows), bool)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_who_is_passed_over_could_not_have_been_told(seed: int) -> None:
    given_ones = story(seed, MANY)
    states = [one.new_state(PEOPLE) for one in (EarlyWarning(), _EverybodyWalks())]
    for part in np.array_split(np.unique(given_ones.t_ms), 9):
        mine = take(given_ones, np.isin(given_ones.t_ms, part))
        found = [
            one.advance(state, mine, HOLDS)
            for one, state in zip((EarlyWarning(), _EverybodyWalks()), states, strict=True)
        ]
        assert found[0] == found[1]
        assert states[0].tobytes() == states[1].tobytes()


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, len(PARAMETERS) - 1),
    st.lists(st.floats(-100, 500, width=32) | st.integers(0, 800).map(lambda half: half / 20), min_size=1),
)
def test_values_are_in_the_steps_in_which_the_chart_rounds_them(parameter: int, values: list[float]) -> None:
    given_ones = np.array(values, np.float32)
    exact = rounded(given_ones.astype(np.float64), news2.TABLES[parameter].step)
    steps = in_steps(given_ones, np.full(len(values), parameter, np.int16))
    assert steps.tolist() == np.clip(exact, 0, MOST).tolist()


def test_the_stories_tell_something() -> None:
    """Else the two above would hold of nothing."""
    early = EarlyWarning()
    told = [one for seed in range(20) for one in early.advance(early.new_state(PEOPLE), story(seed, MANY), HOLDS)]
    assert {one.change for one in told} == {"raised", "worsened", "cleared"}
    assert {one.row for one in told} == set(range(PEOPLE))
