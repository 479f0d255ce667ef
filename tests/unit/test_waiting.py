"""Readings that wait are packed without a loss: whatever they are, they come back to the last bit, and small."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detectors.limits import Limits
from detectors.pipeline import Pipeline
from services.processor import correcting
from services.processor.core import LATE, Core
from services.processor.hot import Hot
from services.processor.readings import Table
from services.processor.waiting import NOTHING, READING, RUN, count, pack, unpack

HOUR, SECOND = 3_600_000, 1000
T0 = 1_760_054_400_000  # 2025-10-10T00:00:00Z
SLOTS = [2, 5, 7]  # of nobody else is anything packed

KINDS = {field.name: column.dtype for field in fields(Table) for column in [getattr(Table.empty(), field.name)]}


def whole(name: str) -> st.SearchStrategy[int]:
    """Every whole number that a column can hold."""
    bounds = np.iinfo(KINDS[name])
    return st.integers(int(bounds.min), int(bounds.max))


def table(rows: Sequence[tuple[int, ...]]) -> Table:
    """A table of (slot, device, metric, instant, bits of the value, quality, frame)."""
    columns = zip(*rows, strict=True) if rows else [()] * len(KINDS)
    bits = {name: np.uint32 if name == "value" else kind for name, kind in KINDS.items()}
    return Table(*(np.array(column, bits[name]).view(KINDS[name]) for name, column in zip(KINDS, columns, strict=True)))


def bits_of(readings: Table) -> NDArray[np.int64]:
    """(N, 7) whole numbers that are alike where the readings are, NaN included."""
    columns = {name: getattr(readings, name) for name in KINDS} | {"value": readings.value.view(np.uint32)}
    return np.stack([column.astype(np.int64) for column in columns.values()], axis=1)


def ordered(readings: Table) -> list[list[int]]:
    """The readings as rows, in one order."""
    return sorted(bits_of(readings).tolist())


anything = st.tuples(
    st.sampled_from(SLOTS), whole("device"), whole("metric"), whole("t_ms"), st.integers(0, 2**32 - 1),
    whole("quality"), whole("frame"),
)  # fmt: skip
alike = st.tuples(
    st.sampled_from(SLOTS), st.integers(1, 2), st.integers(1, 3), st.integers(T0, T0 + 9), st.integers(0, 2**32 - 1),
    st.sampled_from([0, 3]), st.sampled_from([-1, LATE]),
)  # fmt: skip
tables = st.lists(st.one_of(alike, anything), max_size=60).map(table)


@given(tables)
def test_whatever_is_packed_comes_back_to_the_last_bit(readings: Table) -> None:
    before = bits_of(readings).copy()
    packed = pack(readings, SLOTS)
    back = unpack(packed, SLOTS)
    assert ordered(back) == ordered(readings)
    assert (bits_of(readings) == before).all()  # the table itself is left alone
    assert {name: getattr(back, name).dtype for name in KINDS} == KINDS
    assert pack(back, SLOTS) == packed
    for slot, one in zip(SLOTS, packed, strict=True):
        assert count(one) == (readings.slot == slot).sum()
        assert ordered(unpack([one], [slot])) == ordered(readings[readings.slot == slot])


@given(tables, st.data())
def test_a_patient_is_packed_alike_however_readings_came_and_beside_whomever(
    readings: Table, data: st.DataObject
) -> None:
    shuffled = readings[np.array(data.draw(st.permutations(range(len(readings)))), np.intp)]
    cut = data.draw(st.integers(0, len(readings)))
    parts = unpack(pack(shuffled[:cut], SLOTS), SLOTS), shuffled[cut:]
    assert ordered(unpack(pack(Table.concatenate(list(parts)), SLOTS), SLOTS)) == ordered(readings)
    for slot, one in zip(SLOTS, pack(readings, SLOTS), strict=True):
        assert pack(readings[readings.slot == slot], [slot]) == [one]


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=30))
def test_readings_of_one_instant_stay_in_the_order_in_which_they_came(values: list[int]) -> None:
    readings = table([(2, 1, 1, T0, value, 0, -1) for value in values])
    assert unpack(pack(readings, [2]), [2]).value.view(np.uint32).tolist() == values


def hour(heart_rates: int) -> Table:
    """An hour of a patient: so many heart rates a minute, and steps."""
    step = 60_000 // heart_rates
    rates = [(2, 9, 1, T0 + i * step, 60, 0, -1) for i in range(60 * heart_rates)]
    return table(rates + [(2, 9, 2, T0 + i * 60_000, 0, 0, -1) for i in range(60)])


@pytest.mark.parametrize("heart_rates", [1, 12, 60])
def test_a_reading_takes_eight_bytes_and_a_series_nineteen(heart_rates: int) -> None:
    (one,) = pack(hour(heart_rates), [2])
    assert (RUN.itemsize, READING.itemsize) == (19, 8)
    assert (len(one.runs), len(one.readings)) == (2 * 19, (heart_rates + 1) * 60 * 8)


def test_readings_too_far_apart_for_one_run_begin_another_and_are_kept_exactly() -> None:
    instants = [-(2**63), -1, 0, 2**32 - 1, 2**32, T0, 2**63 - 1]
    (one,) = pack(table([(2, 9, 1, t, 60, 0, -1) for t in instants]), [2])
    assert len(one.runs) == 6 * RUN.itemsize  # 0 and the last instant of its seven weeks share one
    assert sorted(unpack([one], [2]).t_ms.tolist()) == instants


def test_a_reading_of_nobody_asked_for_is_refused_not_lost() -> None:
    with pytest.raises(ValueError, match="readings of 1 patients who are none of those"):
        pack(hour(1), [3])


def placed(people: int) -> Core:
    """A core in which everybody's watermark stands where the hour begins."""
    core = Core(Pipeline(), Limits(), 1)
    for patient in range(people):
        core.place(patient, Hot(1, settled_ms=T0, closed_ms=T0))
    return core


def test_what_is_kept_of_a_patient_is_its_own_and_holds_nothing_else_of_the_batch() -> None:
    core = placed(3)
    one, two = (replace(hour(12), slot=np.full(780, slot)) for slot in (1, 2))
    core.trim([1, 2], Table.concatenate([one, two]))
    held = core.pending[1]
    assert isinstance(held.runs, bytes)  # no view: what it was cut from can go
    assert sys.getsizeof(held.readings) < 780 * 8 + 50
    core.trim([2], two[:0])
    assert (core.pending[0], core.pending[1], core.pending[2]) == (NOTHING, held, NOTHING)
    assert ordered(core.waiting([0, 1, 2])) == ordered(one)


def test_only_what_is_needed_before_the_watermark_waits_on() -> None:
    core = placed(1)
    core.hot[0].settled_ms = core.hot[0].closed_ms = T0 + 2 * HOUR
    readings = replace(hour(1), slot=np.zeros(120, np.intp))
    later = replace(readings, t_ms=readings.t_ms + HOUR)
    core.trim([0], Table.concatenate([readings, later]))
    assert core.waiting([0]).t_ms.min() == T0 + 2 * HOUR - 45 * 60_000  # half an hour, and the steps before it
    assert core.waiting([0]).t_ms.max() == T0 + 2 * HOUR - 60_000


def test_readings_loaded_again_find_their_patient_and_those_that_came_late_are_marked() -> None:
    core = Core(Pipeline(), Limits(), 1)
    for patient in (70, 71):
        core.place(patient, Hot(1, settled_ms=T0, closed_ms=T0))
    core.hot[1].late = {1: [T0 + 5 * SECOND]}
    loaded = [replace(hour(12), slot=np.full(780, patient)) for patient in (71, 70)]
    core.take_pending(Table.concatenate(loaded))
    waiting = core.waiting([0, 1])
    assert np.bincount(waiting.slot).tolist() == [780, 780]
    late = waiting[waiting.frame == LATE]
    assert (late.slot.tolist(), late.metric.tolist(), late.t_ms.tolist()) == ([1], [1], [T0 + 5 * SECOND])


def test_a_corrected_value_takes_the_place_of_the_one_that_waits_and_of_no_other() -> None:
    core = placed(2)
    every = [replace(hour(1), slot=np.full(120, slot)) for slot in (0, 1)]
    core.let_wait([0, 1], Table.concatenate(every))
    right = replace(every[1][7:8], value=np.array([88], np.float32), quality=np.array([3], np.uint8))
    correcting.patch(core, right)
    assert ordered(core.waiting([0])) == ordered(every[0])
    expected = [every[1][:7], replace(right, frame=every[1].frame[7:8]), every[1][8:]]
    assert ordered(core.waiting([1])) == ordered(Table.concatenate(expected))
