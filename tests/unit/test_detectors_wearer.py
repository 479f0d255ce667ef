"""Whether somebody else wears the device: asked of what no illness does, and it takes nothing away from anybody."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detectors.afresh import start_afresh
from detectors.baseline import NIGHT_BREATH, NIGHT_HEART, NIGHT_HRV, NIGHT_SKIN, NIGHT_SPO2, PAIRS
from detectors.explain import patient_sentence, sentence
from detectors.pipeline import PIPELINE_DTYPE, Pipeline
from detectors.protocol import HOUR_MS, STEPS, Finding, State, blank_hour
from detectors.rules import NIGHT_SKIN_RISE, RESTING_HEART, WEARER_IN_DOUBT
from detectors.together import ASLEEP, ILL
from detectors.wearer import DROPPED, judge
from services.processor.technical import ALL_RULES
from tests.unit.people import METRICS, START_MS, daily, fill, hour_of, local_day

PEOPLE, OWN_DAYS = 2, 11


def nights(pipeline: Pipeline, state: State, days: range, **away: float) -> tuple[list[Finding], NDArray[np.bool_]]:
    """Settle days of people whose nights lie so far ``away``, by metric; return the findings and what was learned."""
    found: list[Finding] = []
    learned = []
    for day in days:
        rng = np.random.default_rng([day, 3])
        level = 60.0 + rng.normal(0, 1.2, PEOPLE) + away.get("heart_rate", 0)
        for h in range(24):
            hour = hour_of(day * 24 - 14 + h, level, 1)
            warm = 34 + 0.1 * rng.normal(0, 1, (PEOPLE, 60)) + away.get("skin_temperature", 0)
            fill(hour, "skin_temperature", warm)
            fill(hour, "hrv_rmssd", 45 + rng.normal(0, 2, (PEOPLE, 60)) + away.get("hrv_rmssd", 0))
            breath = hour.mean[:, :, METRICS["respiratory_rate"]].astype(np.float64) + away.get("breath", 0)
            fill(hour, "respiratory_rate", breath)
            settled = pipeline.settle(state, hour)
            found += settled.findings
            learned.append(daily([settled]).used_for_baseline)
    return found, np.concatenate(learned)


@pytest.fixture(scope="module")
def own_nights() -> State:
    pipeline = Pipeline()
    state = pipeline.new_state(PEOPLE)
    found, _ = nights(pipeline, state, range(1, OWN_DAYS))
    assert asked(found) == []
    return state


@pytest.fixture
def known(own_nights: State) -> tuple[Pipeline, State]:
    return Pipeline(), own_nights.copy()


def asked(found: list[Finding], change: str = "raised") -> list[Finding]:
    return [one for one in found if (one.rule, one.change) == (WEARER_IN_DOUBT.id, change)]


def test_a_stranger_is_asked_about_and_their_nights_teach_nothing(known: tuple[Pipeline, State]) -> None:
    pipeline, state = known
    found, _ = nights(pipeline, state, range(OWN_DAYS, OWN_DAYS + 5), heart_rate=-9, skin_temperature=2)
    assert sorted(one.row for one in asked(found)) == list(range(PEOPLE))
    first = asked(found)[0]
    assert {vital["metric"] for vital in first.evidence["vitals"]} >= {"heart_rate", "skin_temperature"}
    assert first.start_ms < first.at_ms
    before = state["baselines"]["median"].copy()
    _, learned = nights(pipeline, state, range(OWN_DAYS + 5, OWN_DAYS + 9), heart_rate=-9, skin_temperature=2)
    assert not learned.any()
    assert np.array_equal(state["baselines"]["median"], before)


def test_it_ends_with_a_few_own_nights_and_not_without_data(known: tuple[Pipeline, State]) -> None:
    pipeline, state = known
    nights(pipeline, state, range(OWN_DAYS, OWN_DAYS + 6), heart_rate=-9, skin_temperature=2)
    for hour in range(24, 24 * 12):  # steps alone
        steps = blank_hour(range(PEOPLE), [START_MS + ((OWN_DAYS + 5) * 24 + hour) * HOUR_MS] * PEOPLE, [0] * PEOPLE)
        steps.mean[:, :, STEPS], steps.good[:, :, STEPS] = 0, 1
        assert asked(pipeline.settle(state, steps).findings, "cleared") == []
    assert (state["wearer"]["active"] == 1).all()
    found, learned = nights(pipeline, state, range(OWN_DAYS + 18, OWN_DAYS + 25))
    ended = asked(found, "cleared")
    assert sorted(one.row for one in ended) == list(range(PEOPLE))
    assert {one.evidence["day"] - local_day(OWN_DAYS + 18) for one in ended} <= {2, 3, 4}
    assert learned[-3:].any()


def strange(state: State, day: int, *, heart: float = -3.0, skin: float | None = 3.0) -> tuple[bool, bool]:
    """Judge a night that lies so many spreads away; return (raised, cleared)."""
    z = np.full((1, len(PAIRS)), np.nan)
    z[0, NIGHT_HEART] = heart
    z[0, NIGHT_SKIN] = np.nan if skin is None else skin
    state["open_day"] = day
    said = judge(state, z, np.isfinite(z))
    return bool(said.raised[0]), bool(said.cleared[0])


@pytest.mark.parametrize("skin", [3.0, None])  # None: a device came that measures one vital
def test_what_nobody_answers_is_asked_for_three_weeks_and_again_only_after_it_was_over(skin: float | None) -> None:
    state = np.zeros(1, PIPELINE_DTYPE)
    said = {day: strange(state, day, skin=3.0 if day < 6 else skin) for day in range(1, 60)}
    assert [day for day, (raised, _) in said.items() if raised] == [3]
    assert [day for day, (_, cleared) in said.items() if cleared] == [23]
    for day in range(60, 70):
        assert strange(state, day, heart=0, skin=0) == (False, False)
    assert any(strange(state, day)[0] for day in range(70, 75))


def test_it_mutes_nothing(known: tuple[Pipeline, State]) -> None:
    pipeline, state = known
    found, _ = nights(pipeline, state, range(OWN_DAYS, OWN_DAYS + 6), heart_rate=14, skin_temperature=-2)
    assert len(asked(found)) == PEOPLE
    risen = [one for one in found if one.rule == RESTING_HEART.id]
    assert {one.row for one in risen} == set(range(PEOPLE))


def test_the_evidence_of_other_findings_holds_that_it_was_asked(known: tuple[Pipeline, State]) -> None:
    pipeline, state = known
    nights(pipeline, state, range(OWN_DAYS, OWN_DAYS + 5), heart_rate=-9, breath=4)
    found, _ = nights(pipeline, state, range(OWN_DAYS + 5, OWN_DAYS + 8), heart_rate=-9, breath=4, skin_temperature=3)
    warm = [one for one in found if one.rule == NIGHT_SKIN_RISE.id]
    assert {one.row for one in warm} == set(range(PEOPLE))
    for one in warm:
        assert one.evidence["wearer_in_doubt"]
        assert "wore" not in sentence(one.rule, one.evidence)  # nothing explains away what is told


@pytest.mark.parametrize(
    "away",
    [
        {"heart_rate": 25, "skin_temperature": 3, "breath": 6, "hrv_rmssd": -30},  # as ill as can be
        {"heart_rate": 25, "hrv_rmssd": 60},  # beats that have become irregular
        {"heart_rate": -12},  # one vital
        {"heart_rate": -12, "hrv_rmssd": 40},  # of one vital: the same beats
        {"skin_temperature": -3},
    ],
)
def test_what_an_illness_or_one_vital_does_is_not_asked_about(
    known: tuple[Pipeline, State], away: dict[str, float]
) -> None:
    pipeline, state = known
    found, _ = nights(pipeline, state, range(OWN_DAYS, OWN_DAYS + 7), **away)
    assert asked(found) == []


@pytest.mark.parametrize(
    "away",
    [
        {NIGHT_BREATH: -3.0, NIGHT_SPO2: -3.0},  # as under an opioid
        {NIGHT_BREATH: -3.0, NIGHT_SKIN: 3.0},
        {NIGHT_HEART: -3.0, NIGHT_SKIN: -3.0, NIGHT_SPO2: -3.0},
    ],
)
def test_slow_breath_and_little_oxygen_are_no_strangers(away: dict[int, float]) -> None:
    state, z = np.zeros(1, PIPELINE_DTYPE), np.zeros((1, len(PAIRS)))
    z[0, list(away)] = list(away.values())
    for day in range(1, 30):
        state["open_day"] = day
        assert not judge(state, z, np.isfinite(z)).raised.any()


@given(st.lists(st.lists(st.floats(0, 30), min_size=5, max_size=5), min_size=1, max_size=20))
def test_what_moves_all_vitals_as_an_illness_does_is_not_asked_about(courses: list[list[float]]) -> None:
    state = np.zeros(1, PIPELINE_DTYPE)
    for day, away in enumerate(courses, start=1):
        z = np.full((1, len(PAIRS)), np.nan)
        z[0, ASLEEP] = ILL * away
        state["open_day"] = day
        assert not judge(state, z, np.isfinite(z)).raised.any()


def test_a_single_night_asks_nothing() -> None:
    state = np.zeros(1, PIPELINE_DTYPE)
    z = np.full((1, len(PAIRS)), 0.0)
    z[0, [NIGHT_HEART, NIGHT_HRV, NIGHT_SKIN]] = -50, 50, -50
    assert not judge(state, z, np.isfinite(z)).raised.any()


def test_a_new_normal_is_the_answer(known: tuple[Pipeline, State]) -> None:
    pipeline, state = known
    nights(pipeline, state, range(OWN_DAYS, OWN_DAYS + 6), heart_rate=-9, skin_temperature=2)
    start_afresh(state, np.arange(PEOPLE), METRICS["skin_temperature"])
    assert (state["wearer"]["active"] == 1).all()
    start_afresh(state, np.arange(PEOPLE), METRICS["heart_rate"])
    assert (state["wearer"]["active"] == DROPPED).all()
    found, learned = nights(pipeline, state, range(OWN_DAYS + 6, OWN_DAYS + 14), heart_rate=-9, skin_temperature=2)
    assert asked(found) == []
    assert learned.any()


def test_it_is_about_the_device_and_a_question() -> None:
    assert ALL_RULES[WEARER_IN_DOUBT.id].kind == "technical"
    assert ALL_RULES[WEARER_IN_DOUBT.id].priority == ("low",)
    vitals = [
        {"metric": "heart_rate", "value": 52.2, "usual": 63.1, "n_days": 14, "mean": -2.0},
        {"metric": "skin_temperature", "value": 33.12, "usual": 34.21, "n_days": 14, "mean": -1.8},
    ]
    evidence = {"metric": "heart_rate", "day": 20_779, "change": "raised", "vitals": vitals}
    assert sentence(WEARER_IN_DOUBT.id, evidence) == (
        "Vitals of the night to 22 Nov and before are unusual in a way that few illnesses explain: resting heart rate "
        "52 /min (usual 63) and skin temperature while asleep 33.1 °C (usual 34.2); see how this person is, and ask who wore the "
        "device"
    )
    assert patient_sentence(WEARER_IN_DOUBT.id, evidence).endswith(
        "; tell your care team if somebody else wore your device, or if you do not feel well"
    )
    over = {"metric": "heart_rate", "day": 20_790, "change": "cleared", "since_day": 20_777}
    assert patient_sentence(WEARER_IN_DOUBT.id, over) == "Who wore your device since 20 Nov is asked no longer"
