"""The adaptive path: what is learned, what is not, and what is said of the rest."""

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors import persist
from detectors.adult_limits import ADULT_LIMITS
from detectors.afresh import start_afresh
from detectors.baseline import LEARNED, NIGHT_HEART, REST_HEART, usual
from detectors.explain import sentence
from detectors.limit_sets import alarm_range
from detectors.pipeline import Pipeline
from detectors.protocol import (
    ACTIVE,
    ASLEEP,
    CAUSES,
    DATA_STATES,
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    REST,
    STEPS,
    Finding,
    State,
    blank_hour,
)  # fmt: skip
from detectors.settled import Settled
from tests import slow_rise
from tests.unit.people import METRICS, START_MS, daily, fill, hour_of, live, local_day, nightly_rates, nights

MANY = 20


def start() -> tuple[Pipeline, State]:
    pipeline = Pipeline()
    return pipeline, pipeline.new_state(MANY)


def flat(days: int, people: int = MANY) -> NDArray[np.float64]:
    return np.zeros((days, people))


def judged(settled: list[Settled], finding: Finding) -> slow_rise.Day:
    """Work out from the daily values of a finding's person what was made of its day."""
    table = daily(settled)
    heart = table.take((table.row == finding.row) & (table.metric == METRICS["heart_rate"]))
    asleep, rest = (
        dict(zip(of.local_day.tolist(), of.value.tolist(), strict=True))
        for of in (heart.take(heart.context == context) for context in (ASLEEP, REST))
    )
    known = sorted(day for day in asleep.keys() | rest.keys() if day <= finding.evidence["day"])
    return slow_rise.days((asleep.get(day), rest.get(day), 8000.0) for day in known)[
        -1
    ]  # four walks of 20 minutes a day


def findings(settled: list[Settled], rule: str) -> list[Finding]:
    return [f for one in settled for f in one.findings if f.rule == rule]


def test_a_week_of_illness_does_not_teach_the_baseline() -> None:
    pipeline, state = start()
    live(pipeline, state, range(1, 17), flat(16))
    before = state["baselines"]["median"][:, NIGHT_HEART].copy()
    ill = live(pipeline, state, range(17, 24), flat(7) + 8)
    moved = state["baselines"]["median"][:, NIGHT_HEART] - before
    assert np.abs(moved).max() < 1
    assert not nights(ill).used_for_baseline[nights(ill).local_day >= local_day(19)].any()
    assert {f.row for f in findings(ill, "resting_heart_rate_rise")} == set(range(MANY))


def test_the_rise_clears_with_good_nights_and_not_without_data() -> None:
    pipeline, state = start()
    live(pipeline, state, range(1, 17), flat(16))
    live(pipeline, state, range(17, 24), flat(7) + 9)
    assert (state["rise"]["active"] == 1).all()
    for day in range(24, 40):  # steps only: a missing night leaves everything as it is
        hour = blank_hour(range(MANY), [START_MS + day * 24 * HOUR_MS] * MANY, [0] * MANY)
        hour.mean[:, :, STEPS], hour.good[:, :, STEPS] = 0, 1
        pipeline.settle(state, hour)
    assert (state["rise"]["active"] == 1).all()
    well = live(pipeline, state, range(41, 61), flat(20))
    cleared = [f for f in findings(well, "resting_heart_rate_rise") if f.change == "cleared"]
    assert {f.row for f in cleared} == set(range(MANY))


def test_a_rise_on_top_of_one_that_is_told_is_told_too_once_and_as_recomputed() -> None:
    pipeline, state = start()
    settled = live(pipeline, state, range(1, 17), flat(16))
    settled += live(pipeline, state, range(17, 24), flat(7) + 8)
    first = [f for f in findings(settled, "resting_heart_rate_rise") if f.change == "raised"]
    assert {f.level for f in first} == {0}
    assert len(first) == len(findings(settled, "resting_heart_rate_rise")) == MANY  # the same height is no news
    more = live(pipeline, state, range(24, 34), flat(10) + 16)
    told = findings(more, "resting_heart_rate_rise")
    assert sorted(f.row for f in told) == list(range(MANY))
    assert {(f.change, f.level) for f in told} == {("worsened", 1)}
    assert all(f.start_ms == g.start_ms for f in told for g in first if f.row == g.row)
    assert judged([*settled, *more], told[0]).worse
    assert sentence(told[0].rule, told[0].evidence).endswith("; higher again than on the days since it was first told")


def test_cold_start_is_learning_and_silent() -> None:
    pipeline, state = start()
    settled = live(pipeline, state, range(1, 2 + LEARNED), flat(1 + LEARNED))
    hours = [one.hours for one in settled if len(one.hours)]
    heart = np.array([hour.state[:, METRICS["heart_rate"]] for hour in hours])
    assert {DATA_STATES[code] for code in np.unique(heart[: 24 * LEARNED])} == {"learning"}
    assert "normal" in {DATA_STATES[code] for code in np.unique(heart[24 * LEARNED + 1 :])}
    assert not any(one.findings for one in settled)


def test_a_person_unlike_the_population_gets_a_baseline() -> None:
    pipeline, state = start()
    settled = live(pipeline, state, range(1, 12), flat(11) + 28)
    assert (state["baselines"]["n"][:, NIGHT_HEART] >= LEARNED).all()
    expected = usual(state["baselines"])
    assert np.abs(expected.center[:, NIGHT_HEART] - 90).max() < 3  # 88, and 100 in the hours awake in bed
    assert len(findings(settled, "resting_heart_rate_rise")) <= MANY // 20


def test_the_uncertainty_shrinks_with_the_days() -> None:
    pipeline, state = start()
    spreads = []
    for day in range(1, 16):
        live(pipeline, state, range(day, day + 1), flat(1))
        spreads.append(float(usual(state["baselines"]).day[:, NIGHT_HEART].mean()))
    assert spreads[0] > 8
    assert spreads[2] < 4
    assert spreads[14] < spreads[4]


def test_the_anchor_is_the_first_fortnight_for_ever() -> None:
    pipeline, state = start()
    live(pipeline, state, range(1, 14), flat(13))
    assert (state["baselines"]["anchor"][:, NIGHT_HEART] == 0).all()
    live(pipeline, state, range(14, 20), flat(6))
    anchor = state["baselines"]["anchor"][:, NIGHT_HEART].copy()
    known = anchor > 0
    assert known.mean() > 0.9  # who was frozen by a false alarm is later
    assert np.abs(anchor[known] - 62).max() < 2
    drift = np.repeat(np.linspace(0, -6, 40)[:, None], MANY, 1)
    live(pipeline, state, range(20, 60), drift)
    assert (state["baselines"]["anchor"][known, NIGHT_HEART] == anchor[known]).all()
    assert (state["baselines"]["median"][known, NIGHT_HEART] < anchor[known] - 2).mean() > 0.9


def test_no_night_as_usual_is_raised_by_quiet_days_and_nobody_is_asked_after_nights_without_a_device() -> None:
    pipeline, state = start()
    live(pipeline, state, range(1, 17), flat(16))
    state["day"]["steps"], state["day"]["steps_minutes"] = 0, 0
    noise = np.random.default_rng(6).normal(60, 1.5, (20, MANY))
    for number in range(20):  # worn, at rest all day, the nights as usual
        state["day"]["n"][:, REST_HEART], state["day"]["sum"][:, REST_HEART] = 60, 74_000 * 60
        state["day"]["steps_minutes"] = 1000
        for finding in nightly_rates(noise[number : number + 1], state, 17 + number):
            assert finding.change == "cleared" or finding.evidence["z"] >= 1, finding
    nights = np.full((47, MANY), np.nan)
    nights[:30] = np.random.default_rng(7).normal(60, 2, (30, MANY))
    nights[30], nights[45:] = 75, 75
    asked = [f for f in nightly_rates(nights) if f.rule == "resting_heart_rate_new_normal"]
    assert not asked


def test_a_daily_value_and_its_baseline_can_be_recomputed() -> None:
    pipeline, state = start()
    settled = live(pipeline, state, range(1, 13), flat(12))
    table = nights(settled)
    night = table.take((table.row == 4) & (table.local_day == local_day(11)))
    minutes = []
    for number in range(11 * 24 - 14, 11 * 24 + 10):
        level = 60 + np.random.default_rng([0, 11, 7]).normal(0, 1.5, MANY)
        hour = hour_of(number, level)
        clock = (number % 24) * 60 + np.arange(60)
        still = ~np.repeat(number % 24 % 4 == 1 and 7 <= number % 24 < 23, 60)
        asleep = still & ((clock >= 22 * 60) | (clock < 8 * 60))
        minutes += hour.mean[4, asleep, METRICS["heart_rate"]].tolist()
    assert night.minutes[0] == len(minutes)
    assert night.value[0] == pytest.approx(np.mean(minutes), abs=1e-3)
    past = table.take((table.row == 4) & (table.local_day < local_day(11)) & table.used_for_baseline)
    assert night.n_days[0] == len(past)
    ring = np.round(past.value, 2)  # what a baseline keeps of a day
    median = np.median(ring)
    baseline = state["baselines"][4, NIGHT_HEART]
    everything = table.take((table.row == 4) & table.used_for_baseline)
    assert float(baseline["median"]) == pytest.approx(np.median(np.round(everything.value, 2)), abs=1e-4)
    value = past.value.tolist()
    missed = [(one - np.median(ring[:n])) ** 2 / (1 + np.pi / 2 / n) for n, one in enumerate(value) if n]
    spread = max(1.2**2, ((len(past) - 1) * np.mean(missed) + 5 * 2.5**2) / (len(past) + 4))
    doubt = np.pi / 2 * spread / len(past)
    assert night.center[0] == pytest.approx((median * 81 + 60 * doubt) / (81 + doubt), abs=1e-3)
    assert night.spread[0] == pytest.approx(np.sqrt(spread + 81 * doubt / (81 + doubt)), abs=1e-3)
    assert night.z[0] == pytest.approx((night.value[0] - night.center[0]) / night.spread[0])


def test_what_is_said_of_a_rise_can_be_recomputed() -> None:
    pipeline, state = start()
    settled = live(pipeline, state, range(1, 10), flat(9))
    settled += live(pipeline, state, range(12, 16), flat(4) + 10)
    finding = findings(settled, "resting_heart_rate_rise")[0]
    day, evidence = judged(settled, finding), finding.evidence
    assert day.active
    first = 0 if evidence["context"] == "asleep" else 1
    for name, place in (("", first), ("other_", 1 - first)):
        assert evidence[f"{name}context"] == ("asleep", "rest")[place]
        assert evidence[f"{name}n_days"] == day.n[place]
        assert evidence[f"{name}usual"] == pytest.approx(day.usual[place], abs=1e-3)
        assert evidence[f"{name}z"] == pytest.approx(day.z[place], abs=1e-3)
    assert evidence["z"] >= evidence["other_z"]
    assert evidence["cusum"] == pytest.approx(day.sum, abs=1e-3)
    assert finding.at_ms == finding.evidence["day"] * DAY_MS + 10 * HOUR_MS


def test_a_rise_of_a_fortnight_is_asked_about_and_the_answer_starts_afresh() -> None:
    noise = np.random.default_rng(1).normal(60, 2, (47, MANY))
    noise[16:] += 7
    state = Pipeline().new_state(MANY)
    said = nightly_rates(noise[:40], state)
    asked = [finding for finding in said if finding.rule == "resting_heart_rate_new_normal"]
    assert sorted(finding.row for finding in asked) == list(range(MANY))  # once each
    for finding in asked:
        evidence = finding.evidence
        assert evidence["day"] - evidence["since_day"] >= 14
        assert evidence["difference"] > 0
    start_afresh(state, np.arange(MANY), METRICS["heart_rate"])
    calm = nightly_rates(noise[40:], state, first=41)
    assert "resting_heart_rate_rise" not in {finding.rule for finding in calm}
    learned = usual(state["baselines"]).center[:, NIGHT_HEART]
    assert np.abs(learned - 67).max() < 2.5  # within a week of the answer


def test_heart_rate_unusual_at_rest_needs_two_hours_and_known_steps() -> None:
    def afternoon(steps_known: bool, hours: int) -> list[Finding]:
        pipeline = Pipeline()
        state = pipeline.new_state(MANY)
        live(pipeline, state, range(1, 13), flat(12))
        found = []
        for number in range(12 * 24 + 14, 12 * 24 + 14 + 6):
            hour = hour_of(number, np.full(MANY, 60.0))
            hour.mean[:, :, STEPS] = 0
            hour.good[:, :, STEPS] = steps_known
            if number < 12 * 24 + 14 + hours:
                fill(hour, "heart_rate", np.full((MANY, 60), 120.0) + np.arange(60) % 3)
            found.append(pipeline.settle(state, hour))
        return findings(found, "heart_rate_unusual_at_rest")

    assert afternoon(True, 1) == []
    assert afternoon(False, 3) == []
    found = afternoon(True, 2)
    assert [f.change for f in found if f.row == 0] == ["raised", "cleared"]
    assert found[0].start_ms == START_MS + (12 * 24 + 14) * HOUR_MS
    assert found[0].at_ms == found[0].start_ms + 2 * HOUR_MS


def test_minutes_beyond_a_safety_limit_are_never_learned() -> None:
    pipeline, state = start()
    live(pipeline, state, range(1, 7), flat(6))
    pipeline.settle(state, hour_of(6 * 24 + 10, np.full(MANY, 60.0)))
    n = state["baselines"]["n"].copy()
    for number in range(6 * 24 + 11, 7 * 24 + 11):
        hour = hour_of(number, np.full(MANY, 60.0))
        if number == 6 * 24 + 26:
            fill(hour, "spo2", np.full((MANY, 60), 88.0) + np.arange(60) % 2)
        pipeline.settle(state, hour)
    grown = state["baselines"]["n"] - n
    assert (grown[:, NIGHT_HEART] == 1).all()
    assert (grown[:, 3] == 0).all()


def test_alarm_range_knows_rest() -> None:
    alarm = alarm_range(ADULT_LIMITS)
    heart = METRICS["heart_rate"]
    assert [float(alarm.high[c, heart]) for c in (ASLEEP, REST, ACTIVE)] == [130, 130, 190]
    assert float(alarm.low[METRICS["spo2"]]) == 90
    assert np.isinf(alarm.high[REST, STEPS])


@pytest.mark.parametrize(
    ("what", "state", "cause"),
    [
        ("nothing", "unknown", "no_data"),
        ("off", "unknown", "not_worn"),
        ("silent", "unknown", "not_worn"),
        ("poor", "unknown", "poor_signal"),
        ("flat", "unknown", "poor_signal"),
        ("wild", "unusual", ""),
        ("usual", "normal", ""),
    ],
)
def test_data_state_of_heart_rate(what: str, state: str, cause: str) -> None:
    pipeline, patients = start()
    live(pipeline, patients, range(1, 9), flat(8))
    heart = METRICS["heart_rate"]
    code = why = np.zeros(0, np.uint8)
    for number in (8 * 24 + 10, 8 * 24 + 11):
        hour = hour_of(number, np.full(MANY, 60.0))
        if what in ("nothing", "silent", "poor"):
            hour.mean[:, :, heart], hour.good[:, :, heart] = np.nan, 0
        if what == "nothing":
            hour.good[:, :, STEPS] = 0
        hour.poor[:, :, heart] = what == "poor"
        hour.not_worn[:] = what == "off"
        if what == "flat":
            hour.mean[:, :, heart] = hour.low[:, :, heart] = hour.high[:, :, heart] = 71
        if what == "wild":
            fill(hour, "heart_rate", 125 + np.random.default_rng(1).normal(0, 1, (MANY, 60)))
        hours = pipeline.settle(patients, hour).hours
        code, why = hours.state[:, heart], hours.cause[:, heart]
    assert {DATA_STATES[int(c)] for c in code} == {state}
    assert {CAUSES[int(c)] for c in why} == {cause}


def test_bands_are_given_where_there_is_data() -> None:
    pipeline, state = start()
    settled = live(pipeline, state, range(1, 8), flat(7))
    bands = settled[-1].bands
    heart = bands.take(bands.metric == METRICS["heart_rate"])
    assert heart.row.tolist() == list(range(MANY))
    assert (heart.n_days == 6).all()
    assert ((heart.spread > 0) & (heart.center > 40)).all()


def test_travel_west_never_opens_a_day_again() -> None:
    pipeline, state = start()
    live(pipeline, state, range(1, 4), flat(3))
    opened = state["open_day"].copy()
    late = hour_of(3 * 24 + 10, np.full(MANY, 60.0), offset=0)
    pipeline.settle(state, late)
    west = hour_of(3 * 24 + 11, np.full(MANY, 60.0), offset=-480)
    settled = pipeline.settle(state, west)
    assert len(settled.days) == 0
    assert (state["open_day"] == opened + 1).all()


def test_a_night_of_half_an_evening_is_no_night() -> None:
    pipeline, state = start()
    for number in range(10, 36):
        hour = hour_of(number, np.full(MANY, 60.0))
        if not 20 <= number < 24:
            hour.good[:, :, METRICS["heart_rate"]] = 0
        settled = pipeline.settle(state, hour)
        assert len(nights([settled])) == 0
    assert (state["baselines"]["n"][:, NIGHT_HEART] == 0).all()
    assert (state["baselines"]["n"][:, REST_HEART] == 1).all()
    assert len(daily([settled])) == 0


def test_persist_breaks_after_a_gap() -> None:
    state = np.zeros(1, persist.PERSIST_DTYPE)
    yes, no = np.ones(1, bool), np.zeros(1, bool)
    persist.count(state, yes, no, no, np.array([MINUTE_MS]))
    assert not persist.count(state, yes, no, yes, np.array([9 * MINUTE_MS]))[0][0]
    assert persist.count(state, yes, no, no, np.array([10 * MINUTE_MS]))[0][0]
    assert persist.start_ms(state).tolist() == [9 * MINUTE_MS]
