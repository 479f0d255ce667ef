"""Courses of days put into people: what an event makes of a day, and what the task counts of it."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation import shapes
from evaluation.shape_events import ASLEEP, CLOCK, EVENTS, FIRST, LASTS, RIVALS, far, hourly, z_of
from evaluation.tables import sheets
from simulators.series import HOUR_MS, MINUTE_MS, Series

DAYS = np.where(ASLEEP, 55.0, 70.0) + np.random.default_rng(1).normal(0, 2, (40, 24))


def test_hours_are_the_local_clocks_from_ten_on_and_need_four_readings() -> None:
    t_ms = np.arange(9 * HOUR_MS, 12 * HOUR_MS, 15 * MINUTE_MS)[:-1]
    value = (t_ms // HOUR_MS).astype(np.float32)
    first, rates = hourly(Series(t_ms, value, np.zeros(len(t_ms), np.uint8)), 0)
    assert (first, rates.shape) == (0, (2, 24))
    assert rates[0, 23] == 9
    assert rates[1, 0] == 10
    assert np.isfinite(rates).sum() == 2  # three readings from 11:00 on
    assert (CLOCK[0], CLOCK[23]) == (10, 9)
    assert hourly(Series(t_ms, value, np.zeros(len(t_ms), np.uint8)), 120)[1][0, 1] == 9


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_changes_its_own_days_alone_and_the_days_given_not_at_all(name: str) -> None:
    before = DAYS.copy()
    found = EVENTS[name].of(DAYS, 25)
    assert np.array_equal(before, DAYS)
    assert found.shape == (EVENTS[name].days, 24)
    same = np.isclose(found, DAYS[25 : 25 + EVENTS[name].days])
    assert same.mean() == pytest.approx(
        {"+25 /min, 1:00 to 4:00": 21 / 24, "+15 /min, 1:00 to 5:00": 20 / 24, "exercise, +50 /min at 18:00": 23 / 24}
        .get(name, 2 / 3 if "dip" in name else 0)
    )  # fmt: skip
    if "7 h later" in name:
        assert np.array_equal(found.ravel()[7:], DAYS[25 : 25 + LASTS].ravel()[:-7])


@pytest.mark.parametrize("rival", RIVALS)
def test_rivals_find_a_turned_day_further_than_an_ordinary_one(rival: str) -> None:
    turned = DAYS.copy()
    turned[30] = EVENTS["turned 7 h later"].of(DAYS, 30)[0]
    assert far(RIVALS[rival], turned, 30) > 1.5 * far(RIVALS[rival], DAYS, 30)
    assert np.isnan(far(RIVALS[rival], DAYS, 6))
    assert np.isnan(z_of(1.0, np.arange(6.0)))


def test_the_task_tells_every_event_beside_every_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "SYNTHETIC_PEOPLE", 2)
    monkeypatch.setattr(shapes, "SYNTHETIC_DAYS", FIRST + 16)
    document = shapes.evaluate(None)
    found = document["backgrounds"]["made-up"]
    assert found["n"] == 2
    ours = found["methods"][shapes.OURS]["1 of 20"]["events"]
    assert ours["turned 7 h later"]["gain"] > 50
    assert ours["+8 /min all day"]["gain"] == 0
    assert found["turned"]["turned 7 h later"]["median"] == 7
    tables = sheets(document)
    assert len(tables[0].rows) == len(EVENTS) * len(shapes.ALLOWED)
    assert all(len(row) == len(sheet.head) for sheet in tables for row in sheet.rows)
