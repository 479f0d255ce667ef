"""NEWS2 of 5 and more is told when it lasts, and ends on good data only; nothing of it is learned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from detectors.early_occasions import Holds, Timelines
from detectors.early_runs import BRIEF_S, CLEAR_S, GAP_S, PERSIST_S
from detectors.early_warning import EARLY_DTYPE, EarlyWarning
from detectors.explain import patient_sentence, sentence
from detectors.protocol import Finding, Readings, State
from detectors.rules import ADAPTIVE, NEWS2_HIGH
from detectors.scores.observations import MAX_AGE_S, PARAMETERS
from evaluation.early import told

MINUTE = 60
T0 = 1_800_000_000  # seconds; a whole minute
Sets = Sequence[tuple[int, Mapping[str, float]]]  # (seconds from T0 on, what was measured then)
UNWELL = {"respiratory_rate": 24, "spo2": 93, "heart_rate": 125, "systolic_pressure": 101, "body_temperature": 38.4}
WELL = {"respiratory_rate": 16, "spo2": 97, "heart_rate": 70, "systolic_pressure": 120, "body_temperature": 37.0}
NOBODY: Timelines = {}


def readings(sets: Sets, *, at_rest: bool = True, row: int = 0, good: bool = True) -> Readings:
    """The sets as readings of one row."""
    flat = [(t, PARAMETERS.index(key), value) for t, values in sets for key, value in values.items()]
    n = len(flat)
    return Readings(
        np.full(n, row, np.intp), np.array([one[1] for one in flat], np.int16),
        np.array([(T0 + one[0]) * 1000 for one in flat], np.int64), np.array([one[2] for one in flat], np.float32),
        np.full(n, good), np.full(n, at_rest),
    )  # fmt: skip


def feed(sets: Sets, holds: Timelines = NOBODY, state: State | None = None) -> list[Finding]:
    """What one person's sets show."""
    early = EarlyWarning()
    return early.advance(early.new_state(1) if state is None else state, readings(sets), holds)


def every(
    step_min: int, from_min: int, to_min: int, values: Mapping[str, float]
) -> list[tuple[int, Mapping[str, float]]]:
    return [(minute * MINUTE, values) for minute in range(from_min, to_min + 1, step_min)]


def changes(found: Sequence[Finding]) -> list[tuple[str, int, int]]:
    """Of each finding what changed, its level, and the minute it is told."""
    return [(one.change, one.level, (one.at_ms // 1000 - T0) // MINUTE) for one in found]


def test_what_no_single_limit_tells_is_told_with_what_it_is_made_of() -> None:
    (found,) = feed(every(5, 0, 20, UNWELL))
    assert changes([found]) == [("raised", 1, 15)]
    assert NEWS2_HIGH.priority[found.level] == "high"
    evidence = found.evidence
    assert json.loads(json.dumps(evidence, allow_nan=False)) == evidence
    assert (evidence["total"], evidence["known"], evidence["of"], evidence["metric"]) == (8, 5, 7, "heart_rate")
    told = {one["metric"]: (one["state"], one["points"], one["value"], one["age_s"]) for one in evidence["parameters"]}
    assert told == {
        "respiratory_rate": ("known", 2, 24, 0), "spo2": ("known", 2, 93, 0), "heart_rate": ("known", 2, 125, 0),
        "systolic_pressure": ("known", 1, 101, 0), "body_temperature": ("known", 1, 38.4, 0),
        "consciousness": ("missing", None, None, None), "supplemental_oxygen": ("missing", None, None, None),
    }  # fmt: skip
    assert sentence(NEWS2_HIGH.id, evidence) == (
        "NEWS2 came to at least 8 points (5 of 7 parameters known) and was 7 or more for 15 min, never lower for as long "
        "as 5 min (from 08:00 to 08:15): respiratory rate 24 /min (2), oxygen saturation 93 % (2), systolic blood "
        "pressure 101 mmHg (1), heart rate 125 /min (2), body temperature 38.4 °C (1); not known: air or oxygen, "
        "consciousness"
    )
    plain = patient_sentence(NEWS2_HIGH.id, evidence)
    assert plain.startswith("Several of your measurements at rest were unusual together for 15 min")
    assert "NEWS" not in plain


def test_it_is_a_safety_rule_without_a_budget() -> None:
    assert NEWS2_HIGH.kind == "safety"
    assert NEWS2_HIGH.id not in ADAPTIVE


@pytest.mark.parametrize(
    ("rate", "told"),
    [(20, []), (21, [("raised", 0, 15)]), (25, [("raised", 0, 15)])],
)  # fmt: skip
def test_the_thresholds_are_five_and_seven(rate: int, told: list[tuple[str, int, int]]) -> None:
    three = {"spo2": 91}  # a red score alone is a limit's, not this rule's
    assert changes(feed(every(5, 0, 30, {**WELL, **three, "respiratory_rate": rate}))) == told
    seven = {**WELL, **three, "respiratory_rate": rate, "systolic_pressure": 105}
    assert [one[1] for one in changes(feed(every(5, 0, 30, seven)))] == {20: [], 21: [0], 25: [1]}[rate]


def test_a_heart_rate_alone_can_never_come_to_it() -> None:
    assert feed(every(1, 0, 600, {"heart_rate": 190})) == []


def test_single_wrong_values_tell_nothing() -> None:
    fast = {**WELL, "heart_rate": 115, "respiratory_rate": 21}  # 4 points
    once = [(10 * MINUTE, {"spo2": 80.0})]
    without = {key: value for key, value in fast.items() if key != "spo2"}
    assert feed(sorted([*every(1, 0, 60, without), *once], key=lambda one: one[0])) == []  # it stands for an hour
    assert changes(
        feed(sorted([*every(1, 0, 60, without), *once, (30 * MINUTE, {"spo2": 81.0})], key=lambda one: one[0]))
    )
    assert feed(every(1, 0, 9, fast) + [(600, {**fast, "spo2": 80})] + every(1, 11, 60, fast)) == []


def test_lows_shorter_than_five_minutes_do_not_cut_a_run_and_longer_ones_do() -> None:
    better = {**UNWELL, "respiratory_rate": 12, "spo2": 97, "heart_rate": 80}
    flicker = every(1, 0, 6, UNWELL) + every(1, 7, 10, better) + every(1, 11, 20, UNWELL)
    assert changes(feed(flicker)) == [("raised", 1, 15)]
    pause = every(1, 0, 6, UNWELL) + every(1, 7, 12, better) + every(1, 13, 40, UNWELL)
    assert changes(feed(pause)) == [("raised", 1, 28)]
    assert (BRIEF_S, PERSIST_S) == (300, 900)


def test_it_becomes_worse_once_and_says_so() -> None:
    five = {**WELL, "spo2": 91, "respiratory_rate": 22}
    found = feed(every(5, 0, 30, five) + every(5, 35, 90, UNWELL))
    assert changes(found) == [("raised", 0, 15), ("worsened", 1, 50)]
    assert found[1].start_ms == found[0].start_ms


def test_it_ends_after_an_hour_of_good_data_below_five() -> None:
    found = feed(every(5, 0, 30, UNWELL) + every(5, 35, 120, WELL))
    assert changes(found) == [("raised", 1, 15), ("cleared", 1, 95)]
    assert (found[1].at_ms - found[1].evidence["from_ms"]) == CLEAR_S * 1000
    assert sentence(NEWS2_HIGH.id, found[1].evidence) == (
        "NEWS2, with what became too old as it was last, has been below 5 for 60 min (from 08:35 to 09:35); it had been "
        "as high as 8"
    )
    again = feed(every(5, 0, 30, UNWELL) + every(5, 35, 120, WELL) + every(5, 125, 160, UNWELL))
    assert changes(again)[2:] == [("raised", 1, 140)]


def test_what_became_too_old_ends_nothing() -> None:
    """Breathing and saturation are measured no more: the score becomes lower, and nobody knows that they are better."""
    pulse = {"heart_rate": 70.0}
    assert changes(feed(every(5, 0, 30, UNWELL) + every(5, 35, 6000, pulse))) == [("raised", 1, 15)]
    known = feed(
        every(5, 0, 30, UNWELL) + every(5, 35, 6000, pulse) + every(5, 6005, 6100, {**pulse, "respiratory_rate": 14})
    )
    assert changes(known)[1:] == [("cleared", 1, 6065)]  # 2 + 1 + 1 points as they were last


def test_one_good_set_after_a_gap_ends_nothing() -> None:
    late = GAP_S // MINUTE + 60
    assert changes(feed([*every(5, 0, 30, UNWELL), (late * MINUTE, WELL), ((late + 200) * MINUTE, WELL)])) == [
        ("raised", 1, 15)
    ]


def test_a_gap_makes_no_run() -> None:
    assert feed([(0, UNWELL), (GAP_S + 1, UNWELL)]) == []
    assert changes(feed([(0, UNWELL), (GAP_S, UNWELL)])) == [("raised", 1, 60)]


def test_pulse_and_breathing_count_at_rest_only() -> None:
    early = EarlyWarning()
    state = early.new_state(1)
    assert early.advance(state, readings(every(5, 0, 120, UNWELL), at_rest=False)) == []
    kept = state["at"][0]
    assert [key for key, at in zip(PARAMETERS, kept, strict=True) if at] == [
        "spo2",
        "systolic_pressure",
        "body_temperature",
    ]


def test_doubted_readings_count_for_nothing() -> None:
    early = EarlyWarning()
    state = early.new_state(1)
    assert early.advance(state, readings(every(5, 0, 120, UNWELL), good=False)) == []
    assert not any(state.tobytes())


def test_a_pressure_counts_for_twelve_hours_and_its_age_is_told() -> None:
    three = {"respiratory_rate": 22.0, "heart_rate": 112.0}
    low = (0, {"systolic_pressure": 105.0})
    within = MAX_AGE_S["systolic_pressure"] // MINUTE
    (found,) = feed([low, *every(5, within - 15, within + 60, three)])
    assert changes([found]) == [("raised", 0, within)]
    assert "systolic blood pressure 105 mmHg, 12 h old (1)" in sentence(NEWS2_HIGH.id, found.evidence)
    assert feed([low, *every(5, within - 10, within + 60, three)]) == []


def test_it_is_off_where_the_score_does_not_hold_and_an_open_one_still_ends() -> None:
    off = {0: [(0, Holds(off=True))]}
    assert feed(every(5, 0, 60, UNWELL), off) == []
    since = {0: [(0, Holds()), ((T0 + 30 * MINUTE) * 1000, Holds(off=True))]}
    assert changes(feed(every(5, 0, 60, UNWELL) + every(5, 65, 180, WELL), since)) == [
        ("raised", 1, 15), ("cleared", 1, 125),
    ]  # fmt: skip
    begins = {0: [(0, Holds(off=True)), ((T0 + 30 * MINUTE) * 1000, Holds())]}
    assert changes(feed(every(5, 0, 60, UNWELL), begins)) == [("raised", 1, 45)]


def test_scale_2_and_oxygen_at_home_are_the_profile_s() -> None:
    copd = {**WELL, "spo2": 89, "respiratory_rate": 22}  # 3 + 2 on scale 1
    assert len(feed(every(5, 0, 60, copd))) == 1
    assert feed(every(5, 0, 60, copd), {0: [(0, Holds(scale_2=True))]}) == []
    mild = {**WELL, "respiratory_rate": 22, "heart_rate": 100}  # 3, and 2 for oxygen
    assert feed(every(5, 0, 60, mild)) == []
    (found,) = feed(every(5, 0, 60, mild), {0: [(0, Holds(home_oxygen=True))]})
    assert "on oxygen at home (2)" in sentence(NEWS2_HIGH.id, found.evidence)
    measured = {**mild, "supplemental_oxygen": 0.0}  # on air, whatever the profile says
    assert feed(every(5, 0, 60, measured), {0: [(0, Holds(home_oxygen=True))]}) == []


def test_a_row_is_64_bytes() -> None:
    assert EARLY_DTYPE.itemsize == 64


def test_people_who_are_well_hear_little_of_it() -> None:
    assert len(told(20, 3, by_hand=True, home_oxygen=False)) <= 2
