"""A fast gain of weight: told when seen twice, ended by weights and never by a gap, of the wearer's own days."""

from __future__ import annotations

import json

import numpy as np
import pytest

from detectors.explain import patient_sentence, sentence
from detectors.protocol import DAY_MS, HOUR_MS, MINUTE_MS, Finding, Readings, State
from detectors.rules import ADAPTIVE, WEIGHT_GAIN, WHY_OFF
from detectors.weight_gain import WEIGHT, WEIGHT_DTYPE, WeightGain
from evaluation.weights import Way, gaining, well
from ingest.clock import to_datetime
from services.profile import Profile, conditions
from services.web import present

T0 = 20_500 * DAY_MS
MORNING = 7 * HOUR_MS
Weighed = tuple[int, float]  # ms from T0 on, kg


def mornings(*kilograms: float | None) -> list[Weighed]:
    """A reading each morning; None: not weighed."""
    return [(day * DAY_MS + MORNING, kg) for day, kg in enumerate(kilograms) if kg is not None]


def feed(weighed: list[Weighed], state: State | None = None, ahead_min: int = 0) -> list[Finding]:
    gains, n = WeightGain(), len(weighed)
    readings = Readings(
        np.zeros(n, np.intp), np.full(n, WEIGHT, np.int16), np.array([T0 + t for t, _ in weighed], np.int64),
        np.array([kg for _, kg in weighed], np.float32), np.ones(n, bool), np.ones(n, bool),
    )  # fmt: skip
    return gains.advance(gains.new_state(1) if state is None else state, readings, np.full(n, ahead_min, np.int16))


def told(*kilograms: float | None) -> list[tuple[str, int]]:
    """What changed on which morning."""
    return [(one.change, (one.at_ms - T0) // DAY_MS) for one in feed(mornings(*kilograms))]


def test_it_is_a_safety_rule_of_22_bytes_and_off_in_dialysis() -> None:
    assert (WEIGHT_GAIN.kind, WEIGHT_GAIN.priority) == ("safety", ("medium", "high"))
    assert WEIGHT_GAIN.id not in ADAPTIVE
    assert WEIGHT_DTYPE.itemsize == 22
    assert set(WEIGHT_GAIN.not_for) == conditions(Profile(dialysis=True), 0) - {"no_oxygen_target"}
    assert "dialyses" in WHY_OFF["dialysis"]


@pytest.mark.parametrize(
    ("kilograms", "changes"),
    [
        ((80.1, 80.1, 82.1, 82.1), []),  # exactly 2 kg is not more than 2 kg
        ((80.1, 80.1, 82.2, 82.2), [("raised", 3)]),
        ((80.1, 80.2, 80.3, 82.2), []),  # one reading is none
        ((80.0, 80.9, 81.8, 82.7, 83.6), [("raised", 4)]),
        ((80.0, 80.7, 81.4, 82.1, 82.8, 83.5), [("raised", 4)]),
        ((80.0, None, 82.4, 82.5), [("raised", 3)]),
        ((80.0, None, None, None, 84.0, 84.0), []),  # nothing in the three days before
        ((80.0, None, None, 83.0, 83.0, 83.0), [("raised", 4)]),  # the low day is out of the three before by then
        ((80.0, None, None, 84.0, None, None, 84.0, None, None, 84.0), [("raised", 6)]),  # each third day
        ((80.0, None, None, 83.0, None, None, None, 83.0), []),  # nor is the first sight: nobody knows
        ((80.0, None, None, 83.0, 81.9, 82.1), [("raised", 5)]),
        ((80.0, None, None, 83.0, 81.9, 82.0), []),
        ((80.0, 83.0, 80.1, 80.0, 81.9, 82.2, 82.2), [("raised", 6)]),  # the first sight is four days old
        ((80.0, 80.0, 83.0, 80.0, 80.0), []),  # somebody else stood on the scale
        ((80.0, 80.0, 25.0, 80.0, 80.0, 80.0), []),  # a child did: its weight is no base
        ((80.0, 80.0, 100.0, 80.0, 80.0), []),
        (tuple(np.arange(80, 82, 0.1)), []),  # two kilograms in three weeks are not fast
    ],
)
def test_more_than_two_kilograms_in_three_days_seen_twice(
    kilograms: tuple[float | None, ...], changes: list[tuple[str, int]]
) -> None:
    assert told(*kilograms) == changes


def test_a_repeat_within_the_hour_confirms_and_one_that_came_by_two_ways_or_in_the_evening_does_not() -> None:
    first = [*mornings(80.2, 80.1, 80.0), (3 * DAY_MS + MORNING, 82.6)]
    at = first[-1][0]
    assert [one.change for one in feed([*first, (at + 5 * MINUTE_MS, 82.4)])] == ["raised"]
    assert feed([*first, (at + 5 * MINUTE_MS, 80.4)]) == []
    assert feed([*first, (at + 400, 82.6)]) == []
    assert feed([*first, (at + 10 * HOUR_MS, 82.9)]) == []
    assert feed([*first, (at + 23_000, 82.6)]) == []  # by a telephone that cuts seconds off
    assert feed([*first, (at + 23_000, 82.6), (at + 60_000, 82.6)]) == []
    assert [one.change for one in feed([*first, (at + 23_000, 82.5)])] == ["raised"]
    assert [one.change for one in feed([*first, (at + 61_000, 82.6)])] == ["raised"]
    (found,) = feed([*first, (at + 20_000, 82.5), (at + 43_000, 82.5)])  # the second one's copy
    assert found.evidence["n"] == 2


def test_it_ends_near_the_base_on_two_days_or_after_seven_weighings_without_a_rise_and_by_no_gap() -> None:
    risen = (80.0, 82.5, 82.5)
    assert told(*risen, 81.0, 81.0) == [("raised", 2), ("cleared", 4)]
    assert told(*risen, 81.0, 82.6, 81.0) == [("raised", 2)]
    assert told(*risen, 25.0, 82.5) == [("raised", 2)]  # one low reading ends nothing
    assert told(*risen, *[82.5] * 8) == [("raised", 2), ("cleared", 10)]  # day 3 is such a rise still
    assert told(*risen, *[None] * 90) == [("raised", 2)]
    assert told(*risen, *[None] * 90, 80.2) == [("raised", 2)]
    assert told(*risen, *[None] * 90, 80.2, 80.1) == [("raised", 2), ("cleared", 94)]
    assert told(*risen, *[83.4] * 7, 83.4) == [("raised", 2), ("cleared", 10)]
    weekly = [7 * day * DAY_MS + MORNING for day in range(1, 9)]
    (over,) = feed([(t, 82.5) for t in weekly], risen_state(risen))  # once a week, and no higher than told
    assert (over.change, over.at_ms) == ("cleared", T0 + weekly[6])
    assert feed([(t, 82.6) for t in weekly], risen_state(risen)) == []  # with nothing to compare with: who knows


def test_it_does_not_end_while_the_weight_rises_on() -> None:
    on = (80.0, 82.5, 82.5, *(82.5 + 0.6 * np.arange(1, 20)))
    assert told(*on) == [("raised", 2)]
    assert told(*on[:6], *[83.6] * 7) == [("raised", 2)]  # 1.1 kg above what was told
    assert told(*on[:6], *[83.5] * 7) == [("raised", 2), ("cleared", 12)]


def test_another_gain_on_top_of_it_is_told_as_worse_once() -> None:
    risen = (80.0, 83.0, 83.0, 83.0, 83.0)
    assert told(*risen, 87.0, 87.0) == [("raised", 2), ("worsened", 6)]
    assert told(*risen, 87.0, 87.0, 87.0, 87.0, 91.0, 91.0) == [("raised", 2), ("worsened", 6)]
    assert told(*risen, 87.0, 83.0, 83.0, 83.0) == [("raised", 2)]  # seen once
    assert told(*risen, None, None, 87.0, None, 87.0) == [("raised", 2), ("worsened", 9)]
    assert told(80.0, 83.0, 83.0, 81.0, 84.0, 84.0) == [("raised", 2)]  # back at the base, and up again: it is told
    assert told(80.0, 83.0, 83.0, 81.0, 85.1, 85.1) == [("raised", 2), ("worsened", 5)]  # 2.1 kg above what was told
    assert told(80.0, 82.1, 84.2, 86.3, 88.4, 90.5) == [("raised", 2), ("worsened", 4)]
    assert told(*risen, 87.0, 87.0, *[88.0] * 12) == [("raised", 2), ("worsened", 6), ("cleared", 14)]
    first, worse = feed(mornings(*risen, 87.0, 87.2))
    assert (worse.start_ms, worse.level, worse.evidence["base"]) == (first.start_ms, 1, 83.0)
    assert sentence(WEIGHT_GAIN.id, worse.evidence) == (
        "Weight rose further, by 4.2 kg, from 83 kg on 20 Feb to 87.2 kg on 22 Feb: more than 2 kg in 3 days, seen on "
        "two days"
    )


def risen_state(kilograms: tuple[float, ...]) -> State:
    state = WeightGain().new_state(1)
    assert [one.change for one in feed(mornings(*kilograms), state)] == ["raised"]
    return state


def test_after_an_end_it_is_told_anew_of_a_new_rise() -> None:
    changes = told(80.0, 82.5, 82.5, *[82.5] * 8, 85.0, 85.1)
    assert changes == [("raised", 2), ("cleared", 10), ("raised", 12)]
    assert told(80.0, 82.5, 82.5, 80.1, 80.1, 83.0, 83.0)[2:] == [("raised", 6)]


def test_days_are_those_of_the_wearers_clock() -> None:
    late = [(23 * HOUR_MS, 80.0), (23 * HOUR_MS + 40 * MINUTE_MS, 82.5), (24 * HOUR_MS + 10 * MINUTE_MS, 82.6)]
    assert feed(late) == []  # two weighings of two days; the first one's middle is 81.25
    (found,) = feed([*mornings(80.0), (DAY_MS + 22 * HOUR_MS, 82.5), (DAY_MS + 23 * HOUR_MS, 82.6)], ahead_min=60)
    assert not found.evidence["same_weighing"]  # 23:00 and 0:00 there: two days
    assert (found.evidence["day"], found.evidence["from_day"]) == (20_502, 20_500)
    west = WeightGain().new_state(1)
    assert feed(mornings(80.0, 80.1), west) == []
    day = west["first"][0]
    assert feed([(DAY_MS + MORNING + 2 * HOUR_MS, 90.0)], west, ahead_min=-600) == []  # yesterday there: no new day
    assert west["first"][0] == day


def test_evidence_is_plain_and_sentences_say_from_what_to_what() -> None:
    (found,) = feed(mornings(80.1, 80.2, 82.4, 82.5))
    assert (found.start_ms, found.at_ms) == (T0 + 2 * DAY_MS + MORNING, T0 + 3 * DAY_MS + MORNING)
    assert json.loads(json.dumps(found.evidence)) == found.evidence
    assert sentence(WEIGHT_GAIN.id, found.evidence) == (
        "Weight rose by 2.4 kg, from 80.1 kg on 16 Feb to 82.5 kg on 19 Feb: more than 2 kg in 3 days, seen on two days"
    )
    names = [name for name, _ in present.evidence(found.evidence, "UTC", to_datetime(0))]
    assert "May be another person or another scale" not in names, "that it is neither is not known"
    assert names.index("Which was weighed on") == names.index("Counted from") + 1
    (jump,) = feed([*mornings(80.0, 101.3), (DAY_MS + MORNING + MINUTE_MS, 101.4)])
    assert patient_sentence(WEIGHT_GAIN.id, jump.evidence) == (
        "Your weight rose by 21.35 kg, from 80 kg on 16 Feb to 101.35 kg on 17 Feb: more than 2 kg in 3 days, seen in "
        "two readings of one weighing; so large a jump may also be another person or another scale"
    )
    shown = dict(present.evidence(jump.evidence | {"limit_set_by": "patient"}, "UTC", to_datetime(0)))
    assert shown["May be another person or another scale"] == "yes"
    assert (shown["Value"], shown["Counted from"], shown["Gain"]) == ("101.35", "80", "21.35"), "as the sentence has it"
    assert shown["Whose limit"] == "this patient's own", "whoever set it, it was not the patient"
    near, calm = (feed(mornings(80.0, 82.5, 82.5, *then))[-1] for then in ((80.9, 80.9), [82.5] * 8))
    assert sentence(WEIGHT_GAIN.id, near.evidence) == (
        "Weight was 80.9 kg on 20 Feb, in two weighings in a row no more than 1 kg above the 80 kg from which it had "
        "risen"
    )
    assert sentence(WEIGHT_GAIN.id, calm.evidence) == (
        "Weight was 82.5 kg on 26 Feb and has not risen further in the last 7 weighings; it had risen from 80 kg"
    )


def test_what_the_scale_doubts_and_what_is_no_weight_counts_for_nothing() -> None:
    gains, state = WeightGain(), WeightGain().new_state(1)
    kilograms = np.array([80, 83, 83, np.nan, 0], np.float32)
    n = len(kilograms)
    doubted = Readings(
        np.zeros(n, np.intp), np.full(n, WEIGHT, np.int16), T0 + DAY_MS * np.arange(n), kilograms,
        np.array([True, False, False, True, True]), np.ones(n, bool),
    )  # fmt: skip
    assert gains.update(state, doubted) == []
    assert state["today"][0].tolist() == [8000, 0]


def test_people_whose_weight_stays_are_seldom_told_of_and_large_gains_nearly_always() -> None:
    found = well(Way(0.6), people=100)
    assert 0 < found["a_week"] < 0.03
    assert found["once_a_week"] > 5 * found["a_week"]  # what one reading alone would come to
    assert gaining(Way(0.4), 4.0, 3, people=100)["told"] > 0.95
    assert gaining(Way(0.4), 2.0, 21, people=100)["told"] < 0.05  # slow: the trends over weeks show it
