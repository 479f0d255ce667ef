"""Made-up people day by day: as loud as hour by hour; a device's first day is told from an illness that begins with it."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.baseline import NIGHT_HEART, NIGHT_HRV, REST_HEART
from detectors.daily import LIMITS
from evaluation import shifts, swaps, variability
from evaluation.made_up_days import FIRST_SHARE, People, live, people
from evaluation.swaps import STORIES, happens, risen, within
from evaluation.tables import sheets
from evaluation.variability import THRESHOLDS, active, falls

N, DAYS = 40, 60
RISE = "resting_heart_rate_rise"


@pytest.fixture(scope="module")
def well() -> People:
    return people(N, DAYS)


def test_a_person_is_the_same_whoever_is_beside_and_unworn_nights_are_unknown(well: People) -> None:
    fewer = people(N, DAYS, 0).values[:, :, NIGHT_HRV]
    assert np.array_equal(well.values[:, :, NIGHT_HRV], fewer, equal_nan=True)
    unworn = np.isnan(well.values[:, :, NIGHT_HEART])
    assert 0 < unworn.mean() < 0.1
    assert np.isfinite(well.values[:, :, REST_HEART]).all()


def test_the_slow_rule_is_about_as_loud_as_asked(well: People) -> None:
    for budget, limit in LIMITS.items():
        rate = live(well, limit).of(RISE).sum() / (N * DAYS / 7)
        assert float(budget) / 2 < rate < 1.6 * float(budget)


def test_an_event_begins_at_noon_and_a_device_differs_from_its_first_reading(well: People) -> None:
    day = np.full(N, 30)
    ill = happens(well, day, STORIES["ill"]).values - well.values
    assert (np.nan_to_num(ill[:, :30]) == 0).all()
    assert np.nanmax(ill[:, 33:36, NIGHT_HEART]) == pytest.approx(5)
    assert 0.5 < np.nanmean(ill[:, 30, NIGHT_HEART]) < 1.5
    assert (np.nan_to_num(ill[:, 38:]) == 0).all()
    other = happens(well, day, STORIES["another device that measures higher"]).values - well.values
    whole = 1.5 + 0.02 * well.values[:, 30:, REST_HEART]
    assert np.allclose(other[:, 31:, REST_HEART], whole[:, 1:])
    assert np.allclose(other[:, 30, REST_HEART], FIRST_SHARE * whole[:, 0])
    assert risen(np.array([-1, 8]), 11, 19).tolist() == [0, 0]


def test_an_illness_that_begins_with_another_device_is_told_more_often_than_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(swaps, "TIMES", 1)
    document = swaps.evaluate(cast=(40, 76), first=300)
    told = {name: one["share"] for name, one in document["stories"].items()}
    assert told["ill"] > told["ill, another device that measures alike"] > told["nothing, 7 days"] + 0.1
    for how in ("alike", "higher", "lower"):
        assert told[f"ill, another device that measures {how}"] > told[f"another device that measures {how}"]
    (sheet,) = sheets(document)
    assert [name for name, _ in sheet.rows] == list(STORIES)


def test_a_sum_of_falls_is_told_once_ends_on_good_nights_and_stands_still_where_nothing_is_known() -> None:
    score = np.array([[0.0, 2.0, 2.0, 0.2, np.nan, -0.5, -4.0, -4.0]])
    found = active(score, 0.5)[:, 0]
    at = int(np.flatnonzero(THRESHOLDS == 2.5)[0])
    assert found[at].tolist() == [False, False, True, True, True, True, False, False]
    assert (np.diff(found.sum(1)) <= 0).all()  # a stricter limit never tells for longer


def test_a_candidate_finds_more_of_larger_falls(well: People) -> None:
    day = np.full(N, 30)
    fallen = falls(well, day, 0.8, 5).values[:, :, NIGHT_HRV] / well.values[:, :, NIGHT_HRV]
    assert np.nanmin(fallen) == pytest.approx(0.8)
    assert np.nanmax(fallen[:, :30]) == np.nanmin(fallen[:, 36:]) == 1
    document = variability.evaluate(chosen_by=(40, 70, 0), judged_by=(40, 76, 300))
    rows = document["candidates"]["its logarithm, a slow mean, slack 1.0"]["0.1"]
    small, large, _ = (one["more"] for one in rows["found"])
    assert 0 <= small <= large
    assert large > 0.2
    (sheet,) = sheets(document)
    assert len(sheet.rows) == len(variability.CANDIDATES) * len(variability.ASKED)


def test_small_shifts_are_asked_about_more_the_larger_and_the_longer_they_are() -> None:
    document = shifts.evaluate(judged_by=(60, 84, 300))
    asked = {one["event"]: [each["share"] for each in one["asked"]] for one in document["events"]}
    assert len(asked) == len(shifts.EVENTS)
    for seven, fourteen, three_weeks in asked.values():
        assert seven <= fourteen <= three_weeks
    for small, large in (("heart rate −5", "heart rate −7"), ("oxygen −1", "oxygen −1.5")):
        assert asked[small][2] < asked[large][2]
    assert asked["oxygen −1.5"][2] > 0.6 > asked["oxygen −1.5 for 7 nights"][2]
    assert all(one["anyway"]["share"] < 0.1 for one in document["events"])
    (sheet,) = sheets(document)
    assert [row[0] for row in sheet.rows] == list(asked)


def test_what_is_told_counts_from_the_day_of_the_event_to_the_last() -> None:
    told = np.zeros((3, 20), bool)
    told[[0, 1, 2], [4, 5, 12]] = True
    assert within(told, np.full(3, 5), 7).tolist() == [False, True, True]
