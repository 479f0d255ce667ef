"""Readings to blocks and back, and exactly-once as sets: for any readings, in any cut."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.processor.dedupe import by_series, series_of, sort_out
from services.processor.readings import Table
from services.store import blocks

T0 = 1_760_054_400_000

reading = st.tuples(
    st.integers(0, 2),  # slot
    st.sampled_from([1, 2]),  # device
    st.sampled_from([1, 3, 4]),  # metric
    st.integers(0, 400).map(lambda n: T0 + n * 20_000),
    st.sampled_from([60.0, 61.0, 62.5]),
    st.sampled_from([0, 0, 0, 1]),
)


def table(rows: list[tuple[Any, ...]]) -> Table:
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [[]] * 6
    return Table(
        np.array(columns[0], np.intp), np.array(columns[1], np.int32), np.array(columns[2], np.int16),
        np.array(columns[3], np.int64), np.array(columns[4], np.float32), np.array(columns[5], np.uint8),
        np.zeros(len(rows), np.int32),
    )  # fmt: skip


def parse(data: bytes) -> list[list[bytes | None]]:
    """Read COPY rows by the documented format, apart from the code that wrote them."""
    rows, at = [], 0
    while at < len(data):
        (fields,) = struct.unpack_from(">h", data, at)
        at += 2
        row: list[bytes | None] = []
        for _ in range(fields):
            (length,) = struct.unpack_from(">i", data, at)
            at += 4
            row.append(None if length < 0 else data[at : at + length])
            at += max(length, 0)
        rows.append(row)
    return rows


def array(data: bytes | None, code: str) -> list[float]:
    assert data is not None
    dimensions, nulls, _, n, lower = struct.unpack_from(">iiiii", data)
    assert (dimensions, nulls, lower) == (1, 0, 1)
    size = struct.calcsize(code)
    return [struct.unpack_from(">i" + code, data, 20 + i * (4 + size))[1] for i in range(n)]


def instants(row: list[bytes | None], n: int) -> list[int]:
    t0, last, step = (struct.unpack(code, row[i] or b"")[0] for i, code in ((3, ">q"), (4, ">q"), (5, ">i")))
    base = t0 // 1000 + 946_684_800_000
    times = (
        [base + int(x) for x in array(row[6], "i")]
        if row[6] is not None
        else [base + i * step // 1000 for i in range(n)]
    )
    assert times[-1] == last // 1000 + 946_684_800_000
    assert times[-1] - times[0] <= 3_600_000
    return times


@settings(max_examples=150, deadline=None)
@given(st.lists(reading, max_size=300))
def test_blocks_hold_exactly_the_stored_readings(rows: list[tuple[Any, ...]]) -> None:
    sorted_table = by_series(table(rows))
    stored = sort_out(sorted_table, series_of(sorted_table), {}).stored
    found = set()
    for part in blocks.copy_rows(stored, np.array([100, 101, 102], np.int32)):
        for row in parse(part):
            patient, metric, device = (struct.unpack(c, row[i] or b"")[0] for i, c in ((0, ">i"), (1, ">h"), (2, ">i")))
            values = array(row[7], "f")
            quality = array(row[8], "h") if row[8] is not None else [0] * len(values)
            assert sum(len(field or b"") for field in row) < 3_000
            found |= set(zip([patient] * len(values), [metric] * len(values), [device] * len(values),
                             instants(row, len(values)), values, quality, strict=True))  # fmt: skip
    expected = {
        (100 + s, m, d, t, v, q)
        for s, m, d, t, v, q in zip(
            stored.slot.tolist(), stored.metric.tolist(), stored.device.tolist(), stored.t_ms.tolist(),
            stored.value.tolist(), stored.quality.tolist(), strict=True,
        )
    }  # fmt: skip
    assert found == expected
    assert len(expected) == len(stored)


@settings(max_examples=150, deadline=None)
@given(st.lists(reading, max_size=120), st.lists(reading, max_size=120))
def test_every_reading_is_stored_once_or_accounted_for(
    first: list[tuple[Any, ...]], second: list[tuple[Any, ...]]
) -> None:
    one = by_series(table(first))
    before = sort_out(one, series_of(one), {}).stored
    two = by_series(table(second))
    series = series_of(two)
    known = {
        i: before[(before.slot == s.slot) & (before.metric == s.metric) & (before.device == s.device)]
        for i, s in enumerate(series)
    }
    after = sort_out(two, series, {i: kept for i, kept in known.items() if len(kept)})
    assert len(after.stored) + len(after.duplicate) + len(after.conflict) == len(second)
    held = {k[:4]: k[4] for k in keys(before)} | {k[:4]: k[4] for k in keys(after.stored)}
    assert len(held) == len(before) + len(after.stored)  # an instant is stored once
    assert all(held[k[:4]] == k[4] for k in keys(after.duplicate))
    assert all(held[k[:4]] != k[4] for k in keys(after.conflict))


def keys(readings: Table) -> list[tuple[Any, ...]]:
    return list(
        zip(readings.slot.tolist(), readings.metric.tolist(), readings.device.tolist(), readings.t_ms.tolist(),
            readings.value.tolist(), strict=True)
    )  # fmt: skip
