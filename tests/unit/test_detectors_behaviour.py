"""What every detector promises, ours and any other that is installed: one suite over all that the registry finds.

Pure inputs, the same however the input is cut, snapshots, bounded state, missing metrics, a docstring that runs.
"""

import copy
import doctest
import importlib
import json
import pkgutil
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import detectors
from detectors import registry
from detectors.day_shape import DayShape
from detectors.early_warning import EARLY_DTYPE, EarlyWarning
from detectors.explain import patient_sentence, sentence
from detectors.limits import Limits
from detectors.pipeline import Pipeline
from detectors.protocol import (
    LIMIT_METRICS,
    UNKNOWN,
    VITALS,
    DayValues,
    Finding,
    HourSlice,
    Readings,
    State,
    blank_hour,
    put_rows,
    rows_of,
)
from detectors.rules import RULES
from detectors.weight_gain import WEIGHT_DTYPE
from tests.unit.people import METRICS, START_MS, hour_of, live

MODULES = sorted(module.name for module in pkgutil.walk_packages(detectors.__path__, "detectors."))
PEOPLE = 3
BYTES = 4096  # a person's row of one detector, at the most
EVERY = pytest.mark.parametrize("detector", [pytest.param(registry.load(name)(), id=name) for name in registry.names()])

Given = Readings | HourSlice | DayValues


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
    return hour_of(part, np.full(PEOPLE, 60.0 + 15 * (part > 7 * 24)), seed=3)


def some_day(part: int, channels: int) -> DayValues:
    rng = np.random.default_rng(part)
    values = rng.normal(70 + 12 * (part > 60) - 15 * (np.arange(channels) >= 13), 1, (PEOPLE, channels))
    values[:, : channels // 3] += 20 * (part % 30 == 20)  # a day of another shape
    values[rng.random(values.shape) < 0.1] = np.nan
    return DayValues(np.arange(PEOPLE), np.full(PEOPLE, 20_000 + part, np.int32), values)


@cache
def stream(takes: type, channels: int) -> Sequence[Given]:
    """What the detectors of one kind are given: some days of PEOPLE, in order."""
    if takes is Readings:
        return [some_readings(part) for part in range(120)]
    if takes is HourSlice:
        return [some_hour(part) for part in range(10 * 24)]
    return [some_day(part, channels) for part in range(90)]


def given_to(detector: Any) -> Sequence[Given]:
    return stream(detector.takes, channels_of(detector))


def channels_of(detector: Any) -> int:
    return len(detector.channels) if detector.takes is DayValues else 0


def cut(given: Given, rng: np.random.Generator) -> Iterator[Given]:
    """Yield one batch in pieces: by time where it spans some, by people always."""
    people = rng.permutation(PEOPLE)
    if isinstance(given, Readings):
        edges = [0, *sorted(rng.choice(given.t_ms, 3).tolist()), 1 << 62]
        for low, high in zip(edges, edges[1:], strict=False):
            yield _rows(given, (given.t_ms >= low) & (given.t_ms < high))
    elif isinstance(given, HourSlice):
        middle = int(rng.integers(0, 61))
        for which in np.split(people, [1]):
            part = _rows(given, np.sort(which))
            first, last = np.full(len(which), middle, np.int16), np.full(len(which), middle, np.int16)
            yield replace(part, last=last) if middle < 60 else part
            if middle < 60:
                yield replace(part, first=first)
    else:
        for which in np.split(people, [1]):
            yield _rows(given, which)


def _rows(given: Any, which: Any) -> Any:
    return type(given)(*(getattr(given, field.name)[which] for field in fields(given)))


def silent(given: Given) -> Given:
    """The same people and instants, and nothing that could be used."""
    if isinstance(given, Readings):
        return replace(given, good=np.zeros(len(given.row), bool))
    if isinstance(given, HourSlice):
        return blank_hour(given.rows.tolist(), given.hour_ms.tolist(), given.utc_offset_min.tolist())
    return replace(given, values=np.full(given.values.shape, np.nan))


def only(given: Given, place: int) -> Given:
    """The same with one metric alone, by its place among those of the kind."""
    if isinstance(given, Readings):
        return _rows(given, given.metric == place)  # type: ignore[no-any-return]
    if isinstance(given, HourSlice):
        less = silent(given)
        assert isinstance(less, HourSlice)
        for name in ("mean", "low", "high", "good"):
            getattr(less, name)[:, :, place] = getattr(given, name)[:, :, place]
        return less
    return replace(given, values=np.where(np.arange(given.values.shape[1]) == place, given.values, np.nan))


def feed(detector: Any, state: State, batches: Sequence[Given]) -> list[Finding]:
    return [finding for given in batches for finding in detector.update(state, given)]


@cache
def whole(kind: type) -> tuple[list[Finding], bytes]:
    """What comes of the whole stream in one go: the findings, and the state after it."""
    detector = kind()
    state = detector.new_state(PEOPLE)
    return feed(detector, state, given_to(detector)), state.tobytes()


def in_order(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda one: (one.at_ms, one.row, one.rule))


@EVERY
def test_it_says_where_it_is_from_for_whom_it_is_and_what_it_remembers(detector: Any) -> None:
    told = re.search(r"State: ([\d,]+)\s+bytes", type(detector).__doc__ or "")
    assert told, "say how many bytes a person's row has, e.g. State: 85 bytes"
    assert int(told.group(1).replace(",", "")) == detector.dtype.itemsize <= BYTES
    assert detector.new_state(3).shape == (3,)
    assert detector.new_state(3).dtype == detector.dtype
    assert not any(detector.new_state(3).tobytes())


@EVERY
def test_inputs_are_not_changed(detector: Any) -> None:
    given = given_to(detector)[:30]
    before = copy.deepcopy(given)
    feed(detector, detector.new_state(PEOPLE), given)
    for one, other in zip(given, before, strict=True):
        for field in fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


@EVERY
def test_however_it_is_cut_it_is_the_same(detector: Any) -> None:
    rng = np.random.default_rng(1)
    given = given_to(detector)
    parts = detector.new_state(PEOPLE)
    found, after = whole(type(detector))  # type: ignore[arg-type]  # a class is hashable
    pieces = [part for at, one in enumerate(given) for part in (cut(one, rng) if at % 3 == 0 else [one])]
    assert in_order(feed(detector, parts, pieces)) == in_order(found)
    assert parts.tobytes() == after


@EVERY
def test_findings_are_plain_json_of_the_people_asked_about(detector: Any) -> None:
    found, _ = whole(type(detector))  # type: ignore[arg-type]  # a class is hashable
    if type(detector).__module__.startswith("detectors."):  # what others look for need not be in this stream
        assert {one.change for one in found} >= {"raised"}
    open_since: dict[tuple[int, str], int] = {}
    for one in in_order(found):
        assert one.row in range(PEOPLE)
        assert one.start_ms <= one.at_ms
        assert json.loads(json.dumps(one.evidence, allow_nan=False)) == one.evidence
        assert one.evidence["change"] == one.change
        assert one.evidence.get("sentence") or sentence(one.rule, one.evidence)
        key = (one.row, one.rule)
        assert (key in open_since) == (one.change != "raised"), "raised once, then worse, then cleared"
        assert open_since.setdefault(key, one.start_ms) == one.start_ms
        if one.change == "cleared":
            del open_since[key]


@EVERY
def test_a_restored_snapshot_goes_on_as_if_nothing_had_happened(detector: Any) -> None:
    given = given_to(detector)
    half = len(given) // 2
    state = detector.new_state(PEOPLE)
    feed(detector, state, given[:half])
    another, restored = type(detector)(), detector.new_state(PEOPLE)
    for row in range(PEOPLE):
        restored[row] = np.frombuffer(state[row].tobytes(), another.dtype)[0]
    assert feed(detector, state, given[half:]) == feed(another, restored, given[half:])
    assert state.tobytes() == restored.tobytes()


@EVERY
def test_it_remembers_nothing_outside_the_state(detector: Any) -> None:
    given = given_to(detector)
    alone, one, other = (detector.new_state(PEOPLE) for _ in range(3))
    expected = feed(detector, alone, given[:60])
    found = []
    for at in range(60):
        found += detector.update(one, given[at])
        detector.update(other, given[-1 if at == 59 else at])
    assert found == expected
    assert one.tobytes() == alone.tobytes()


@EVERY
def test_only_the_named_rows_change_and_reset_forgets(detector: Any) -> None:
    state = detector.new_state(PEOPLE + 1)
    feed(detector, state, given_to(detector)[:40])
    assert state[PEOPLE] == np.zeros(1, detector.dtype)[0]
    kept = state[1].tobytes()
    detector.reset(state, np.array([0]))
    assert not any(state[0].tobytes())
    assert state[1].tobytes() == kept


@EVERY
def test_nothing_in_nothing_out(detector: Any) -> None:
    state = detector.new_state(2)
    assert detector.update(state, _rows(given_to(detector)[0], slice(0, 0))) == []
    assert not any(state.tobytes())


@EVERY
def test_without_data_nothing_is_found_and_nothing_ends(detector: Any) -> None:
    given = given_to(detector)
    assert feed(detector, detector.new_state(PEOPLE), [silent(one) for one in given]) == []
    state = detector.new_state(PEOPLE)
    feed(detector, state, given[:-20])
    assert not [one for one in feed(detector, state, [silent(one) for one in given[-20:]]) if one.change == "cleared"]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_and_their_examples(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    result = doctest.testmod(module)
    assert result.failed == 0


@pytest.mark.parametrize(
    "name",
    [
        "gate", "context", "baseline", "score", "persist", "datastate", "limits", "pipeline", "daily", "incidents",
        "early_warning", "shape", "again", "desaturation", "devices", "drift", "nights", "shift", "together", "travel",
        "wearer", "weight_gain", "windows", "scores.news2", "scores.mews", "scores.qsofa", "scores.shock_index",
    ],
)  # fmt: skip
def test_every_algorithm_has_an_example(name: str) -> None:
    module = importlib.import_module(f"detectors.{name}")
    assert doctest.testmod(module).attempted > 0
    own = [one for one in vars(module).values() if getattr(one, "__module__", "") == module.__name__]
    text = "".join(str(one.__doc__) for one in (module, *own))
    for said in ("Source:", "Units:", "Valid:"):
        assert said in text


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
    kept = (Limits().dtype, Pipeline.dtype, EARLY_DTYPE, WEIGHT_DTYPE)
    assert sum(one.itemsize for one in kept) <= 1900


@EVERY
def test_every_metric_but_one_may_be_missing_and_nothing_is_said_of_those(detector: Any) -> None:
    metrics = {Readings: LIMIT_METRICS, HourSlice: VITALS, DayValues: ("heart_rate",) * channels_of(detector)}
    told = 0
    for place, metric in enumerate(metrics[detector.takes]):
        found = feed(detector, detector.new_state(PEOPLE), [only(one, place) for one in given_to(detector)])
        assert {one.evidence["metric"] for one in found} <= {metric}
        told += len(found)
    if type(detector).__module__.startswith("detectors."):
        of_many = isinstance(detector, (DayShape, EarlyWarning))  # a day's course; 5 points, of which one gives 3
        assert bool(told) == (not of_many)


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
