"""Scenarios: the known truth agrees with what is sent, for whatever seed."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.rules import RULES
from services.processor.technical import TECHNICAL
from simulators.lapse import STEPS, step_end
from simulators.patients import Patient
from simulators.scenarios import ADAPTIVE, AT_ONCE, SCENARIOS, Span, at_once, cast, draw
from simulators.series import DAY_MS, HOUR_MS, MINUTE_MS

END_MS = 1_795_305_600_000  # 2026-11-22T00:00:00Z
SPAN = Span(END_MS - 21 * DAY_MS, END_MS)
SEEDS = range(40)


def test_everyone_has_a_story_and_p07_is_well_and_without_temperature() -> None:
    for seed in SEEDS:
        stories = cast(seed, SPAN)
        assert [story.patient for story in stories] == [f"p{i:02d}" for i in range(1, 19)]
        assert {story.name for story in stories} == set(SCENARIOS)
        assert (stories[6].name, stories[6].profile.patch) == ("healthy", False)


def test_the_cast_is_drawn_from_the_seed_alone() -> None:
    one, again, other = ([story.name for story in cast(seed, SPAN)] for seed in (5, 5, 6))
    assert one == again
    assert one != other
    first, second = draw("infection", 5, 3, SPAN), draw("infection", 5, 3, SPAN)
    assert (first.effects, first.expected) == (second.effects, second.expected)


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(ValueError, match="15 are needed"):
        cast(1, SPAN, patients=14)


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_expected_rules_exist_and_lie_within_the_span(name: str) -> None:
    for seed in SEEDS:
        story = draw(name, seed, 4, SPAN)
        for wanted in story.expected:
            assert wanted.rule in (RULES if wanted.kind == "clinical" else TECHNICAL)
            assert SPAN.start_ms < wanted.from_ms < wanted.to_ms
            assert wanted.from_ms < SPAN.end_ms
        assert story.allowed <= set(RULES)
        assert all(wanted.rule in story.allowed for wanted in story.expected if wanted.kind == "clinical")
    assert set(RULES) >= ADAPTIVE


def test_sizes_and_onsets_are_drawn_anew_for_each_seed() -> None:
    for name in ("infection", "desaturation", "fever", "tachycardia"):
        effects = [draw(name, seed, 4, SPAN).effects[0] for seed in SEEDS]
        assert len({effect.size for effect in effects}) == len(SEEDS)
        assert len({effect.start_ms for effect in effects}) > 10


@pytest.mark.parametrize(
    ("name", "metric", "beyond", "within_min"),
    [
        ("desaturation", "spo2", -89.5, 6),
        ("tachycardia", "heart_rate", 135, 11),
        ("fever", "body_temperature", 38.5, 11),
    ],
)
def test_a_safety_scenario_lasts_as_long_as_its_rule_wants(
    name: str, metric: str, beyond: float, within_min: int
) -> None:
    for seed in range(12):
        story = draw(name, seed, 4, SPAN)
        (effect,) = story.effects
        one = Patient(story.profile, story.effects).readings(effect.start_ms, effect.end_ms)[metric]
        bad = one.value <= -beyond if beyond < 0 else one.value >= beyond
        run = np.flatnonzero(np.diff(np.r_[0, bad, 0]))
        longest = max(
            int(one.t_ms[stop - 1] - one.t_ms[start]) for start, stop in zip(run[::2], run[1::2], strict=True)
        )
        assert longest >= within_min * MINUTE_MS


def test_what_can_begin_at_once() -> None:
    for name in AT_ONCE:
        assert at_once(name, END_MS).start_ms == END_MS
    with pytest.raises(KeyError, match="fever"):
        at_once("infection", END_MS)


def test_steps_reach_the_end_and_never_creep() -> None:
    for end_ms in (END_MS, END_MS + 1, END_MS + 13 * MINUTE_MS + 7, END_MS + 5 * HOUR_MS):
        at, steps = SPAN.start_ms, 0
        while at < end_ms:
            following = step_end(at, end_ms)
            assert at < following <= end_ms
            at, steps = following, steps + 1
        assert steps < 140
    assert STEPS[-1][0] == 0
