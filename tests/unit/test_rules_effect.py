"""What a layer makes of a patient's changes, and how two runs of alerts are compared."""

from __future__ import annotations

import doctest
import importlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.protocol import HOUR_MS
from services.layer import Own
from services.limits import checked
from services.processor.change import PatientChange
from services.rules.compare import BUSIEST, Alert, Comparison, Tried, compared, incidents
from services.rules.effect import as_now, limits_at, rules_changed, with_layer

NOW = 1_000


def said(at_ms: int, number: int, subject: str, **rules: Any) -> PatientChange:
    return PatientChange(at_ms, number, "limits", subject, {"rules": rules}, None)


def layer(**rules: Any) -> Own:
    return checked(rules)


def mildest(changes: list[PatientChange], at_ms: int) -> float:
    return limits_at(changes, at_ms).limits[0].levels[0][0]


PROFILE = PatientChange(50, 1, "profile", "", {"pacemaker": True}, None)
CHANGES = [
    said(0, 2, "organisation", spo2_low={"levels": [91, 86]}),
    PROFILE,
    said(200, 3, "organisation", spo2_low={"levels": [92, 87]}),
    said(700, 4, "organisation", spo2_low={"levels": [93, 88]}),
    said(2_000, 5, "organisation", spo2_low={"levels": [94, 89]}),
]


def test_from_an_instant_on_the_layers_are_what_they_are_now_and_before_it_what_they_were() -> None:
    present = as_now(CHANGES, 300, NOW)
    assert [mildest(present, at) for at in (-1, 0, 250, 299, 300, 900, 3_000)] == [90, 91, 92, 92, 93, 93, 93]
    assert PROFILE in present
    assert as_now(CHANGES, 800, NOW) == CHANGES[:-1]
    assert as_now([PROFILE], 10, NOW) == [PROFILE], "a profile stays where it was"


def test_a_layer_takes_the_place_of_its_own_from_its_instant_on() -> None:
    tried = with_layer(CHANGES, "organisation", layer(spo2_low={"levels": [80, 75]}), 700)
    assert [mildest(tried, at) for at in (0, 250, 699, 700, 3_000)] == [91, 92, 92, 80, 80]
    own = with_layer(CHANGES, "patient", layer(spo2_low={"levels": [85, 80]}), 700)
    assert [mildest(own, at) for at in (250, 700, 3_000)] == [92, 85, 85]
    assert mildest(with_layer(own, "organisation", {}, 0), 900) == 85


def test_a_rule_changes_only_for_whom_no_later_layer_says_it_and_whom_it_holds_for() -> None:
    rules = layer(spo2_low={"levels": [89, 84]}, bradycardia={"levels": [40, 30]})
    child = PatientChange(0, 9, "profile", "", {"age_band": "under_16", "adult_limits": "off"}, None)
    own = said(0, 8, "patient", spo2_low={"levels": [85, 80]})
    assert rules_changed([], "organisation", rules, NOW) == ["spo2_low", "bradycardia"]
    assert rules_changed([own], "organisation", rules, NOW) == ["bradycardia"]
    assert rules_changed([child], "organisation", rules, NOW) == ["spo2_low"]
    assert rules_changed([said(0, 7, "organisation", **CHANGES[0].payload["rules"])], "organisation", {}, NOW) == [
        "spo2_low"
    ]


@st.composite
def alerts(draw: st.DrawFn) -> list[Alert]:
    """Alerts as one run has them, in any order: those of a rule never overlap, the last may be open."""
    found = []
    for rule in ("fever", "spo2_low"):
        marks = sorted(draw(st.sets(st.integers(0, 60), max_size=10)))
        found += [Alert(rule, "medium", start, end) for start, end in zip(marks[::2], marks[1::2], strict=False)]
        found += [Alert(rule, "high", marks[-1], None)] if len(marks) % 2 else []
    return draw(st.permutations(found))


@given(alerts(), alerts())
def test_each_alert_is_kept_gained_or_lost(before: list[Alert], after: list[Alert]) -> None:
    gained, lost = compared(before, after)
    assert set(gained) <= set(after)
    assert set(lost) <= set(before)
    assert compared(before, before) == ([], [])
    assert {*map(len, compared(after, before))} == {len(gained), len(lost)}
    assert incidents(before) <= len(before)
    assert incidents([*before, *after]) <= incidents(before) + incidents(after)
    for one in gained:
        assert all(_apart(one, other) for other in lost), "both of one rule at one time: they are the same"
    comparison = Comparison(show=2)
    comparison.add("p1", Tried(7, before, after))
    told = comparison.document()
    assert told["gained"]["alerts"] - told["lost"]["alerts"] == len(after) - len(before)
    assert len(told["gained"]["shown"]) == min(2, len(gained))
    assert told["before"]["incidents_per_patient_week"] == incidents(before)


def _apart(one: Alert, other: Alert) -> bool:
    return one.rule != other.rule or one.start_ms > other.last_ms or other.start_ms > one.last_ms


def test_burden_is_that_of_monitored_weeks_and_of_the_patient_at_95_percent() -> None:
    comparison = Comparison(show=0)
    low, later = Alert("spo2_low", "high", 0, 5), Alert("spo2_low", "high", 9 * HOUR_MS, 10 * HOUR_MS)
    for number in range(20):
        comparison.add(f"p{number}", Tried(14, [low] if number < 2 else [], [low, later] * (number < 1)))
    comparison.add("new", Tried(0))
    told = comparison.document()
    assert (told["patients"], told["patient_weeks"]) == (21, 40.0)
    assert told["before"] == {"alerts": 2, "incidents": 2, "incidents_per_patient_week": 0.05,
                              "incidents_per_week_of_patient_at_95_percent": 0.5}  # fmt: skip
    assert told["after"]["incidents_per_week_of_patient_at_95_percent"] == 0.0
    assert [tuple(one.values()) for one in told["busiest"]] == [("p0", 0.5, 1.0), ("p1", 0.5, 0.0)]
    for number in range(2 * BUSIEST):
        comparison.add(f"more{number}", Tried(7, [], [low, later]))
    assert [one["incidents_per_week"] for one in comparison.document()["busiest"]] == [2.0] * BUSIEST
    assert Comparison(0).document()["before"]["incidents_per_patient_week"] is None


@pytest.mark.parametrize("name", ["compare", "examples", "form", "reading", "trial", "trouble"])
def test_the_examples_in_the_code_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"services.rules.{name}"))
    assert (result.failed, result.attempted > 0) == (0, True)
