"""Several vitals that differ a little, the way an illness moves them: found together, and told with each one's part."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detectors import wearer
from detectors.afresh import start_afresh
from detectors.baseline import NIGHT_HEART, PAIRS
from detectors.explain import patient_sentence, sentence
from detectors.pipeline import PIPELINE_DTYPE, Pipeline
from detectors.protocol import State
from detectors.rules import NIGHT_TOGETHER, SHARE
from detectors.together import ASLEEP, CORRELATION, ILL, LIMIT, TOGETHER_DTYPE, Together, judge
from tests.unit.people import METRICS
from tests.unit.test_detectors_wearer import OWN_DAYS, PEOPLE, nights


def night(state: State, day: int, away: NDArray[np.float64] | list[float]) -> Together:
    """One night of each row, so many spreads away the way an illness moves each vital; NaN: unknown."""
    z = np.full((len(state), len(PAIRS)), np.nan)
    z[:, ASLEEP] = ILL * np.asarray(away)
    state["open_day"] = day
    return judge(state, z, np.isfinite(z))


def test_small_changes_of_several_vitals_are_told_where_none_alone_is() -> None:
    pipeline = Pipeline()
    state = pipeline.new_state(PEOPLE)
    found, _ = nights(pipeline, state, range(1, OWN_DAYS))
    ill = {"heart_rate": 2.5, "skin_temperature": 0.7, "breath": 1.1, "hrv_rmssd": -9}
    more, learned = nights(pipeline, state, range(OWN_DAYS, OWN_DAYS + 6), **ill)
    assert {one.rule for one in found} == set()
    told = [one for one in more if one.rule == NIGHT_TOGETHER.id]
    assert sorted(one.row for one in told) == list(range(PEOPLE))
    first = told[0]
    vitals = {one["metric"]: one for one in first.evidence["vitals"]}
    assert {"heart_rate", "skin_temperature", "respiratory_rate", "hrv_rmssd"} >= set(vitals) >= {"hrv_rmssd"}
    assert sum(one["part"] for one in vitals.values()) <= first.evidence["score"] + 0.5
    assert vitals["hrv_rmssd"]["z"] < 0 < vitals["hrv_rmssd"]["part"]
    assert first.start_ms < first.at_ms
    assert not learned[-10:].any()  # it teaches no baseline
    start_afresh(state, np.arange(PEOPLE), METRICS["skin_temperature"])
    assert (state["together"]["active"] == 1).all()  # filed under the heart rate
    start_afresh(state, np.arange(PEOPLE), METRICS["heart_rate"])
    assert (state["together"] == np.zeros((), TOGETHER_DTYPE)).all()


def test_the_projection_is_the_most_powerful_against_an_illness() -> None:
    state = np.zeros(1, PIPELINE_DTYPE)
    parts = night(state, 1, [0.5] * 5).parts[0]
    inverse = np.linalg.inv(CORRELATION)
    assert parts.sum() == pytest.approx(0.5 * np.sqrt(ILL @ inverse @ ILL))
    assert np.linalg.eigvalsh(CORRELATION).min() > 0


def test_its_spread_is_one_in_ordinary_nights_whatever_is_known() -> None:
    rng = np.random.default_rng(3)
    ordinary = rng.multivariate_normal(np.zeros(5), CORRELATION, 20_000) * ILL
    for unknown in ([], [1], [2], [3, 4], [1, 2]):
        away = ordinary.copy()
        away[:, unknown] = np.nan
        score = night(np.zeros(len(away), PIPELINE_DTYPE), 1, away).parts.sum(1)
        assert score.std() == pytest.approx(1, abs=0.03)
        assert score.mean() == pytest.approx(0, abs=0.03)


def ordinary_nights(people: int, number: int) -> Iterator[NDArray[np.float64]]:
    """Nights (R, V) of spread 1, tails of t with 5 degrees of freedom, 0.4 of the night before, and ``CORRELATION``."""
    rng, memory = np.random.default_rng(11), 0.4
    night = np.zeros((people, len(ASLEEP)))
    for _ in range(number):
        tails = np.sqrt(3 / rng.chisquare(5, (people, 1)))
        new = rng.multivariate_normal(np.zeros(len(ASLEEP)), CORRELATION, people) * tails
        night = memory * night + np.sqrt(1 - memory**2) * new
        yield night


def test_ordinary_nights_with_heavy_tails_are_seldom_told() -> None:
    people, weeks = 600, 30
    state = np.zeros(people, PIPELINE_DTYPE)
    told = asked = 0
    for day, away in enumerate(ordinary_nights(people, 7 * weeks), start=1):
        z = np.full((people, len(PAIRS)), np.nan)
        z[:, ASLEEP] = away
        state["open_day"] = day
        told += int(judge(state, z, np.isfinite(z)).raised.sum())
        asked += int(wearer.judge(state, z, np.isfinite(z)).raised.sum())
    assert 0 < told / (people * weeks) < SHARE
    assert 0 < asked / (people * weeks) < 0.005


@pytest.mark.parametrize("unknown", [[0], [1, 2, 3], [2, 3, 4], [0, 1, 2, 3, 4]])
def test_too_little_known_changes_nothing(unknown: list[int]) -> None:
    state = np.zeros(1, PIPELINE_DTYPE)
    for day in range(1, 5):
        night(state, day, [2.0] * 5)
    before = state["together"].copy()
    away = np.full(5, 4.0)
    away[unknown] = np.nan
    assert not night(state, 5, away).cleared.any()
    assert (state["together"] == before).all()


@given(st.lists(st.lists(st.floats(-9, 9), min_size=5, max_size=5), min_size=1, max_size=30))
def test_an_episode_begins_and_ends_by_nights_and_its_state_stays_bounded(courses: list[list[float]]) -> None:
    state, active = np.zeros(1, PIPELINE_DTYPE), False
    for day, away in enumerate(courses, start=1):
        said = night(state, day, away)
        assert bool(said.raised[0]) <= (not active)
        assert bool(said.cleared[0]) <= active
        if said.raised[0]:
            assert said.parts.sum() >= 1
        active = (active or bool(said.raised[0])) and not said.cleared[0]
        assert bool(state["together"]["active"][0]) == active
        assert 0 <= state["together"]["sum"][0] <= LIMIT + 2


def test_one_vital_alone_is_left_to_its_own_rule() -> None:
    state = np.zeros(1, PIPELINE_DTYPE)
    for day in range(1, 8):
        assert not night(state, day, [3.5, 0, 0, -1, -1]).raised.any()
    assert NIGHT_HEART in ASLEEP


def test_the_sentence_names_each_vital_with_its_usual() -> None:
    vitals = [
        {"metric": "heart_rate", "value": 62.4, "usual": 60.1, "n_days": 14, "z": 1.1, "part": 0.6},
        {"metric": "respiratory_rate", "value": 15.1, "usual": 14.2, "n_days": 14, "z": 1.2, "part": 0.7},
        {"metric": "hrv_rmssd", "value": 34.2, "usual": 42.0, "n_days": 14, "z": -1.0, "part": 0.5},
    ]
    evidence = {"metric": "heart_rate", "day": 20_779, "change": "raised", "vitals": vitals}
    assert sentence(NIGHT_TOGETHER.id, evidence) == (
        "Vitals of the night to 22 Nov and before are unusual together: resting heart rate 62 /min (usual 60), "
        "respiratory rate while asleep 15.1 /min (usual 14.2) and heart rate variability while asleep 34 ms (usual 42)"
    )
    assert "your resting heart rate 62 /min" in patient_sentence(NIGHT_TOGETHER.id, {**evidence, "change": "cleared"})
