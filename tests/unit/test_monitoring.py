"""The table of monitoring states, and what changes say about an instant."""

from __future__ import annotations

import pytest

from detectors.limits import DEFAULT_LIMITS
from detectors.rules import ADAPTIVE_RULES
from services.monitoring import MAX_AWAY_MS, STATES, lets, refusal
from services.processor.change import HOUR_MS, PatientChange
from services.processor.changes import MAX_CHANGES, Changes
from services.processor.technical import ALL_RULES, TECHNICAL

PATIENT = 7


def monitoring(effective_ms: int, state: str, until_ms: int | None = None, number: int = 0) -> PatientChange:
    payload = {"state": state} | ({} if until_ms is None else {"until_ms": until_ms})
    return PatientChange(effective_ms, number or effective_ms + 1, "monitoring", "", payload, None)


def changes(*of: PatientChange) -> Changes:
    made = Changes()
    made.add(PATIENT, of)
    return made


@pytest.mark.parametrize("state", STATES)
def test_safety_goes_on_in_every_state_but_the_last_two(state: str) -> None:
    gone = state in ("discharged", "deceased")
    assert {lets(state, limit.rule) for limit in DEFAULT_LIMITS} == {not gone}
    assert {lets(state, rule.id) for rule in ADAPTIVE_RULES} == {state == "active"}
    assert lets(state, "device_silent") == lets(state, "not_worn") == (state == "active")
    assert lets(state, "battery_low") != gone
    assert STATES[state].closes == gone


def test_every_rule_has_its_place_and_a_new_one_is_never_kept_quiet_by_a_pause() -> None:
    silent_in_a_pause = {rule for rule in ALL_RULES if not lets("paused", rule)}
    assert silent_in_a_pause == {rule.id for rule in ADAPTIVE_RULES} | {"device_silent", "not_worn"}
    assert {rule for rule in TECHNICAL if lets("paused", rule)} == {"battery_low", "poor_signal", "clock_fault"}
    assert lets("paused", "a_rule_of_tomorrow")


def test_a_pause_needs_a_reason_and_an_end() -> None:
    assert refusal("paused", HOUR_MS, "holiday", 0) is None
    for until, reason, field in ((None, "x", "until"), (HOUR_MS, "", "reason"), (0, "x", "until"),
                                 (MAX_AWAY_MS + 1, "x", "until")):  # fmt: skip
        refused = refusal("paused", until, reason, 0)
        assert refused is not None
        assert refused[0] == field
    assert refusal("active", None, "", 0) is None
    assert refusal("inpatient", None, "fall", 0) is None
    assert (refusal("on_holiday", None, "x", 0) or ("",))[0] == "state"


def test_a_state_ends_by_itself_and_a_later_one_overrules_it() -> None:
    known = changes(monitoring(10, "paused", 50), monitoring(20, "inpatient", 30), monitoring(90, "paused", 99))
    states = {at: known.monitoring(PATIENT, at) for at in (9, 10, 19, 20, 29, 30, 49, 90, 98, 99)}
    assert states == {9: "active", 10: "paused", 19: "paused", 20: "inpatient", 29: "inpatient", 30: "active",
                      49: "active", 90: "paused", 98: "paused", 99: "active"}  # fmt: skip
    assert known.first_told(PATIENT, "device_silent", 12, 200) == 30
    assert known.first_told(PATIENT, "device_silent", 12, 29) is None
    assert known.first_told(PATIENT, "spo2_low", 12, 29) == 12
    assert known.monitoring(8, 20) == "active"


def test_of_two_at_one_instant_the_later_written_counts_whatever_order_they_arrive_in() -> None:
    first, second = monitoring(10, "paused", 50, number=1), monitoring(10, "discharged", number=2)
    for order in ((first, second), (second, first), (second, first, second)):
        made = Changes()
        for change in order:
            made.add(PATIENT, [change])
        assert made.monitoring(PATIENT, 10) == "discharged"
        assert made.closing(PATIENT, 10) == second
        assert made.closing(PATIENT, 9) is None


def test_a_new_normal_takes_effect_with_the_next_full_hour() -> None:
    one = PatientChange(HOUR_MS + 1, 1, "new_normal", "heart_rate", {}, None)
    known = changes(one, monitoring(HOUR_MS, "discharged"))
    assert known.changes_between(PATIENT, "new_normal", 0, 2 * HOUR_MS) == []
    assert known.changes_between(PATIENT, "new_normal", 2 * HOUR_MS, 3 * HOUR_MS) == [one]
    assert known.changes_between(PATIENT, "new_normal", 2 * HOUR_MS + 1, 9 * HOUR_MS) == []


def test_what_is_remembered_of_a_patient_is_bounded() -> None:
    known = changes(*(monitoring(number, "active") for number in range(MAX_CHANGES + 5)))
    assert len(known._of[PATIENT]) == MAX_CHANGES
    known.forget(PATIENT)
    assert not known.any_of(PATIENT)
