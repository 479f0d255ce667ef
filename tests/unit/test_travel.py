"""Another time zone: what is found there is told as ever and says where, and such nights teach no baseline."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors import travel
from detectors.baseline import NIGHT_HEART
from detectors.desaturation import DESATURATION_DTYPE, judge
from detectors.explain import patient_sentence, sentence
from detectors.pipeline import PIPELINE_DTYPE, Pipeline
from detectors.protocol import DAY_MS, HOUR_MS, Finding, HourSlice, State, blank_hour
from detectors.settled import Settled
from ingest.catalogue import catalogue
from services.processor.in_memory import tell
from services.processor.readings import Table
from services.web import present
from tests.unit.people import START_MS, hour_of, nights

PEOPLE: Final = 2
LEAVES: Final = 12  # the day on which, at noon UTC, the local clock jumps
JUMPED: Final = START_MS // DAY_MS + LEAVES


def hours(jump_min: int, days: int, ill: float = 0) -> list[HourSlice]:
    """People whose sleep moves by an hour a day after a jump of the clock, and whose hearts beat faster from then on."""
    made, body = [], 0
    for number in range(24 * days):
        gone = number - LEAVES * 24 - 12
        local = jump_min if gone >= 0 else 0
        if gone > 0 and gone % 24 == 0:
            body += int(np.clip(local - body, -60, 60))
        level = 60 + np.random.default_rng([number // 24, 7]).normal(0, 1.5, PEOPLE) + ill * (gone > 0)
        made.append(replace(hour_of(number, level, offset=body), utc_offset_min=np.full(PEOPLE, local, np.int16)))
    return made


def live(made: list[HourSlice]) -> tuple[list[Settled], State]:
    pipeline = Pipeline()
    state = pipeline.new_state(PEOPLE)
    return [pipeline.settle(state, hour) for hour in made], state


def told(settled: list[Settled]) -> list[Finding]:
    return [finding for one in settled for finding in one.findings if finding.change != "cleared"]


@pytest.mark.parametrize("jump_min", [480, -540])
def test_a_finding_abroad_says_so_and_no_such_night_is_learned(jump_min: int) -> None:
    settled, state = live(hours(jump_min, LEAVES + 16, ill=10))
    rises = [finding for finding in told(settled) if finding.rule == "resting_heart_rate_rise"]
    assert {finding.row for finding in rises} == set(range(PEOPLE))
    for finding in rises:
        said = sentence(finding.rule, finding.evidence)
        assert finding.evidence["zone_since_day"] == JUMPED
        assert said.endswith(" (in another time zone since 27 Oct)")
        assert "zone" not in patient_sentence(finding.rule, finding.evidence)
    found = nights(settled)
    followed = (found.local_day > JUMPED) & (found.local_day <= JUMPED + abs(jump_min) // 60)
    assert followed.sum() >= PEOPLE * (abs(jump_min) // 60 - 1)
    assert not found.used_for_baseline[followed].any()
    assert found.used_for_baseline[found.local_day < JUMPED].mean() > 0.8
    assert (state["zone_since"] == 0).all()
    assert (state["body_min"] == jump_min).all()


def test_the_slow_mean_learns_nothing_there_and_goes_on_afterwards() -> None:
    made = hours(480, LEAVES + 20)
    _, before = live(made[: 24 * LEAVES + 13])
    _, there = live(made[: 24 * (LEAVES + 6)])
    for name in ("mean", "variance", "n"):
        assert there["rise"][name].tolist() == before["rise"][name].tolist()
    assert there["baselines"][:, NIGHT_HEART].tobytes() == before["baselines"][:, NIGHT_HEART].tobytes()
    _, after = live(made)
    assert (after["rise"]["n"] > before["rise"]["n"]).all()
    assert np.abs(after["rise"]["mean"] - before["rise"]["mean"])[:, 0].max() < 1.5


def test_nothing_is_muted_or_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    made = hours(480, LEAVES + 8, ill=10)
    marked = told(live(made)[0])
    monkeypatch.setattr(travel, "JUMP_MIN", 10_000)
    plain = told(live(made)[0])
    assert not any("zone_since_day" in finding.evidence for finding in plain)
    first = {(f.row, f.rule): f.at_ms for f in reversed(marked)}
    assert plain
    for finding in plain:
        assert first[finding.row, finding.rule] <= finding.at_ms


@pytest.mark.parametrize("jump_min", [0, 60, 120, -120, 23 * 60])  # 23 hours: across the date line, an hour
def test_a_small_jump_is_none(jump_min: int) -> None:
    made = hours(jump_min if abs(jump_min) < 200 else 0, LEAVES + 4)
    if abs(jump_min) > 200:
        made = [replace(h, utc_offset_min=np.where(h.hour_ms > START_MS + LEAVES * DAY_MS, -660, 720).astype(np.int16))
                for h in made]  # fmt: skip
    settled, state = live(made)
    assert (state["zone_since"] == 0).all()
    assert not any("zone_since_day" in finding.evidence for one in settled for finding in one.findings)


def test_a_page_shows_the_day_as_people_write_it() -> None:
    shown = present.evidence(
        {"day": 20_779, "zone_since_day": 20_776}, "Europe/Berlin", datetime(2026, 11, 22, tzinfo=UTC)
    )
    assert shown == [("Day", "22 Nov 2026"), ("In another time zone since", "19 Nov 2026")]


def test_who_lives_far_from_greenwich_has_not_travelled() -> None:
    pipeline = Pipeline()
    state = pipeline.new_state(2)
    for number in range(30):
        hour = hour_of(number, np.full(2, 60.0), offset=600)
        pipeline.settle(state, replace(hour, utc_offset_min=np.array([600, -480], np.int16)))
        assert not travel.abroad(state).any()


def test_who_is_back_before_the_body_followed_was_never_away() -> None:
    state = np.zeros(1, PIPELINE_DTYPE)
    for number, offset in enumerate([60, 480, 480, 60]):
        travel.arrive(state, blank_hour([0], [START_MS + number * HOUR_MS], [offset]), np.array([number == 0]))
        assert bool(travel.abroad(state)[0]) == (offset == 480)


@given(st.lists(st.tuples(st.integers(-720, 840), st.integers(1, 3)), min_size=1, max_size=30))
def test_a_body_is_never_away_for_longer_than_the_hours_between_the_zones(journey: list[tuple[int, int]]) -> None:
    """Whatever came before: once somebody stays, the body has followed after twelve days at the most."""
    state = np.zeros(1, PIPELINE_DTYPE)
    day = START_MS // DAY_MS
    for offset, days in [*journey, (journey[-1][0], 12)]:
        travel.arrive(state, blank_hour([0], [day * DAY_MS], [offset]), np.array([day == START_MS // DAY_MS]))
        day += days
        travel.follow(state, np.array([days], "i4"), np.array([offset], "i4"))
    assert not travel.abroad(state)[0]


def test_any_cut_of_the_minutes_gives_the_same() -> None:
    made = hours(480, LEAVES + 3)[24 * (LEAVES - 2) :]
    cut = []
    for number, hour in enumerate(made):
        at = np.full(PEOPLE, 1 + number * 7 % 59, hour.first.dtype)
        cut += [replace(hour, last=at), replace(hour, first=at)]
    whole, parts = live(made), live(cut)
    assert whole[1].tobytes() == parts[1].tobytes()
    assert [f.evidence for f in told(whole[0])] == [f.evidence for f in told(parts[0])]


def test_falls_of_oxygen_abroad_are_told_and_not_learned() -> None:
    state = np.zeros(2, DESATURATION_DTYPE)
    for _ in range(5):
        state["readings"], state["minutes"], state["falls"] = 450, 450, 1
        judge(state, np.array([True, False]))
    assert state["nights"].tolist() == [5, 0]
    state["readings"], state["minutes"], state["falls"] = 450, 450, 150
    assert judge(state, np.zeros(2, bool)).changes["raised"].tolist() == [True, True]


def test_the_processor_tells_it_in_the_alert() -> None:
    """Through the processor's own code: readings every two minutes and a jump of the frames' offset."""
    t_ms = START_MS + 120_000 * np.arange((LEAVES + 6) * 720, dtype=np.int64)
    jump_ms = START_MS + LEAVES * DAY_MS + DAY_MS // 2
    body_ms = t_ms + np.where(t_ms < jump_ms, 0, np.minimum((t_ms - jump_ms) // DAY_MS, 8) * HOUR_MS)
    asleep = np.isin(body_ms // HOUR_MS % 24, [23, *range(7)])
    value = 60 + 14 * ~asleep + np.random.default_rng(3).normal(0, 1.5, len(t_ms))
    zero = np.zeros(len(t_ms), np.int32)
    table = Table(
        zero.astype(np.intp), zero + 1, np.full(len(t_ms), catalogue()["heart_rate"].id, np.int16), t_ms,
        value.astype(np.float32), zero.astype(np.uint8), zero,
    )  # fmt: skip
    (alerts,) = tell([table], [[(START_MS, 0), (jump_ms, 480)]])
    (rise,) = (row for row in alerts if row.rule == "resting_heart_rate_rise")
    assert rise.sentence.endswith(" (in another time zone since 27 Oct)")
