"""Bounds of drifts and alert budgets of each person's own: what they come to, and that nobody else's day is another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import choices, drift
from detectors.afresh import start_afresh
from detectors.baseline import NIGHT_SPO2, PAIR_METRIC
from detectors.choices import ALL_TOGETHER, NOBODYS, Choice, Choices
from detectors.daily import LIMITS, Budget
from detectors.pipeline import Pipeline, take
from detectors.protocol import DAY_MS, HOUR_MS, VITALS, Bools, Doubles, Finding, Rows, State
from tests.unit.people import START_MS, fill, hour_of, local_day, nightly_rates

BUDGETS: tuple[Budget, ...] = ("0.1", "0.2", "0.3")
PEOPLE, DAYS = 4, 40
HOURS = (0, 1, 2, 3, 4, 5, 9, 11, 14)  # of a day: what nobody judges need not be lived
EVERYBODYS = tuple(drift.BOUND.tolist())
ASLEEP = {"heart_rate_drift", "spo2_drift", "respiratory_rate_drift"}


def lived(
    pipeline: Pipeline, chosen: Choices, who: Rows, cuts: tuple[int, ...] = (0, 60), days: int = DAYS
) -> tuple[State, list[Finding]]:
    """Everybody's heart rate, oxygen and breathing move from day 18 on; each hour is cut where ``cuts`` says."""
    state, found = pipeline.new_state(PEOPLE), []
    for day in range(1, days):
        away = 0.4 * max(0, day - 18) * np.array([1, 1, -1, 0.5])
        for h in HOURS:
            number = day * 24 + h
            hour = hour_of(number, 60 + np.random.default_rng(day).normal(0, 1.0, PEOPLE) + away)
            fill(hour, "spo2", 97 - np.abs(away)[:, None] / 3 + np.zeros((PEOPLE, 60)))
            fill(hour, "respiratory_rate", 14 + np.abs(away)[:, None] / 2 + np.zeros((PEOPLE, 60)))
            for low, high in zip(cuts, cuts[1:], strict=False):
                part = take(hour, who)
                part.first[:], part.last[:] = low, high
                found += pipeline.settle(state, part, chosen=chosen).findings
    return state, found


def constant(monkeypatch: pytest.MonkeyPatch, choice: Choice) -> Pipeline:
    """A pipeline that judges everybody by these constants."""
    own = [usual if said is None else said for said, usual in zip(choice.bounds, EVERYBODYS, strict=True)]
    monkeypatch.setattr(choices, "BOUND", np.array(own))
    return Pipeline(budget=choice.budget or "0.1")


OF_EACH = (
    Choice("0.3", (5, 1, 2, None)), Choice("0.2", (12, None, 5, 8)), Choice(None, (6, 4, None, None)), Choice("0.1"),
)  # fmt: skip


def test_each_person_is_judged_as_by_a_pipeline_with_the_own_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    everybody = np.arange(PEOPLE)
    together, found = lived(Pipeline(), Choices({row: [(0, one)] for row, one in enumerate(OF_EACH)}), everybody)
    for row, choice in enumerate(OF_EACH):
        with monkeypatch.context() as patched:
            alone, told = lived(constant(patched, choice), NOBODYS, np.array([row]))
        assert alone[row].tobytes() == together[row].tobytes()
        assert told == [one for one in found if one.row == row]
        assert told
    told_by = {(one.row, one.rule): one.evidence for one in reversed(found) if one.change == "raised"}
    assert {rule for _, rule in told_by} >= ASLEEP
    for (row, rule), evidence in told_by.items():
        if rule in ASLEEP:
            own = OF_EACH[row].bounds[list(drift_rules()).index(rule)]
            assert evidence["bound"] == (own or drift_rules()[rule])
            assert abs(evidence["median"] - evidence["usual"]) >= evidence["bound"] or evidence["difference"]
        if rule == "resting_heart_rate_rise":
            assert evidence["cusum_limit"] == LIMITS[OF_EACH[row].budget or "0.1"]


def drift_rules() -> dict[str, float]:
    return {f"{VITALS[PAIR_METRIC[one.pair]]}_drift": one.bound for one in drift.WATCHED}


@st.composite
def timelines(draw: st.DrawFn) -> dict[int, list[tuple[int, Choice]]]:
    """For some of the people a few changes, at any minute of the days that are lived."""
    bounds = [st.none() | st.floats(low, high) for low, high in ((5, 15), (1, 4), (2, 6), (8, 30))]
    choice = st.builds(Choice, st.none() | st.sampled_from(BUDGETS), st.tuples(*bounds))
    found = {}
    for row in draw(st.sets(st.integers(0, PEOPLE - 1))):
        minutes = sorted(draw(st.sets(st.integers(0, DAYS * 1440), max_size=4)))
        found[row] = [(START_MS + minute * 60_000, draw(choice)) for minute in minutes]
    return found


@settings(max_examples=3, deadline=None)
@given(timelines(), st.sets(st.integers(1, 59), max_size=3))
def test_whoever_else_is_judged_and_wherever_hours_are_cut_the_same_is_found(
    said: dict[int, list[tuple[int, Choice]]], cuts: set[int]
) -> None:
    days = 30
    whole, expected = lived(Pipeline(), Choices(said), np.arange(PEOPLE), days=days)
    places = (0, *sorted(cuts), 60)
    for who in (np.array([3, 1]), np.array([0, 2])):
        some, found = lived(Pipeline(), Choices(said), who, places, days=days)
        assert some[who].tobytes() == whole[who].tobytes()
        assert sorted(found, key=_order) == sorted((one for one in expected if one.row in who), key=_order)


def _order(one: Finding) -> tuple[int, int, str]:
    return one.at_ms, one.row, one.rule


def test_what_holds_is_what_was_said_last_for_the_row_before_the_instant() -> None:
    first, later = Choice("0.2", set_by={ALL_TOGETHER: "programme"}), Choice(None, (6, None, None, None))
    one = Choices({2: [(1_000, first), (5_000, later)], 7: [(0, later)]})
    rows, at = np.array([2, 2, 2, 2, 7, 1, 8]), np.array([999, 1_000, 4_999, 5_000, 0, 9_000, 9_000])
    held = one.at(rows, at, 4.5)
    assert held.limit.tolist() == [4.5, 2.5, 2.5, 4.5, 4.5, 4.5, 4.5]
    assert held.bound[:, 0].tolist() == [8, 8, 8, 6, 6, 8, 8]
    assert [*map(dict, held.set_by)] == [{}, {ALL_TOGETHER: "programme"}, {ALL_TOGETHER: "programme"}, {}, {}, {}, {}]
    assert NOBODYS.at(rows, at, 1.5).limit.tolist() == [1.5] * 7


def test_a_day_is_judged_by_what_stands_at_its_end() -> None:
    """Nights 1.5 % lower count from the change to 1 % on: from the day whose end it is, or from the next one."""
    saturation = np.full((40, 1), 96.0)
    saturation[20:] -= 1.5
    for day in (28, 29, 30):
        end_ms = local_day(1 + day) * DAY_MS + 10 * HOUR_MS
        for late, first in ((0, day), (1, day + 1)):
            said = Choices({0: [(end_ms + late, Choice(bounds=(None, 1, None, None)))]})
            told = [f for f in nightly_rates(saturation, pair=NIGHT_SPO2, chosen=said) if f.rule == "spo2_drift"]
            assert told[0].evidence["day"] - local_day(1) == first + drift.NIGHTS - 1, (day, late)


SAID = [Choice(bounds=(None, bound, None, None)) for bound in (1, 2, 4)]


def by_bound(saturation: Doubles, state: State, first: int = 1) -> dict[int, list[tuple[str, int]]]:
    """What is said of three people with the same nights and the bounds of SAID: (change, night)."""
    said = Choices({row: [(0, choice)] for row, choice in enumerate(SAID)})
    found = nightly_rates(np.repeat(saturation[:, None], 3, 1), state, first, NIGHT_SPO2, said)
    told = [one for one in found if one.rule == "spo2_drift"]
    return {row: [(f.change, f.evidence["day"] - local_day(1)) for f in told if f.row == row] for row in range(3)}


def median(state: State) -> Doubles:
    return np.asarray(state["baselines"]["median"][:, NIGHT_SPO2] - state["baselines"]["anchor"][:, NIGHT_SPO2])


def test_told_learned_confirmed_and_ended_by_the_own_bound() -> None:
    noise = np.random.default_rng(3).normal(96, 0.2, 200)
    state = Pipeline().new_state(3)
    assert by_bound(noise[:30], state) == {0: [], 1: [], 2: []}
    slow = noise[30:110] - 0.04 * np.minimum(np.arange(80), 75)  # by 3 % in the end, each night of it clean
    told = by_bound(slow, state, 31)
    assert [[change for change, _ in told[row]] for row in range(3)] == [["raised", "worsened"], ["raised"], []]
    assert told[0][0][1] < told[0][1][1] <= told[1][0][1]
    assert (median(state) >= -1.01).all(), "not learned beyond the own bound, nor while a small shift is asked about"
    start_afresh(state, np.arange(3), VITALS.index("spo2"))
    assert by_bound(noise[110:130] - 3, state, 111) == {0: [], 1: [], 2: []}, "a new normal"
    assert (median(state)[1:] < -2.6).all(), "and learned"
    assert by_bound(noise[130:170], state, 131) == {0: [], 1: [], 2: []}, "nothing is open that could be over"
    again = by_bound(noise[170:] - 5, state, 171)
    assert [said[0] for said in again.values()] == [("raised", 176)] * 3, "and a new normal of then is forgotten"


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([1.0, 1.37, 2.0, 4.0]), st.sampled_from([1.0, 1.37, 2.0, 4.0]), st.floats(0, 3), st.integers(0, 9)
)
def test_whichever_bound_follows_what_was_confirmed_stays_and_a_bound_further_is_told(
    before: float, later: float, fall: float, seed: int
) -> None:
    noise = np.random.default_rng(seed).normal(0, 0.15, 500)
    state, first = Pipeline().new_state(1), {0: [(0, Choice(bounds=(None, before, None, None)))]}
    level = 96 - fall * np.clip((np.arange(90) - 30) / 30, 0, 1)
    nightly_rates((level + noise[:90])[:, None], state, 1, NIGHT_SPO2, Choices(first))
    start_afresh(state, np.arange(1), VITALS.index("spo2"), np.array([[8, before, 3, 15]]))
    confirmed = float(state["drift_reached"][0, 1]) / drift.WATCHED[1].parts
    assert confirmed <= fall + 0.6, "nobody confirms more than was there"
    changed = Choices({0: [(0, Choice(bounds=(None, later, None, None)))]})
    stays = nightly_rates((level[-1] + noise[90:130])[:, None], state, 91, NIGHT_SPO2, changed)
    if fall < confirmed + later - 0.6:
        assert "spo2_drift" not in {one.rule for one in stays}, "not told again where it was confirmed"
    told = {one.change for one in stays if one.rule == "spo2_drift"}
    start, down = level[-1], np.clip(np.arange(330) / 300, 0, 1) * (confirmed + later + 0.6 - fall)
    slow = nightly_rates((start - np.maximum(down, 0) + noise[130:460])[:, None], state, 131, NIGHT_SPO2, changed)
    told |= {one.change for one in slow if one.rule == "spo2_drift"}
    assert told & {"raised", "worsened"}, "a decline beyond what was confirmed, and the bound that holds now"
    known = state["baselines"]["n"][0, NIGHT_SPO2] > 0
    assert not known or median(state)[0] >= -(confirmed + later), "learned no further unasked"


def ended(told: dict[int, list[tuple[str, int]]]) -> Bools:
    return np.array([any(change == "cleared" for change, _ in said) for said in told.values()])


def test_a_drift_is_over_by_half_of_the_own_bound() -> None:
    noise = np.random.default_rng(5).normal(96, 0.1, 120)
    fallen = noise - np.where(np.arange(120) < 30, 0, np.where(np.arange(120) < 60, 5, 0.8))
    told = by_bound(fallen, Pipeline().new_state(3))
    assert [said[0][0] for said in told.values()] == ["raised"] * 3
    assert ended(told).tolist() == [False, True, True], "0.8 % is nearer than half of 2 and 4, not of 1"


def test_the_larger_budget_tells_sooner_and_of_less() -> None:
    rates = np.random.default_rng(8).normal(60, 2, (60, 30))
    rates[40:] += 3
    people = np.repeat(rates, 3, 1)
    said = {row: [(0, Choice(BUDGETS[row % 3], set_by={ALL_TOGETHER: "programme"}))] for row in range(people.shape[1])}
    found = nightly_rates(people, chosen=Choices(said))
    rises = [one for one in found if one.rule == "resting_heart_rate_rise" and one.change == "raised"]
    assert {one.evidence["limit_set_by"] for one in rises} == {"programme"}
    for one in rises:
        assert one.evidence["cusum"] > one.evidence["cusum_limit"] == LIMITS[BUDGETS[one.row % 3]]
    n = [sum(one.row % 3 == place for one in rises) for place in range(3)]
    assert n[0] < n[1] < n[2]
    plain = [one for one in nightly_rates(rates) if one.rule == "resting_heart_rate_rise" and one.change == "raised"]
    assert [(one.at_ms, one.row * 3) for one in plain] == [(one.at_ms, one.row) for one in rises if one.row % 3 == 0]
    assert all("limit_set_by" not in one.evidence for one in plain)


def test_what_nothing_asks_about_is_learned_alike_whatever_its_bound() -> None:
    rates = np.repeat(
        np.random.default_rng(9).normal(60, 2, (60, 1)) + np.maximum(0, np.arange(60) - 30)[:, None] / 8, 2, 1
    )
    state = Pipeline().new_state(2)
    found = nightly_rates(rates, state, chosen=Choices({1: [(0, Choice(bounds=(5, None, None, None)))]}))
    assert {one.row for one in found if one.rule == "heart_rate_drift"} != {0}
    assert state["baselines"][0].tobytes() == state["baselines"][1].tobytes()
