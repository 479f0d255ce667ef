"""What layers say of the rules against the own normal: which counts, within which range, and since when."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from detectors.choices import ALL_TOGETHER, Choice
from detectors.drift import WATCHED
from detectors.rules import DRIFTS, RULES
from services import adaptive, layer, limits
from services.api import chosen
from services.impossible import ImpossibleError
from services.layer import Own
from services.processor import individual
from services.processor.change import PatientChange
from services.processor.changes import Changes
from services.programme import checked as programme_checked
from services.programme import plain
from services.rules.effect import choice_at, rules_changed


def own(**rules: Any) -> Own:
    return limits.checked(rules)


def said(at_ms: int, number: int, subject: str, **rules: Any) -> PatientChange:
    return PatientChange(at_ms, number, "limits", subject, {"rules": layer.plain(own(**rules))}, None)


ORGANISATION = own(heart_rate_drift={"bound": 6}, spo2_drift={"bound": 3}, adaptive_rules={"alert_budget": 0.3})
COPD = own(spo2_drift={"bound": 1.5}, adaptive_rules={"alert_budget": "0.1"}, spo2_low={"levels": [88, 84]})
HEART = own(spo2_drift={"bound": 2.5}, hrv_rmssd_drift={"bound": 20}, adaptive_rules={"alert_budget": 0.2})
PATIENT = own(spo2_drift={"bound": 4})


def test_each_layer_comes_over_the_one_before_and_of_two_programmes_the_one_that_speaks_sooner_counts() -> None:
    choice = adaptive.effective(limits.in_order(ORGANISATION, [COPD, HEART], {}))
    assert choice.budget == "0.2"
    assert adaptive.bounds_of(choice) == {
        "heart_rate_drift": 6, "spo2_drift": 1.5, "respiratory_rate_drift": 3, "hrv_rmssd_drift": 20,
    }  # fmt: skip
    assert choice.set_by == {
        "heart_rate_drift": "organisation", "spo2_drift": "programme", "hrv_rmssd_drift": "programme",
        ALL_TOGETHER: "programme",
    }  # fmt: skip
    assert adaptive.effective(limits.in_order(ORGANISATION, [HEART, COPD], {})) == choice
    last = adaptive.effective(limits.in_order(ORGANISATION, [COPD], PATIENT))
    assert (adaptive.bounds_of(last)["spo2_drift"], last.set_by["spo2_drift"], last.budget) == (4, "patient", "0.1")
    assert adaptive.effective(limits.in_order({}, [], {})) == Choice()
    assert adaptive.effective(limits.in_order(ORGANISATION, [], {})) is adaptive.effective(
        limits.in_order(dict(ORGANISATION), [], own(fever={"levels": [38, 39]}))
    ), "the same numbers, the same object"


def test_no_limit_knows_of_them() -> None:
    plain_limits = limits.effective({}, [], {}, None, frozenset())
    assert limits.effective(ORGANISATION, [HEART], PATIENT, None, frozenset()) is plain_limits
    assert limits.effective(ORGANISATION, [COPD], PATIENT, None, frozenset()).origin == {"spo2_low": "programme"}
    limits.must_hold(PATIENT, frozenset({"under_16"}))


def test_everybodys_bounds_lie_within_what_a_layer_can_say_and_every_drift_has_a_range() -> None:
    assert [*adaptive.DRIFT_BOUNDS] == [rule.id for rule in DRIFTS]
    for rule, one in zip(DRIFTS, WATCHED, strict=True):
        low, high = adaptive.DRIFT_BOUNDS[rule.id]
        assert low < one.bound < high
        assert adaptive.USUAL_BOUNDS[rule.id] == one.bound
    assert not {*adaptive.RULES} & {*limits.LIMITS}
    assert ALL_TOGETHER not in RULES


@pytest.mark.parametrize(
    ("field", "rules"),
    [
        ("spo2_drift.bound", {"spo2_drift": {"bound": 0.9}}),
        ("spo2_drift.bound", {"spo2_drift": {"bound": 4.1}}),
        ("heart_rate_drift.bound", {"heart_rate_drift": {"bound": 16}}),
        ("respiratory_rate_drift.bound", {"respiratory_rate_drift": {"bound": 1}}),
        ("hrv_rmssd_drift", {"hrv_rmssd_drift": {"bound": None}}),
        ("spo2_drift.levels", {"spo2_drift": {"levels": [2, 4]}}),
        ("spo2_drift.alert_budget", {"spo2_drift": {"alert_budget": 0.1}}),
        ("spo2_drift", {"spo2_drift": {}}),
        ("spo2_drift", {"spo2_drift": {"bound": "2"}}),
        ("adaptive_rules.alert_budget", {"adaptive_rules": {"alert_budget": 0.15}}),
        ("adaptive_rules.alert_budget", {"adaptive_rules": {"alert_budget": 0.20000001}}),
        ("adaptive_rules.alert_budget", {"adaptive_rules": {"alert_budget": 1}}),
        ("adaptive_rules.alert_budget", {"adaptive_rules": {"alert_budget": ""}}),
        ("adaptive_rules", {"adaptive_rules": {"alert_budget": True}}),
        ("adaptive_rules", {"adaptive_rules": {}}),
        ("adaptive_rules.bound", {"adaptive_rules": {"bound": 2}}),
        ("spo2_low.bound", {"spo2_low": {"bound": 2}}),
        ("rules", {"resting_heart_rate_rise": {"alert_budget": 0.1}}),
    ],
)
def test_what_no_layer_can_say_is_refused_by_its_field(field: str, rules: dict[str, Any]) -> None:
    with pytest.raises(ImpossibleError) as refused:
        limits.checked(rules)
    assert (refused.value.field, bool(refused.value.allowed)) == (field, True)


def test_a_stored_layer_comes_back_and_a_budget_is_kept_as_a_word_whichever_way_it_is_said() -> None:
    for one in (ORGANISATION, COPD, HEART, PATIENT):
        assert layer.of({"rules": layer.plain(one)}) == one
    assert own(adaptive_rules={"alert_budget": "0.3"}) == own(adaptive_rules={"alert_budget": 0.3})
    stored = plain(programme_checked({"name": "COPD", "limits": {"adaptive_rules": {"alert_budget": 0.2}}}))
    assert stored["limits"] == {"adaptive_rules": {"alert_budget": "0.2"}}
    assert programme_checked({"name": "COPD"}).alert_budget == 1.0, "what a team agreed to is another number"


CHANGES = [
    said(100, 1, "organisation", spo2_drift={"bound": 3}),
    said(200, 2, "programme/copd", spo2_drift={"bound": 1}, adaptive_rules={"alert_budget": 0.2}),
    PatientChange(250, 3, "profile", "", {"night_work": True}, None),
    said(300, 4, "programme/copd"),
]


def test_what_holds_changes_in_event_time() -> None:
    assert [choice_at(CHANGES, at).bounds[1] for at in (99, 100, 199, 200, 299, 300)] == [None, 3, 3, 1, 1, 3]
    assert [choice_at(CHANGES, at).budget for at in (100, 200, 300)] == [None, "0.2", None]
    changes = Changes()
    changes.add(7, CHANGES[:3])
    changes.add(7, CHANGES[3:])
    assert changes.choices[7] == individual.choices(CHANGES)
    assert [changes.chosen_at(7, at).budget for at in (199, 250, 400)] == [None, "0.2", None]
    changes.forget(7)
    assert (changes.choices, changes.chosen_at(7, 250)) == ({}, Choice())
    changes.add(8, [CHANGES[2], said(300, 5, "patient", fever={"levels": [38, 39]})])
    assert not changes.choices, "of whom nobody chose anything nothing is kept"


def test_what_a_file_changes_for_somebody() -> None:
    tried = own(spo2_drift={"bound": 2}, hrv_rmssd_drift={"bound": 10}, adaptive_rules={"alert_budget": 0.3})
    assert rules_changed([], "organisation", tried, 0) == ["hrv_rmssd_drift", ALL_TOGETHER], "2 is everybody's"
    assert rules_changed(CHANGES, "organisation", tried, 350) == [ALL_TOGETHER], "at night no drift holds for who works"
    assert rules_changed(CHANGES[:2], "organisation", tried, 250) == ["hrv_rmssd_drift"], (
        "the programme's comes over it"
    )
    paced = PatientChange(0, 9, "profile", "", {"pacemaker": True}, None)
    assert rules_changed([paced], "patient", tried, 10) == [ALL_TOGETHER]


def test_how_it_is_shown() -> None:
    assert doctest.testmod(chosen).failed == 0
    assert chosen.sentence(adaptive.effective(limits.in_order(ORGANISATION, [], PATIENT))) == (
        " Against the own normal: drift of resting heart rate told from 6 /min (the organisation's), drift of oxygen "
        "saturation at night told from 4 % (this patient's own), alert budget 0.3 incidents a patient-week "
        "(the organisation's)."
    )
    assert chosen.sentence(Choice()) == ""
