"""The clinical scores against tables written down here by hand, from the printed charts, not from the code."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Final

import numpy as np
import pytest

from detectors.scores import SCORES
from detectors.scores.clinical import STATES, ClinicalScore, Scored
from detectors.scores.mews import MEWS
from detectors.scores.news2 import NEWS2
from detectors.scores.observations import MAX_AGE_S, PARAMETERS, Observations
from detectors.scores.qsofa import QSOFA
from detectors.scores.shock_index import SHOCK_INDEX

RR, SPO2, O2, SBP, HR, ACVPU, TEMP = PARAMETERS

# value:points, at each boundary of the chart, one step below and one above, and the halves between two steps.
NEWS2_CHART: Final = {
    RR: "2:3 7:3 8:3 8.4:3 8.5:1 9:1 10:1 11:1 11.4:1 11.5:0 12:0 13:0 19:0 20:0 20.4:0 20.5:2 21:2 22:2 23:2 24:2 "
    "24.4:2 24.5:3 25:3 26:3 80:3",
    SPO2: "50:3 90:3 91:3 91.4:3 91.5:2 92:2 93:2 93.4:2 93.5:1 94:1 95:1 95.4:1 95.5:0 96:0 97:0 100:0",
    O2: "0:0 0.1:2 0.5:2 2:2 15:2",
    SBP: "40:3 89:3 90:3 90.4:3 90.5:2 91:2 92:2 99:2 100:2 100.4:2 100.5:1 101:1 102:1 109:1 110:1 110.4:1 110.5:0 "
    "111:0 112:0 218:0 219:0 219.4:0 219.5:3 220:3 221:3 300:3",
    HR: "20:3 39:3 40:3 40.4:3 40.5:1 41:1 42:1 49:1 50:1 50.4:1 50.5:0 51:0 52:0 89:0 90:0 90.4:0 90.5:1 91:1 92:1 "
    "109:1 110:1 110.4:1 110.5:2 111:2 112:2 129:2 130:2 130.4:2 130.5:3 131:3 132:3 300:3",
    ACVPU: "0:0 1:3 2:3 3:3 4:3",
    TEMP: "30:3 34.9:3 35.0:3 35.04:3 35.05:1 35.1:1 35.2:1 35.9:1 36.0:1 36.04:1 36.05:0 36.1:0 36.2:0 37.9:0 38.0:0 "
    "38.04:0 38.05:1 38.1:1 38.2:1 38.9:1 39.0:1 39.04:1 39.05:2 39.1:2 39.2:2 42:2",
}
SCALE_2_AIR: Final = (
    "50:3 82:3 83:3 83.4:3 83.5:2 84:2 85:2 85.4:2 85.5:1 86:1 87:1 87.4:1 87.5:0 88:0 89:0 91:0 92:0 93:0 94:0 95:0 "
    "96:0 97:0 98:0 100:0"
)
SCALE_2_OXYGEN: Final = (
    "50:3 82:3 83:3 83.4:3 83.5:2 84:2 85:2 85.4:2 85.5:1 86:1 87:1 87.4:1 87.5:0 88:0 89:0 91:0 92:0 92.4:0 92.5:1 "
    "93:1 94:1 94.4:1 94.5:2 95:2 96:2 96.4:2 96.5:3 97:3 98:3 100:3"
)
MEWS_CHART: Final = {
    RR: "2:2 7:2 8:2 8.4:2 8.5:0 9:0 10:0 13:0 14:0 14.4:0 14.5:1 15:1 16:1 19:1 20:1 20.4:1 20.5:2 21:2 22:2 28:2 "
    "29:2 29.4:2 29.5:3 30:3 31:3",
    SBP: "40:3 69:3 70:3 70.4:3 70.5:2 71:2 72:2 79:2 80:2 80.4:2 80.5:1 81:1 82:1 99:1 100:1 100.4:1 100.5:0 101:0 "
    "102:0 198:0 199:0 199.4:0 199.5:2 200:2 201:2",
    HR: "20:2 39:2 40:2 40.4:2 40.5:1 41:1 42:1 49:1 50:1 50.4:1 50.5:0 51:0 52:0 99:0 100:0 100.4:0 100.5:1 101:1 "
    "102:1 109:1 110:1 110.4:1 110.5:2 111:2 112:2 128:2 129:2 129.4:2 129.5:3 130:3 131:3",
    ACVPU: "0:0 1:1 2:1 3:2 4:3",
    TEMP: "30:2 34.8:2 34.9:2 34.94:2 34.95:0 35.0:0 35.1:0 38.3:0 38.4:0 38.44:0 38.45:2 38.5:2 38.6:2",
}
QSOFA_CHART: Final = {
    RR: "2:0 20:0 21:0 21.4:0 21.5:1 22:1 23:1",
    SBP: "40:1 99:1 100:1 100.4:1 100.5:0 101:0 102:0",
    ACVPU: "0:0 1:1 2:1 3:1 4:1",
}
CHARTS: Final = [(NEWS2, NEWS2_CHART), (MEWS, MEWS_CHART), (QSOFA, QSOFA_CHART)]
# A person of each column of NEWS2's chart and one who is well; points as the charts above say them.
PEOPLE: Final = [
    {RR: 16, SPO2: 97, O2: 0, SBP: 125, HR: 70, ACVPU: 0, TEMP: 36.8},
    {RR: 10, SPO2: 95, O2: 0, SBP: 105, HR: 100, ACVPU: 0, TEMP: 38.5},
    {RR: 22, SPO2: 93, O2: 2, SBP: 95, HR: 120, ACVPU: 0, TEMP: 39.5},
    {RR: 26, SPO2: 85, O2: 2, SBP: 230, HR: 35, ACVPU: 4, TEMP: 34.0},
    {RR: 31, SPO2: 96, O2: 0, SBP: 65, HR: 135, ACVPU: 2, TEMP: 37.0},
]


def charted(chart: str) -> list[tuple[float, int]]:
    return [(float(value), int(points)) for value, points in (entry.split(":") for entry in chart.split())]


def seen(
    values: Mapping[str, float], ages: Mapping[str, float] | None = None, *, scale_2: bool = False,
    under_16: bool = False, pregnant: bool = False,
) -> Observations:  # fmt: skip
    """One person, of whom everything that is given was measured just now unless an age is."""
    value = np.array([[np.float32(values.get(key, np.nan)) for key in PARAMETERS]], np.float64)
    age_s = np.array([[(ages or {}).get(key, 0.0) for key in PARAMETERS]])
    return Observations(value, age_s, np.array([scale_2]), np.array([[under_16, pregnant]]))


def points_of(scored: Scored, score: ClinicalScore, key: str) -> int:
    return int(scored.points[0, score.parameters.index(key)])


def state_of(scored: Scored, score: ClinicalScore, key: str) -> str:
    return STATES[int(scored.states[0, score.parameters.index(key)])]


def band_of(scored: Scored, score: ClinicalScore) -> str:
    place = int(scored.band[0])
    return "" if place < 0 else score.bands[place].key


@pytest.mark.parametrize(
    ("score", "key", "chart"),
    [
        pytest.param(score, key, chart, id=f"{score.key}-{key}")
        for score, charts in CHARTS
        for key, chart in charts.items()
    ],
)
def test_every_boundary_at_below_and_above(score: ClinicalScore, key: str, chart: str) -> None:
    for value, points in charted(chart):
        scored = score.work_out(seen({key: value}))
        assert points_of(scored, score, key) == points, value
        assert scored.total[0] == points
        assert not scored.complete[0]
        assert scored.known.sum() == 1


def test_each_chart_names_every_parameter_of_its_score() -> None:
    for score, charts in CHARTS:
        assert set(score.parameters) == set(charts)
        assert len(score.parameters) == len(charts)


@pytest.mark.parametrize(("flow", "chart"), [(0, SCALE_2_AIR), (2, SCALE_2_OXYGEN)], ids=["air", "oxygen"])
def test_scale_2_at_each_boundary_on_air_and_on_oxygen(flow: float, chart: str) -> None:
    for value, points in charted(chart):
        scored = NEWS2.work_out(seen({SPO2: value, O2: flow}, scale_2=True))
        assert points_of(scored, NEWS2, SPO2) == points, value
        assert scored.total[0] == points + (2 if flow else 0)


def test_scale_2_scores_nothing_where_it_depends_on_an_oxygen_that_is_not_known() -> None:
    on_oxygen = dict(charted(SCALE_2_OXYGEN))
    for value, points in charted(SCALE_2_AIR):
        scored = NEWS2.work_out(seen({SPO2: value}, scale_2=True))
        if on_oxygen.get(value, points) == points:
            assert (points_of(scored, NEWS2, SPO2), state_of(scored, NEWS2, SPO2)) == (points, "known"), value
        else:
            assert (points_of(scored, NEWS2, SPO2), state_of(scored, NEWS2, SPO2)) == (-1, "needs_oxygen"), value
            assert np.isnan(scored.total[0])
    old = NEWS2.work_out(seen({SPO2: 95, O2: 0}, {O2: 3601}, scale_2=True))
    assert state_of(old, NEWS2, SPO2) == "needs_oxygen"
    assert state_of(old, NEWS2, O2) == "too_old"


def test_scale_1_does_not_care_for_oxygen_and_the_other_scores_not_for_the_scale() -> None:
    for value, points in charted(NEWS2_CHART[SPO2]):
        for flow in (0.0, 2.0):
            assert points_of(NEWS2.work_out(seen({SPO2: value, O2: flow})), NEWS2, SPO2) == points
    for score in (MEWS, QSOFA, SHOCK_INDEX):
        one, two = (score.work_out(seen(PEOPLE[2], scale_2=scale)) for scale in (False, True))
        assert one.total[0] == two.total[0]


def expected_band(score: ClinicalScore, total: int, red: bool, complete: bool) -> str:
    """What the published tables say, and nothing of a partial score that could still be the lowest."""
    if score is NEWS2:
        band = "high" if total >= 7 else "medium" if total >= 5 else "low_medium" if red else "low"
    elif score is MEWS:
        band = "from_5" if total >= 5 else "under_5"
    else:
        band = "from_2" if total >= 2 else "under_2"
    return "" if not complete and band in ("low", "under_5", "under_2") else band


@pytest.mark.parametrize(("score", "charts"), CHARTS, ids=lambda given: getattr(given, "key", ""))
def test_every_combination_of_missing_parameters(score: ClinicalScore, charts: Mapping[str, str]) -> None:
    combinations = 0
    for person in PEOPLE:
        for taken in itertools.product([True, False], repeat=len(score.parameters)):
            there = [key for key, here in zip(score.parameters, taken, strict=True) if here]
            scored = score.work_out(seen({key: person[key] for key in there}))
            points = {key: oracle(charts[key], person[key]) for key in there}
            combinations += 1
            assert [key for key in score.parameters if state_of(scored, score, key) == "missing"] == [
                key for key in score.parameters if key not in there
            ]
            assert bool(scored.complete[0]) == all(taken)
            assert {key: points_of(scored, score, key) for key in there} == points
            if not there:
                assert np.isnan(scored.total[0])
                assert band_of(scored, score) == ""
                continue
            red = score is NEWS2 and 3 in points.values()
            assert scored.total[0] == sum(points.values())
            assert bool(scored.red.any()) == red
            assert band_of(scored, score) == expected_band(score, sum(points.values()), red, all(taken))
    assert combinations == len(PEOPLE) * 2 ** len(score.parameters)


def oracle(chart: str, value: float) -> int:
    """The points a chart gives a value: those of the listed value nearest to it, on a stretch of one colour."""
    entries = charted(chart)
    below = [points for listed, points in entries if listed <= value]
    above = [points for listed, points in entries if listed >= value]
    near = {*below[-1:], *above[:1]}
    assert len(near) == 1, f"{value} is on no stretch of {chart}"
    return near.pop()


def test_each_parameter_alone_is_red_at_three_points_and_only_then() -> None:
    for key, chart in NEWS2_CHART.items():
        for value, points in charted(chart):
            scored = NEWS2.work_out(seen(PEOPLE[0] | {key: value}))
            red = [key for key, is_red in zip(NEWS2.parameters, scored.red[0], strict=True) if is_red]
            assert red == ([key] if points == 3 else []), (key, value)
            assert scored.total[0] == points
            assert band_of(scored, NEWS2) == ("low_medium" if points == 3 else "low")
    for score in (MEWS, QSOFA, SHOCK_INDEX):
        assert not score.work_out(seen(PEOPLE[3])).red.any()


def test_each_total_has_the_band_of_the_published_table() -> None:
    found: dict[int, set[str]] = {}
    for rr, spo2, sbp, hr, temp in itertools.product((16, 10, 22), (97, 95, 93), (125, 105), (70, 100, 120), (37, 39)):
        person = {RR: rr, SPO2: spo2, O2: 0, SBP: sbp, HR: hr, ACVPU: 0, TEMP: temp}
        scored = NEWS2.work_out(seen(person))
        assert not scored.red.any()
        assert scored.complete[0]
        found.setdefault(int(scored.total[0]), set()).add(band_of(scored, NEWS2))
    assert found == dict.fromkeys(range(5), {"low"}) | dict.fromkeys((5, 6), {"medium"}) | dict.fromkeys(
        (7, 8), {"high"}
    )
    most = NEWS2.work_out(seen(PEOPLE[3]))
    assert (most.total[0], band_of(most, NEWS2)) == (20, "high")


@pytest.mark.parametrize("score", [NEWS2, MEWS, QSOFA], ids=lambda score: score.key)
def test_a_value_counts_until_it_is_too_old(score: ClinicalScore) -> None:
    for key in score.parameters:
        for late, state in ((0, "known"), (1, "too_old")):
            scored = score.work_out(seen(PEOPLE[0], {key: MAX_AGE_S[key] + late}))
            assert state_of(scored, score, key) == state, key
            assert (points_of(scored, score, key) == -1) == bool(late)
            assert bool(scored.complete[0]) == (not late)


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.key)
@pytest.mark.parametrize("who", ["under_16", "pregnant"])
def test_it_is_off_for_whom_it_does_not_hold(score: ClinicalScore, who: str) -> None:
    young = who == "under_16"
    scored = score.work_out(seen(PEOPLE[3], under_16=young, pregnant=not young))
    assert scored.off.tolist() == [0 if young else 1]
    assert np.isnan(scored.total[0])
    assert (scored.points == -1).all()
    assert not scored.red.any()
    assert scored.band.tolist() == [-1]
    assert not scored.complete[0]
    assert score.work_out(seen(PEOPLE[3])).off.tolist() == [-1]


@pytest.mark.parametrize(
    ("pulse", "pressure", "index", "band"),
    [
        (60, 120, 0.5, "under_1"), (99, 100, 0.99, "under_1"), (100, 100, 1.0, "from_1"), (101, 100, 1.01, "from_1"),
        (119.3, 120, 0.99, "under_1"), (119.4, 120, 1.0, "from_1"), (120, 80, 1.5, "from_1"),
    ],
)  # fmt: skip
def test_the_shock_index_is_judged_as_it_is_shown(pulse: float, pressure: float, index: float, band: str) -> None:
    scored = SHOCK_INDEX.work_out(seen({HR: pulse, SBP: pressure}))
    assert scored.total[0] == index
    assert band_of(scored, SHOCK_INDEX) == band
    assert scored.complete[0]


def test_the_shock_index_takes_two_numbers_of_one_time() -> None:
    for values in ({HR: 120.0}, {SBP: 80.0}, {}):
        scored = SHOCK_INDEX.work_out(seen(values))
        assert np.isnan(scored.total[0])
        assert band_of(scored, SHOCK_INDEX) == ""
        assert not scored.complete[0]
    for age, state in ((900.0, "known"), (901.0, "apart")):
        for ages in ({HR: age}, {SBP: age}):
            scored = SHOCK_INDEX.work_out(seen({HR: 120, SBP: 80}, ages))
            assert [STATES[code] for code in scored.states[0]] == [state, state]
            assert np.isnan(scored.total[0]) == (state == "apart")
    old = SHOCK_INDEX.work_out(seen({HR: 120, SBP: 80}, {SBP: 43_201, HR: 43_201}))
    assert [STATES[code] for code in old.states[0]] == ["too_old", "too_old"]


def test_observations_that_contradict_themselves_are_refused() -> None:
    good = seen(PEOPLE[0])
    with pytest.raises(ValueError, match=r"age_s has the shape \(1, 6\), it must be \(1, 7\)"):
        Observations(good.value, good.age_s[:, :6], good.scale_2, good.who)
    with pytest.raises(ValueError, match=r"spo2 is -1.0 s old: 0 or more is allowed"):
        seen(PEOPLE[0], {SPO2: -1.0})
    with pytest.raises(ValueError, match=r"heart_rate is nan s old"):
        seen(PEOPLE[0], {HR: np.nan})
    assert not seen({}, {SPO2: np.nan}).fresh.any()
