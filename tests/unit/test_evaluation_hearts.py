"""Which heart rate of a day tells most: the measures themselves, and a document of people who are made up."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

import evaluation.circadian
from evaluation.brief import brief
from evaluation.circadian import daily_base
from evaluation.days import NotEvaluable
from evaluation.hearts import MEASURES, Minutes, compare
from evaluation.sheet import between
from evaluation.tables import sheets

DAYS = 40
ASLEEP, REST = 60.0, 72.0


def person(seed: int, *, nights: bool = True, days: int = DAYS) -> Minutes:
    """Minutes of a person with quiet nights and days, each day with a level of its own, and a walk at noon."""
    rng = np.random.default_rng(seed)
    minute = np.arange(days * 1440)
    clock = minute % 1440
    night = (clock >= 22 * 60) | (clock < 8 * 60)
    level = rng.normal(0, 1.5, days + 2)[(minute + 14 * 60) // 1440]
    walk = (clock >= 720) & (clock < 750)
    rate = np.where(night, ASLEEP, REST) + level + 40 * walk + rng.normal(0, 2, len(minute))
    worn = np.ones(len(minute), bool) if nights else ~night
    still = ~((clock >= 720) & (clock < 760))
    return Minutes(minute[worn], rate[worn], still[worn], np.where(walk, 100.0, 0.0)[worn])


def test_the_docstring_runs() -> None:
    assert doctest.testmod(evaluation.circadian).failed == 0


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_sees_a_rise_of_its_size(name: str) -> None:
    one = person(1)
    day, values = MEASURES[name](one)
    changed_day, changed = MEASURES[name](one.risen(20))
    assert np.array_equal(day, changed_day)
    more = np.nanmean(changed - values, axis=1)
    assert np.abs(more[day <= 19]).max() < 0.01
    assert 4 < more[(day > 23) & (day < 27)].mean() < 5.1


def test_the_model_takes_the_time_of_day_and_movement_off() -> None:
    hour = np.arange(24 * 60)
    activity = np.where(hour % 24 == 12, 60.0, 0.0)
    rate = 70 + 8 * np.sin(2 * np.pi * hour / 24) + 0.5 * activity
    _, base = daily_base(hour, rate, activity)
    _, by_day = daily_base(hour[hour % 24 >= 12], rate[hour % 24 >= 12], activity[hour % 24 >= 12])
    assert np.abs(base[20:-1] - 70).max() < 0.5
    assert by_day[20:-1].std() < 0.5


def test_who_has_no_nights_is_judged_by_what_is_known_by_day() -> None:
    document = compare("made up", [person(seed, nights=False) for seed in range(3)])
    rows = document["measures"]
    assert rows["asleep"]["0.2"]["found"] == 0
    assert rows["both (what runs now)"]["0.2"]["found"] > 0.8 * document["starts"]
    low, high = rows["both (what runs now)"]["0.2"]["gain_ci"]
    assert low <= rows["both (what runs now)"]["0.2"]["gain"] <= high
    (sheet,) = sheets(document)
    assert len(sheet.rows) == 3 * len(MEASURES)
    assert "3 people" in sheet.text
    more = rows["both (what runs now)"]["0.2"]
    assert f"{between(more['more_than_night'], more['more_than_night_ci'])} at 0.2" in brief(document)


def test_too_few_days_are_refused_with_what_is_needed() -> None:
    with pytest.raises(NotEvaluable, match="24 days with 300 minutes"):
        compare("made up", [person(1, days=20)])
