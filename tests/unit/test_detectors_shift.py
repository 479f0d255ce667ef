"""Small shifts that stay: asked about, not learned away, ended by nights as before or by "new normal"."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from detectors.afresh import start_afresh
from detectors.baseline import NIGHT_BREATH, NIGHT_HEART, NIGHT_SPO2, REST_HEART
from detectors.daily import LIMITS, hearts_together
from detectors.days import close_days
from detectors.explain import patient_sentence, sentence
from detectors.pipeline import Pipeline
from detectors.protocol import DAY_MS, HOUR_MS, VITALS, Finding, State, blank_hour
from detectors.rules import DRIFTS, SHIFTS
from detectors.shift import ROOM, UNKNOWN, WATCHED, pass_over
from tests.unit.people import hour_of, local_day, nightly_rates

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


def test_an_unknown_night_takes_a_little_off_what_has_told_nothing_and_ends_nothing() -> None:
    values = nights(NIGHT_SPO2, 50)
    values[42:] -= 1.4
    state, away = Pipeline().new_state(MANY), Pipeline().new_state(MANY)
    nightly_rates(values, state, pair=NIGHT_SPO2)
    before, away[:] = state["shift"].copy(), state
    assert nightly_rates(np.full((9, MANY), np.nan), state, 51, NIGHT_SPO2) == []
    told = (before["active"] & 2) > 0
    assert 0 < told.sum() < MANY
    less = np.maximum(before["sum"][:, 1].astype(int) - 9 * 1000 * UNKNOWN, 0)
    assert (state["shift"]["sum"][:, 1] == np.where(told, before["sum"][:, 1], less)).all()
    assert (state["shift"]["active"] == before["active"]).all()
    pass_over(away, np.full(MANY, 9))
    assert (away["shift"] == state["shift"]).all(), "days without any data as nights that were not known"


def test_days_without_any_data_count_as_nights_that_were_not_known() -> None:
    pipeline, rate = Pipeline(), np.full(2, 60.0)
    state = pipeline.new_state(2)
    for number in range(24):
        pipeline.settle(state, hour_of(number, rate))
    state["shift"]["sum"], state["shift"]["active"][1] = 3000, 1  # the heart rate's shift is told
    pipeline.settle(state, hour_of(24 * 8, rate))  # the open day and six more
    less = 3000 - 7 * 1000 * UNKNOWN
    assert state["shift"]["sum"].tolist() == [[less, less, less], [3000, less, less]]


def test_low_nights_months_apart_are_no_run() -> None:
    values = nights(NIGHT_SPO2, 150)
    values[40:45] -= 1.5
    values[45:135] = np.nan
    values[135:138] -= 1.5
    told = [f for f in nightly_rates(values, pair=NIGHT_SPO2) if f.rule == "spo2_shift" and f.change == "raised"]
    assert all(f.evidence["day"] - f.evidence["since_day"] < 30 for f in told)
    assert not {f.row for f in told if f.evidence["day"] >= local_day(1) + 135}


@pytest.mark.parametrize("days", [5, 8, 12])
def test_an_illness_of_breathing_that_is_over_is_not_asked_about(days: int) -> None:
    values = nights(NIGHT_BREATH, 75, seed=10)
    values[BEGINS : BEGINS + days] += 3.6
    values[BEGINS + days : BEGINS + days + 4] += np.array([2.4, 1.4, 0.8, 0.4])[:, None]
    found = nightly_rates(values, pair=NIGHT_BREATH)
    assert len(rows(found, "night_respiratory_rate_rise", "cleared")) >= 0.9 * MANY
    assert len(rows(found, "respiratory_rate_shift")) <= 1


@pytest.mark.parametrize(("pair", "away"), [(NIGHT_SPO2, -2.5), (NIGHT_HEART, -11), (NIGHT_BREATH, 3.2)])
def test_nobody_has_two_questions_open_about_one_metric(pair: int, away: float) -> None:
    values = nights(pair, 110)
    values[BEGINS:] += away * np.minimum((np.arange(70) + 1) / 10, 1)[:, None]
    place = [one.pair for one in WATCHED].index(pair)
    shift, drift = SHIFTS[place].id, DRIFTS[place].id
    found = nightly_rates(values, pair=pair)
    still_open, gave_way = {row: set[str]() for row in range(MANY)}, []
    by_day = sorted((f for f in found if f.rule in (shift, drift)), key=lambda f: f.at_ms)
    for at, f in enumerate(by_day):
        (still_open[f.row].discard if f.change == "cleared" else still_open[f.row].add)(f.rule)
        gave_way += [f] if "drifted" in f.evidence else []
        if at + 1 == len(by_day) or by_day[at + 1].at_ms > f.at_ms:
            assert all(len(which) <= 1 for which in still_open.values())
    assert gave_way, "one is told and the other takes over"
    assert rows(found, drift) >= {f.row for f in gave_way}
    told = gave_way[0].evidence
    team, patient = sentence(shift, told), patient_sentence(shift, told)
    assert ", and is told as far from the first weeks now: in the night to " in team
    assert not team.endswith("?")
    assert "back" not in team + patient


def test_answering_a_small_shift_confirms_no_drift_that_nobody_told() -> None:
    values = nights(NIGHT_SPO2, 75, seed=11)
    values[BEGINS:] -= 1.5
    asked = 0
    for row in range(MANY):
        state = Pipeline().new_state(1)
        for night in range(75):
            said = {
                (f.rule, f.change) for f in nightly_rates(values[[night], row : row + 1], state, 1 + night, NIGHT_SPO2)
            }
            if ("spo2_shift", "raised") in said:
                start_afresh(state, np.arange(1), VITALS.index("spo2"))
                asked += 1
                assert not state["drift_reached"].any()
                break
    assert asked > MANY / 2


def test_of_the_heart_rates_the_one_that_has_fallen_further_is_told_first_and_both_make_the_score() -> None:
    rng, state, found = np.random.default_rng(4), Pipeline().new_state(MANY), []
    for number in range(90):
        fallen = BEGINS <= number < 65
        of = {NIGHT_HEART: rng.normal(60 + fallen, 1.5, MANY), REST_HEART: rng.normal(75 - 14 * fallen, 2, MANY)}
        found += day_of_hearts(state, of, local_day(1) + number)
    told = [f for f in found if f.rule == "heart_rate_shift" and f.row not in rows(found, "heart_rate_drift")]
    assert {f.change for f in told} == {"raised", "cleared"}
    for f in told:
        e = f.evidence
        together = -hearts_together(np.array([[e["z"], e["other_z"]]]))[0]
        assert e["score"] == pytest.approx(together, abs=2e-3)
        assert e["z"] <= e["other_z"]
        assert e["difference"] == pytest.approx(e["value"] - e["usual"], abs=2e-4)
        team = sentence(f.rule, e)
        assert "at rest by day" in team
        assert "asleep" in team or "in the night to" in team
        if f.change == "raised":
            assert (e["context"], "below" in team.partition(";")[0]) == ("rest", True)


def day_of_hearts(state: State, of: dict[int, NDArray[np.float64]], day: int) -> list[Finding]:
    for pair, value in of.items():
        state["day"]["n"][:, pair], state["day"]["sum"][:, pair] = 180, np.rint(value * 1000) * 180
    state["day"]["steps_minutes"], state["day"]["steps"], state["open_day"] = 900, 5000, day
    hour = blank_hour(range(MANY), [day * DAY_MS + 11 * HOUR_MS] * MANY, [0] * MANY)
    return close_days(state, hour, np.arange(MANY), LIMITS["0.1"])[0]
