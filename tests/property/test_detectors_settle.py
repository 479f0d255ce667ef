"""The adaptive path gives the same, to the last bit, however minutes and patients are cut into slices."""

from dataclasses import fields, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.pipeline import Pipeline, take
from detectors.protocol import STEPS, Finding, HourSlice
from detectors.settled import Table
from tests.unit.people import METRICS, hour_of

PEOPLE = 3


def rough_hour(number: int, seed: int) -> HourSlice:
    """An hour with gaps, poor readings, jumps, flat lines and illness on some days."""
    rng = np.random.default_rng([seed, number, 1])
    ill = 20.0 * (number // 24 in (9, 10, 11))
    rate = (55 + 6.0 * np.arange(PEOPLE) + ill).astype(np.float64)
    hour = hour_of(number, rate, seed, offset=[0, 330, -60][seed % 3])
    heart = METRICS["heart_rate"]
    gone = rng.random(hour.good.shape) < 0.1
    if seed % 3 == 0:  # a device that measures heart rate and steps every 5 to 18 minutes
        gone[:, (np.arange(60) + number) % (5 + seed % 14) > 0, :2] = True
    hour.good[gone], hour.mean[gone] = 0, np.nan
    hour.poor[rng.random(hour.good.shape) < 0.05] = 1
    hour.mean[rng.random(hour.good.shape) < 0.01] += 70
    hour.device[:] = (
        1 + number // 24 // 6 + (rng.random(hour.device.shape) < 0.2)
    )  # another one is taken, and worn beside
    hour.device[rng.random(hour.device.shape) < 0.1] = 0
    hour.not_worn[:, 50:] = rng.random((PEOPLE, 1)) < 0.1
    if rng.random() < 0.05:
        hour.mean[:, 10:, heart] = hour.low[:, 10:, heart] = hour.high[:, 10:, heart] = 64
    hour.mean[:, :, STEPS] = np.where(hour.good[:, :, STEPS] > 0, np.nan_to_num(hour.mean[:, :, STEPS]), np.nan)
    return hour


def rows_of(tables: list[Table]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for table in tables:
        columns = [getattr(table, field.name) for field in fields(table)]
        rows += [tuple(np.asarray(column[i]).tobytes() for column in columns) for i in range(len(table))]
    return sorted(rows, key=repr)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 1000), st.data())
def test_any_cut_of_minutes_and_patients(seed: int, data: st.DataObject) -> None:
    pipeline = Pipeline()
    whole, parts = pipeline.new_state(PEOPLE), pipeline.new_state(PEOPLE)
    expected: list[Finding] = []
    found: list[Finding] = []
    told: dict[str, tuple[list[Table], list[Table]]] = {name: ([], []) for name in ("hours", "bands", "days")}
    rng = np.random.default_rng(seed)
    for number in range(10, 14 * 24):
        if rng.random() < 0.05:
            continue
        hour = rough_hour(number, seed)
        one = pipeline.settle(whole, hour)
        expected += one.findings
        cuts = sorted(set(rng.integers(1, 60, rng.integers(0, 4)).tolist()))
        if number % 24 == 10:
            cuts = sorted(data.draw(st.sets(st.integers(1, 59), max_size=4)))
        settled = [one]
        settled.clear()
        for low, high in zip([0, *cuts], [*cuts, 60], strict=True):
            for who in (np.array([2, 0]), np.array([1])):
                piece = take(hour, who)
                piece = replace(piece, first=np.full(len(who), low, np.int16), last=np.full(len(who), high, np.int16))
                settled.append(pipeline.settle(parts, piece))
        found += [finding for piece_told in settled for finding in piece_told.findings]
        for name, (left, right) in told.items():
            left.append(getattr(one, name))
            right.extend(getattr(piece_told, name) for piece_told in settled)
    assert whole.tobytes() == parts.tobytes()
    key = lambda finding: (finding.at_ms, finding.row, finding.rule)  # noqa: E731
    assert sorted(found, key=key) == sorted(expected, key=key)
    for left, right in told.values():
        assert rows_of(left) == rows_of(right)
