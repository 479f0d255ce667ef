"""Small shifts that stay: asked about, not learned away, ended by nights as before or by "new normal"."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from detectors.afresh import start_afresh
from detectors.baseline import NIGHT_BREATH, NIGHT_HEART, NIGHT_SPO2
from detectors.explain import patient_sentence, sentence
from detectors.pipeline import Pipeline
from detectors.protocol import VITALS, Finding
from detectors.rules import SHIFTS
from detectors.shift import ROOM, WATCHED
from tests.unit.people import local_day, nightly_rates

MANY, BEGINS = 20, 40
VITAL = {  # baseline → a usual night, how nights differ, a small shift to the side that is watched
    NIGHT_HEART: (60.0, 2.5, -6.0),
    NIGHT_SPO2: (96.0, 0.6, -1.4),
    NIGHT_BREATH: (15.0, 0.6, 1.5),
}
EACH = pytest.mark.parametrize("place", range(len(WATCHED)), ids=[rule.metric for rule in SHIFTS])


def nights(pair: int, n: int, seed: int = 3) -> NDArray[np.float64]:
    usual, sd, _ = VITAL[pair]
    return np.random.default_rng(seed).normal(usual, sd, (n, MANY))


def rows(found: list[Finding], rule: str, change: str = "raised") -> set[int]:
    return {one.row for one in found if one.rule == rule and one.change == change}


@EACH
def test_a_small_shift_that_stays_is_asked_about_within_weeks_and_the_other_side_is_not(place: int) -> None:
    pair, rule = WATCHED[place].pair, SHIFTS[place].id
    values = nights(pair, 75)
    assert len(rows(nightly_rates(values, pair=pair), rule)) <= 1
    away = values.copy()
    away[BEGINS:] += VITAL[pair][2]
    told = [one for one in nightly_rates(away, pair=pair) if one.rule == rule and one.change == "raised"]
    first = [one.evidence["day"] - local_day(1) for one in told]
    assert len({one.row for one in told}) >= 0.9 * MANY
    assert min(first) >= BEGINS + 5, "no shift is told in fewer than six nights"
    assert np.median(first) < BEGINS + 14
    away[BEGINS:] -= 2 * VITAL[pair][2]
    assert len(rows(nightly_rates(away, pair=pair), rule)) <= 1


@EACH
def test_what_is_told_says_what_it_was_compared_with_and_asks_the_team_alone(place: int) -> None:
    pair, rule = WATCHED[place].pair, SHIFTS[place].id
    values = nights(pair, 75)
    values[BEGINS:] += VITAL[pair][2]
    one = next(f for f in nightly_rates(values, pair=pair) if f.rule == rule and f.change == "raised")
    told = one.evidence
    assert told["difference"] == pytest.approx(told["value"] - told["usual"], abs=2e-4)
    assert told["sum"] > told["sum_limit"] == WATCHED[place].limit
    assert BEGINS - 14 <= told["since_day"] - local_day(1) < told["day"] - local_day(1)
    assert told["side"] == ("higher" if WATCHED[place].side > 0 else "lower")
    team, patient = sentence(rule, told), patient_sentence(rule, told)
    assert f"has been {told['side']} since" in team
    assert team.endswith("Is this a new normal?")
    assert "normal" not in patient
    assert "your usual" in patient
    assert "considered" in told


@pytest.mark.parametrize("place", [1, 2], ids=["spo2", "respiratory_rate"])
def test_what_is_never_learned_unasked_is_not_learned_until_it_is_the_new_normal(place: int) -> None:
    pair, rule = WATCHED[place].pair, SHIFTS[place].id
    usual, sd, away = VITAL[pair]
    values = nights(pair, 160)
    values[BEGINS:] += away
    state = Pipeline().new_state(MANY)
    found = nightly_rates(values[:120], state, pair=pair)
    asked = sorted(rows(found, rule) - rows(found, rule, "cleared"))
    assert len(asked) >= 0.8 * MANY, "the question stays open"
    of_mean, of_median = (
        np.abs(one[asked] - usual)
        for one in (state["shift"]["mean"][:, place - 1], state["baselines"]["median"][:, pair])
    )
    assert of_mean.max() < 0.4 * abs(away)
    assert of_median.max() < 0.75 * abs(away)
    start_afresh(state, np.arange(MANY), VITALS.index(SHIFTS[place].metric))
    assert not state["shift"]["active"].any()
    assert not state["shift"]["sum"].any()
    later = nightly_rates(values[120:], state, 121, pair)
    assert not rows(later, rule)
    assert np.abs(state["shift"]["mean"][:, place - 1] - usual - away).max() < 2 * sd


@EACH
def test_a_week_of_it_that_passes_ends_what_was_told_and_leaves_little_behind(place: int) -> None:
    pair, rule = WATCHED[place].pair, SHIFTS[place].id
    _, _, away = VITAL[pair]
    values = nights(pair, 80)
    passing = values.copy()
    passing[BEGINS : BEGINS + 7] += away
    left, state = Pipeline().new_state(MANY), Pipeline().new_state(MANY)
    nightly_rates(values, left, pair=pair)
    found = nightly_rates(passing, state, pair=pair)
    assert rows(found, rule, "cleared") == rows(found, rule)
    means = [one["rise"]["mean"][:, 0] if place == 0 else one["shift"]["mean"][:, place - 1] for one in (state, left)]
    assert np.abs(means[0] - means[1]).mean() < 0.12 * abs(away)


def test_a_heart_rate_that_stays_lower_is_followed_and_its_alert_ends_by_itself() -> None:
    values = nights(NIGHT_HEART, 200)
    values[BEGINS:] -= 6
    found = nightly_rates(values)
    assert rows(found, SHIFTS[0].id, "cleared") == rows(found, SHIFTS[0].id)


def test_a_yearly_swing_is_no_shift() -> None:
    days = np.arange(400)
    swing = np.sin(2 * np.pi * days / 365)[:, None]
    for place, size in enumerate((2, 0.4, 0.5)):
        values = nights(WATCHED[place].pair, 400) + size * swing
        told = [f for f in nightly_rates(values, pair=WATCHED[place].pair) if f.rule == SHIFTS[place].id]
        assert len([f for f in told if f.change == "raised"]) <= 0.01 * MANY * 400 / 7


def test_breath_that_is_told_to_be_fast_is_not_asked_about_beside_it() -> None:
    values = nights(NIGHT_BREATH, 60)
    values[BEGINS:] += 5
    found = nightly_rates(values, pair=NIGHT_BREATH)
    assert len(rows(found, "night_respiratory_rate_rise")) == MANY
    assert not rows(found, "respiratory_rate_shift")


NIGHTLY = arrays(np.float64, (45, 3), elements=st.floats(30, 110) | st.just(np.nan))


@settings(max_examples=30, deadline=None)
@given(NIGHTLY, st.sampled_from([one.pair for one in WATCHED]), st.integers(0, 2))
def test_whatever_comes_an_alert_is_raised_once_ended_once_and_nobody_changes_another(
    values: NDArray[np.float64], pair: int, row: int
) -> None:
    usual, sd, _ = VITAL[pair]
    values = usual + (values - 60) * sd / 5
    together, alone = Pipeline().new_state(3), Pipeline().new_state(1)
    found = nightly_rates(values, together, pair=pair)
    single = nightly_rates(values[:, row : row + 1], alone, pair=pair)
    assert together["shift"][row].tobytes() == alone["shift"][0].tobytes()
    ids = {rule.id for rule in SHIFTS}
    mine = [(one.rule, one.change, one.start_ms) for one in found if one.row == row and one.rule in ids]
    assert mine == [(one.rule, one.change, one.start_ms) for one in single if one.rule in ids]
    assert [change for _, change, _ in mine] == ["raised", "cleared"] * (len(mine) // 2) + ["raised"] * (len(mine) % 2)
    assert (together["shift"]["sum"] <= [1000 * (one.limit + ROOM) for one in WATCHED]).all()


def test_an_unknown_night_changes_nothing() -> None:
    values = nights(NIGHT_SPO2, 50)
    values[44:] -= 1.4
    state = Pipeline().new_state(MANY)
    nightly_rates(values, state, pair=NIGHT_SPO2)
    before = state["shift"].copy()
    assert nightly_rates(np.full((9, MANY), np.nan), state, 51, NIGHT_SPO2) == []
    assert (state["shift"] == before).all()
