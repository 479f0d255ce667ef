"""Downsampling keeps every extreme and every gap that can be seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.api.downsample import Points, gap_after, reduce
from services.api.series import unpack

MINUTE, HOUR = 60_000, 3_600_000


def readings(t_ms: NDArray[np.int64], value: NDArray[np.float64]) -> Points:
    return Points.readings(t_ms.astype(np.int64), value.astype(np.float64))


def buckets(starts: list[int], width_ms: int, low: list[float], high: list[float]) -> Points:
    n = len(starts)
    mean = (np.array(low) + np.array(high)) / 2
    return Points(
        np.array(starts, np.int64), np.full(n, width_ms, np.int64), np.array(low, float), np.array(high, float),
        mean, np.full(n, 60, np.int64),
    )  # fmt: skip


def test_few_points_stay_as_they_are() -> None:
    points = readings(np.arange(100) * MINUTE, np.arange(100.0))
    kept, gap = reduce(points, 100)
    assert kept.t_ms.tolist() == points.t_ms.tolist()
    assert not gap.any()


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 5000),
    target=st.integers(10, 400),
    holes=st.integers(0, 30),
)
def test_never_too_many_all_real_and_the_extremes_are_there(seed: int, n: int, target: int, holes: int) -> None:
    random = np.random.default_rng(seed)
    steps = random.integers(10_000, 90_000, n)
    steps[random.integers(0, n, holes)] += random.integers(HOUR, 20 * HOUR, holes)
    points = readings(np.cumsum(steps), random.normal(60, 10, n))
    kept, gap = reduce(points, target)
    assert len(kept) + gap.sum() <= target
    assert kept.mean.min() == points.mean.min()
    assert kept.mean.max() == points.mean.max()
    assert (np.diff(kept.t_ms) > 0).all()
    assert set(zip(kept.t_ms, kept.mean, strict=True)) <= set(zip(points.t_ms, points.mean, strict=True))
    assert kept.t_ms[0] == points.t_ms[0]
    assert kept.t_ms[-1] == points.t_ms[-1]


def test_a_single_spike_in_a_day_of_seconds_survives() -> None:
    value = np.full(86_400, 60.0)
    value[40_000] = 171.0
    kept, _ = reduce(readings(np.arange(86_400) * 1000, value), 200)
    assert kept.high.max() == 171.0
    assert int(kept.t_ms[kept.high.argmax()]) == 40_000_000


def test_gaps_keep_both_edges_and_no_line_crosses_them() -> None:
    t_ms = np.concatenate([np.arange(3000) * MINUTE, (np.arange(3000) + 3600) * MINUTE])
    kept, gap = reduce(readings(t_ms, np.sin(t_ms / HOUR)), 100)
    where = np.flatnonzero(gap)
    assert len(where) == 1
    assert int(kept.t_ms[where[0]]) == 2999 * MINUTE
    assert int(kept.t_ms[where[0] + 1]) == 3600 * MINUTE


@pytest.mark.parametrize(
    ("step_ms", "silence_ms", "expected"),
    [
        (MINUTE, 4 * MINUTE, False),
        (MINUTE, 6 * MINUTE, True),
        (5_000, 4 * MINUTE, False),
        (24 * HOUR, 3 * 24 * HOUR, False),
        (24 * HOUR, 6 * 24 * HOUR, True),
    ],
)
def test_what_counts_as_a_gap_follows_the_metrics_own_cadence(step_ms: int, silence_ms: int, expected: bool) -> None:
    steps = np.full(50, step_ms)
    steps[25] = silence_ms
    assert gap_after(readings(np.cumsum(steps), np.ones(50))).any() == expected


def test_a_missing_hour_of_a_steady_metric_is_a_gap_and_of_a_sparse_one_is_not() -> None:
    steady = [i * HOUR for i in range(24) if i != 7]
    sparse = [i * 12 * HOUR for i in range(24)]
    flat = [60.0] * 24
    assert np.flatnonzero(gap_after(buckets(steady, HOUR, flat[:23], flat[:23]))).tolist() == [6]
    assert not gap_after(buckets(sparse, HOUR, flat, flat)).any()


def test_buckets_keep_the_lowest_low_and_the_highest_high() -> None:
    random = np.random.default_rng(3)
    low, high = random.normal(50, 3, 8760), random.normal(90, 3, 8760)
    low[1234], high[4321] = 21.0, 201.0
    points = buckets([i * HOUR for i in range(8760)], HOUR, low.tolist(), high.tolist())
    kept, _ = reduce(points, 300)
    assert len(kept) <= 300
    assert kept.low.min() == 21.0
    assert kept.high.max() == 201.0


def test_blocks_even_and_uneven_are_unpacked() -> None:
    t_ms, value, quality = unpack(
        [(1_000, 15_625, None, [1.0, 2.0, 3.0], None), (9_000, 0, [0, 7, 1300], [4.0, 5.0, 6.0], [0, 3, 1])]
    )
    assert t_ms.tolist() == [1_000, 1_015, 1_031, 9_000, 9_007, 10_300]
    assert value.tolist() == [1, 2, 3, 4, 5, 6]
    assert quality.tolist() == [0, 0, 0, 0, 3, 1]


def test_nothing_stays_nothing() -> None:
    kept, gap = reduce(Points.empty(), 100)
    assert len(kept) == 0
    assert len(gap) == 0
