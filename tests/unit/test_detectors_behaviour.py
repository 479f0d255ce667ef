"""What every detector promises: pure inputs, snapshots, bounded state, missing metrics, a docstring that runs."""

import copy
import doctest
import importlib
import json
import pkgutil
import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

import detectors
from detectors.explain import patient_sentence, sentence
from detectors.limits import Limits
from detectors.pipeline import Pipeline
from detectors.protocol import (
    LIMIT_METRICS,
    UNKNOWN,
    Finding,
    HourSlice,
    Readings,
    State,
    blank_hour,
    put_rows,
    rows_of,
)
from detectors.rules import RULES
from tests.unit.people import METRICS, START_MS, hour_of, live

MODULES = sorted(module.name for module in pkgutil.iter_modules(detectors.__path__, "detectors."))
PEOPLE = 3


def feed_limits(detector: Limits, state: State, part: int) -> list[Finding]:
    return detector.advance(state, some_readings(part))


def feed_pipeline(detector: Pipeline, state: State, part: int) -> list[Finding]:
    return detector.settle(state, some_hour(part)).findings


def some_readings(part: int) -> Readings:
    rng = np.random.default_rng(part)
    n = 40 * PEOPLE
    return Readings(
        row=np.repeat(np.arange(PEOPLE), 40),
        metric=rng.integers(0, len(LIMIT_METRICS), n).astype(np.int16),
        t_ms=np.tile(np.arange(40) * 60_000, PEOPLE) + part * 3_600_000,
        value=rng.choice(np.array([5, 37, 60, 97, 160, 300], np.float32), n),
        good=rng.random(n) < 0.9,
        at_rest=rng.random(n) < 0.7,
    )


def some_hour(part: int) -> HourSlice:
    return hour_of(part, np.full(PEOPLE, 60.0 + 30 * (part > 40)), seed=3)


Feed = Callable[[Any, State, int], list[Finding]]
EVERY = pytest.mark.parametrize(
    ("detector", "feed"),
    [pytest.param(Limits(), feed_limits, id="limits"), pytest.param(Pipeline(), feed_pipeline, id="pipeline")],
)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_and_their_examples(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    result = doctest.testmod(module)
    assert result.failed == 0


@pytest.mark.parametrize(
    "name", ["gate", "context", "baseline", "score", "cusum", "persist", "datastate", "limits", "pipeline", "daily"]
)
def test_every_algorithm_has_an_example(name: str) -> None:
    module = importlib.import_module(f"detectors.{name}")
    assert doctest.testmod(module).attempted > 0
    text = str(module.__doc__) + "".join(str(getattr(module, item).__doc__) for item in dir(module))
    assert "Source:" in text
    assert "Valid:" in text or name == "score"


@pytest.mark.parametrize("detector", [Limits(), Pipeline()])
def test_rows_taken_as_bytes_are_the_rows_and_go_back_to_their_places(detector: Any) -> None:
    raw = np.random.default_rng(1).integers(0, 256, (5, detector.dtype.itemsize), np.uint8)
    state = raw.copy().view(detector.dtype)[:, 0]
    rows = np.array([4, 0, 2])
    taken = rows_of(state, rows)
    assert [row.tobytes() for row in taken] == [state[i].tobytes() for i in rows]
    taken[:] = np.zeros((), detector.dtype)
    assert np.array_equal(state.view(np.uint8).reshape(raw.shape), raw)  # a copy
    put_rows(state, rows[:2], taken[:2])
    raw[rows[:2]] = 0
    assert np.array_equal(state.view(np.uint8).reshape(raw.shape), raw)
    with pytest.raises(TypeError, match="rows of 4 bytes"):
        put_rows(state, rows[:1], np.zeros(1, [("n", "u4")]))


def test_a_patient_fits_in_a_row_of_1900_bytes() -> None:
    assert Limits().dtype.itemsize + Pipeline.dtype.itemsize <= 1900


@EVERY
def test_inputs_are_not_changed(detector: Any, feed: Feed) -> None:
    given = some_readings(1) if feed is feed_limits else some_hour(1)
    before = copy.deepcopy(given)
    state = detector.new_state(PEOPLE)
    if isinstance(given, Readings):
        detector.advance(state, given)
    else:
        detector.settle(state, given)
    for field in fields(given):
        np.testing.assert_array_equal(getattr(given, field.name), getattr(before, field.name))


@EVERY
def test_a_restored_snapshot_goes_on_as_if_nothing_had_happened(detector: Any, feed: Feed) -> None:
    state = detector.new_state(PEOPLE)
    for part in range(60):
        feed(detector, state, part)
    restored = np.frombuffer(state.tobytes(), detector.dtype).copy()
    for part in range(60, 120):
        assert feed(detector, state, part) == feed(detector, restored, part)
    assert state.tobytes() == restored.tobytes()


@EVERY
def test_only_the_named_rows_change_and_reset_forgets(detector: Any, feed: Feed) -> None:
    state = detector.new_state(PEOPLE + 1)
    for part in range(30):
        feed(detector, state, part)
    assert state[PEOPLE] == np.zeros(1, detector.dtype)[0]
    kept = state[1].tobytes()
    detector.reset(state, np.array([0]))
    assert not any(state[0].tobytes())
    assert state[1].tobytes() == kept


@EVERY
def test_nothing_in_nothing_out(detector: Any, feed: Feed) -> None:
    state = detector.new_state(2)
    if feed is feed_limits:
        empty = some_readings(0)
        none = Readings(*(getattr(empty, field.name)[:0] for field in fields(empty)))
        assert detector.advance(state, none) == []
    else:
        assert detector.settle(state, blank_hour([], [], [])).findings == []
    assert not any(state.tobytes())


def test_missing_metrics_are_unknown_and_nothing_breaks() -> None:
    pipeline = Pipeline()
    state = pipeline.new_state(1)
    settled = pipeline.settle(state, blank_hour([0], [START_MS], [0]))
    assert (settled.hours.state == UNKNOWN).all()
    assert len(settled.bands) == 0
    only = blank_hour([0], [START_MS + 3_600_000], [0])
    only.mean[0, :, METRICS["spo2"]], only.good[0, :, METRICS["spo2"]] = 96, 1
    settled = pipeline.settle(state, only)
    assert (settled.hours.state[0] == UNKNOWN).sum() == len(METRICS) - 1


def test_every_finding_is_plain_json_of_a_known_rule_with_a_sentence() -> None:
    pipeline, limits = Pipeline(), Limits()
    state, limit_state = pipeline.new_state(PEOPLE), limits.new_state(PEOPLE)
    rise = np.zeros((24, PEOPLE))
    rise[14:18] = 12
    found = [f for one in live(pipeline, state, range(1, 25), rise) for f in one.findings]
    found += [f for part in range(200) for f in limits.advance(limit_state, some_readings(part))]
    assert {f.change for f in found} >= {"raised", "cleared"}
    assert {"resting_heart_rate_rise", "spo2_low"} <= {f.rule for f in found}
    for finding in found:
        assert RULES[finding.rule].priority[finding.level] in ("low", "medium", "high")
        evidence = json.loads(json.dumps(finding.evidence, allow_nan=False))
        assert evidence == finding.evidence
        assert evidence["change"] == finding.change
        for text in (sentence(finding.rule, evidence), patient_sentence(finding.rule, evidence)):
            assert text[0].isupper()
            assert "nan" not in text
        assert "this person" not in patient_sentence(finding.rule, evidence)


def test_an_hour_of_500_people_settles_in_tens_of_milliseconds() -> None:
    pipeline = Pipeline()
    state = pipeline.new_state(500)
    hours = [hour_of(number, np.full(500, 60.0)) for number in range(7)]
    best = 9.0
    for hour in hours:
        start = time.process_time()
        pipeline.settle(state, hour)
        best = min(best, time.process_time() - start)
    assert best < 0.1
