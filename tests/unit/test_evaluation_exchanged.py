"""Devices that change their wearer: whose readings come when, and what counts as noticed."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.exchanged import WORN_DAYS, Exchange, after_return, evaluate, exchange, noticed, worn_by
from evaluation.heard import Alert, Heard, Nights
from evaluation.injected import Subject
from evaluation.injector import QUIET_DAYS
from evaluation.tables import sheets
from services.cli.evaluate_stream import process
from simulators.series import DAY_MS, HOUR_MS, MINUTE_MS, Series

START_MS = 1_760_486_400_000
DAYS = 60


def person(name: str, rate: float, offset_min: int = 0, first: int = 0, days: int = DAYS) -> Subject:
    t_ms = START_MS + first * DAY_MS + np.arange(days * 144) * 10 * MINUTE_MS
    streams = {"heart_rate": Series(t_ms, np.full(len(t_ms), rate, np.float32), np.zeros(len(t_ms), np.uint8))}
    return Subject(name, streams, offset_min, None)


def heard(*asked: tuple[int, int | None]) -> Heard:
    none = np.zeros(0)
    alerts = [Alert("wearer_in_doubt", "technical", found, found, ended) for found, ended in asked]
    whole = np.zeros(0, np.int32)
    return Heard(alerts, Nights(whole, none, none, none, whole, none, none > 0), np.zeros(0, np.int64))


def test_the_others_readings_come_from_noon_on_for_two_weeks_at_their_own_local_times() -> None:
    people = [person("a", 60), person("b", 80, offset_min=120, first=5)]
    event = exchange(people, 0, 1)
    assert event is not None
    assert event == exchange(people, 0, 1)
    assert event.start_ms % DAY_MS == 12 * HOUR_MS
    assert START_MS + QUIET_DAYS * DAY_MS <= event.start_ms
    mixed = worn_by(people[0], people[1], event)["heart_rate"]
    assert (np.diff(mixed.t_ms) > 0).all()
    inside = (mixed.t_ms >= event.start_ms) & (mixed.t_ms < event.end_ms)
    assert set(mixed.value[inside]) == {80}
    assert inside.sum() == WORN_DAYS * 144
    assert set(mixed.value[~inside]) == {60}
    assert exchange([people[0]], 0, 1) is None  # nobody else there
    assert exchange([people[0], person("short", 70, days=QUIET_DAYS)], 0, 1) is None


@pytest.mark.parametrize(("hours", "night"), [(0, None), (22, 1), (46, 2), (14 * 24, 14), (14 * 24 + 1, None)])
def test_what_is_asked_while_the_other_wears_it_is_noticed(hours: int, night: int | None) -> None:
    event = Exchange(1, START_MS, START_MS + WORN_DAYS * DAY_MS)
    assert noticed(heard((START_MS + hours * HOUR_MS, None)), event) == night


def test_it_ends_in_a_night_of_their_own() -> None:
    event = Exchange(1, START_MS, START_MS + WORN_DAYS * DAY_MS)
    asked = START_MS + DAY_MS
    assert after_return(heard((asked, event.end_ms + 46 * HOUR_MS)), event) == 2
    assert after_return(heard((asked, None)), event) is None


def test_the_task_is_told_as_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.exchanged.background", lambda: [("a", person("a", 60).streams, 0)])
    document = evaluate(None, process)
    assert document["backgrounds"]["synthetic"]["exchanges"] == 0
    assert document["backgrounds"]["synthetic"]["false"]["nothing"]["asked"] == 0
    assert len(sheets(document)) == 2
