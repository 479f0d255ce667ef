"""Incidents against a plain reading of their definition: who overlaps whom, and through whom."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.incidents import GAP_MS, ORDER, Alert, Incident, join
from detectors.protocol import HOUR_MS

HALF = GAP_MS // 2
quick = settings(max_examples=50)


@st.composite
def spans(draw: st.DrawFn) -> list[Alert]:
    """Up to a dozen alerts on a grid of half gaps, so that touching, just missing and overlapping all happen."""
    made = []
    for number in range(draw(st.integers(0, 12))):
        start = HALF * draw(st.integers(0, 40))
        lasts = draw(st.none() | st.integers(0, 8))
        end = None if lasts is None else start + HALF * lasts
        made.append(
            Alert(
                f"a{number:02d}", start, start + HALF * draw(st.integers(0, 4)), end,
                draw(st.sampled_from(["clinical", "technical"])), draw(st.sampled_from(ORDER)),
                draw(st.booleans()), draw(st.booleans()),
            )
        )  # fmt: skip
    return made


def keys(incidents: list[Incident]) -> list[set[str]]:
    return [{alert.key for alert in incident.alerts} for incident in incidents]


def touch(one: Alert, other: Alert) -> bool:
    """Whether two alerts are of one incident by themselves."""
    ends = [math.inf if alert.end_ms is None else alert.end_ms for alert in (one, other)]
    apart = max(one.start_ms - ends[1], other.start_ms - ends[0])
    return one.kind == other.kind and apart <= GAP_MS


def reached(alerts: list[Alert], begin: Alert) -> set[str]:
    """Who hangs together with an alert, found by walking from neighbour to neighbour."""
    seen, waiting = {begin.key}, [begin]
    while waiting:
        here = waiting.pop()
        for alert in alerts:
            if alert.key not in seen and touch(here, alert):
                seen.add(alert.key)
                waiting.append(alert)
    return seen


@quick
@given(spans())
def test_every_alert_is_in_exactly_one_incident_with_whom_it_hangs_together(alerts: list[Alert]) -> None:
    incidents = join(alerts)
    assert sorted(alert for incident in incidents for alert in incident.alerts) == sorted(alerts)
    for incident in incidents:
        for alert in incident.alerts:
            assert {other.key for other in incident.alerts} == reached(alerts, alert)


@quick
@given(spans(), st.randoms(use_true_random=False))
def test_the_order_of_the_input_makes_no_difference(alerts: list[Alert], shuffler: random.Random) -> None:
    shuffled = alerts[:]
    shuffler.shuffle(shuffled)
    assert join(shuffled) == join(alerts)


@quick
@given(spans())
def test_one_more_alert_never_splits_an_incident(alerts: list[Alert]) -> None:
    if not alerts:
        return
    *before, _ = alerts
    after = keys(join(alerts))
    for incident in keys(join(before)):
        assert sum(incident <= grown for grown in after) == 1


@quick
@given(spans())
def test_a_longer_alert_never_splits_an_incident_either(alerts: list[Alert]) -> None:
    longer = [alert._replace(end_ms=None) for alert in alerts[:1]] + alerts[1:]
    after = keys(join(longer))
    assert all(any(incident <= grown for grown in after) for incident in keys(join(alerts)))


@quick
@given(spans())
def test_whoever_leads_is_worse_than_none_of_the_others(alerts: list[Alert]) -> None:
    for incident in join(alerts):
        leading = incident.leading
        rank = ORDER.index(leading.priority)
        standing = [alert for alert in incident.alerts if alert.stands] or incident.alerts
        assert leading in standing
        assert rank == min(ORDER.index(alert.priority) for alert in standing)
        rivals = [alert for alert in standing if alert.priority == leading.priority]
        assert leading.adaptive == all(alert.adaptive for alert in rivals)
        same = [alert for alert in rivals if alert.adaptive == leading.adaptive]
        assert leading.start_ms == min(alert.start_ms for alert in same)
        assert (incident.end_ms is None) == any(alert.end_ms is None for alert in incident.alerts)


def alert(key: str, start_h: float, end_h: float | None, **other: Any) -> Alert:
    start, end = int(start_h * HOUR_MS), None if end_h is None else int(end_h * HOUR_MS)
    plain: dict[str, Any] = {"found_ms": start, "kind": "clinical", "priority": "medium", "adaptive": False}
    return Alert(key, start, end_ms=end, **plain | other)


def test_a_gap_of_an_hour_joins_and_a_longer_one_does_not() -> None:
    assert keys(join([alert("a", 0, 2), alert("b", 3, 4)])) == [{"a", "b"}]
    later = alert("b", 3, 4)._replace(start_ms=3 * HOUR_MS + 1)
    assert keys(join([alert("a", 0, 2), later])) == [{"a"}, {"b"}]


def test_technical_alerts_never_join_clinical_ones() -> None:
    assert keys(join([alert("a", 0, None), alert("b", 1, None, kind="technical"), alert("c", 2, None)])) == [
        {"a", "c"}, {"b"},
    ]  # fmt: skip


def test_what_an_incident_was_received_from_is_said_by_who_was_told_first() -> None:
    night = alert("night", -40, None, found_ms=10 * HOUR_MS, adaptive=True)
    fever = alert("fever", 4, 6)
    (both,) = join([night, fever])
    assert not both.adaptive  # the fever was told six hours before, though the nights began to rise earlier
    (both,) = join([night, fever._replace(start_ms=12 * HOUR_MS, found_ms=12 * HOUR_MS, end_ms=None)])
    assert both.adaptive
    (both,) = join([night, fever._replace(found_ms=10 * HOUR_MS, end_ms=None)])
    assert not both.adaptive


@pytest.mark.parametrize(
    ("alerts", "said"),
    [
        ([alert("a", 2, 1)], "alert a ends at 3600000, before it begins at 7200000"),
        ([alert("a", 0, 1), alert("a", 5, 6)], "2 alerts have the key 'a'"),
    ],
)
def test_what_cannot_be_is_named(alerts: list[Alert], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        join(alerts)
