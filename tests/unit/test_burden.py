"""The burden in incidents: what is counted, and when an incident is a false one."""

from __future__ import annotations

import doctest
from dataclasses import replace
from typing import Any

import evaluation.burden
from detectors.incidents import Alert, join
from evaluation.burden import burden, in_words
from services.cli.demo_report import Alert as Raised
from services.cli.demo_report import Report, _truth
from simulators.scenarios import Span, draw
from simulators.series import DAY_MS, HOUR_MS

SPAN = Span(0, 21 * DAY_MS)


def alert(key: str, start_h: int, end_h: int | None, rule: str = "fever", **changed: Any) -> Raised:
    start = start_h * HOUR_MS
    plain = Raised(
        key, "p03", rule, "clinical", "medium", "resolved", False, False, start, start, start,
        None if end_h is None else end_h * HOUR_MS, "", {},
    )  # fmt: skip
    return replace(plain, **changed)


def test_the_example_runs() -> None:
    result = doctest.testmod(evaluation.burden)
    assert (result.failed, result.attempted > 0) == (0, True)


def test_only_clinical_alerts_that_stand_are_counted_and_each_person_alone() -> None:
    first = [
        alert("a", 0, 9, "resting_heart_rate_rise"), alert("b", 5, 8), alert("c", 20, 21, state="withdrawn"),
        alert("d", 0, None, "battery_low", kind="technical"),
    ]  # fmt: skip
    found = burden([[one.joins() for one in first], [alert("a", 5, 8).joins()], []], 6.0)
    assert (found["alerts"], found["incidents"], found["from_adaptive_rules"]) == (3, 2, 1)
    assert (found["alerts_a_week"], found["incidents_a_week"], found["from_adaptive_rules_a_week"]) == (
        0.5,
        0.333,
        0.167,
    )
    assert "3 clinical alerts in 2 incidents" in in_words(found)
    assert burden([], 0.0)["incidents_a_week"] is None


def test_an_incident_is_false_only_where_none_of_its_alerts_is_true() -> None:
    story = draw("fever", 1, 3, SPAN)
    assert "fever" in story.allowed
    found = [
        alert("true", 10, 20), alert("beside", 15, 18, "spo2_low"),  # one incident, and there is something in it
        alert("a", 100, 110, "spo2_low"), alert("b", 105, 120, "tachycardia_at_rest"),
        alert("c", 200, 201, "spo2_low"), alert("back", 300, 301, "spo2_low", state="withdrawn"),
    ]  # fmt: skip
    truth = _truth(Report(), [story], found, SPAN, strict=False)
    assert (truth["false_clinical"], truth["false_incidents"]) == (4, 2)


def test_the_demo_joins_as_the_api_does() -> None:
    (one,) = join([alert("a", 0, None, "resting_heart_rate_rise", state="active").joins()])
    assert one.leading == Alert("a", 0, 0, None, "clinical", "medium", adaptive=True)
