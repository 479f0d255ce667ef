"""Two devices of one patient with overlapping data: both stored, one preferred, however the stream is cut."""

from __future__ import annotations

import numpy as np
import pytest

from ingest.catalogue import catalogue
from ingest.frame import NOT_WORN, POOR_SIGNAL, StampedFrame
from services.processor.readings import Table
from services.processor.sources import preferred
from tests.fix_processor import HOUR, MINUTE, T0, Bench, block, stamped

pytestmark = pytest.mark.stack
BUCKETS = (
    "SELECT bucket_s, t0, n, low, high, round(mean::numeric, 3), devices FROM rollup WHERE metric_id = 1 ORDER BY 1, 2"
)


def watch_and_ring(minutes: int) -> list[StampedFrame]:
    """The watch (device 1) every minute at 60, the ring (device 2) every 20 s at 70 in each second hour."""
    frames = []
    for minute in range(minutes):
        at = T0 + minute * MINUTE
        frames.append(
            stamped(1, minute, [block("heart_rate", at, [60.0]), block("steps", at, [3.0])], received_ms=at + MINUTE)
        )
        if minute // 60 % 2:
            blocks = [block("heart_rate", at, [70.0] * 3, 20), block("steps", at, [3.0])]
            frames.append(stamped(1, minute // 120 * 60 + minute % 60, blocks, device=2, received_ms=at + MINUTE))
    return frames


async def test_both_are_stored_and_one_is_preferred_by_the_minute(bench: Bench) -> None:
    effects = await bench.frames([*watch_and_ring(240), stamped(1, 240, [block("heart_rate", T0 + 5 * HOUR, [60])])])
    assert sum(f.stored for f in effects.fates) == 4 * 120 + 2 * 240 + 1
    assert sum(f.late for f in effects.fates) == 0
    hours = [row for row in await bench.rows(BUCKETS) if row[0] == 3600]
    assert [(row[2], float(row[5]), row[6]) for row in hours] == [
        (60, 60.0, [1]), (180, 70.0, [2, 1]), (60, 60.0, [1]), (180, 70.0, [2, 1]),
    ]  # fmt: skip
    (day,) = [row for row in await bench.rows(BUCKETS) if row[0] == 86400]
    assert (day[2], day[6]) == (480, [2, 1])
    steps = await bench.rows("SELECT n, mean, devices FROM rollup WHERE metric_id = 3 AND bucket_s = 3600 ORDER BY t0")
    assert steps == [(60, 3.0, [1]), (60, 3.0, [1, 2]), (60, 3.0, [1]), (60, 3.0, [1, 2])]  # not added up twice


async def test_the_choice_does_not_depend_on_the_cut(bench: Bench, second_bench: Bench) -> None:
    frames = watch_and_ring(300)
    await bench.frames(frames)
    rng = np.random.default_rng(4)
    start = 0
    while start < len(frames):
        stop = start + int(rng.integers(1, 30))
        await second_bench.frames(frames[start:stop])
        await second_bench.take_over()
        start = stop
    for query in (
        BUCKETS,
        "SELECT patient_id, state FROM patient_baseline",
        "SELECT state, cause FROM metric_state ORDER BY metric_id",
    ):
        assert await bench.rows(query) == await second_bench.rows(query)


async def test_the_limits_look_at_every_device(bench: Bench) -> None:
    """The preferred one says all is well: the other one's desaturation is raised all the same."""
    await bench.frames([stamped(1, 0, [block("spo2", T0, [97] * 60)])])
    low = [82, 83, 82, 83, 82, 83, 82]
    await bench.frames([stamped(1, 0, [block("spo2", T0 + HOUR, low)], device=2)])
    assert ("spo2_low",) in await bench.rows("SELECT rule FROM alert")


async def test_a_watch_on_its_charger_does_not_hide_the_ring(bench: Bench) -> None:
    frames = []
    for minute in range(130):
        at, off = T0 + minute * MINUTE, bytes([NOT_WORN])
        blocks = [block("heart_rate", at, [0.0], quality=off), block("wear", at, [0.0])]
        frames.append(stamped(1, minute, blocks, received_ms=at + MINUTE))
        ring = [block("heart_rate", at, [70.0 + minute % 5])]
        frames.append(stamped(1, minute, ring, device=2, received_ms=at + MINUTE))
    await bench.frames(frames)
    assert await bench.rows("SELECT state FROM metric_state WHERE metric_id = 1") == [("learning",)]
    assert not await bench.rows("SELECT 1 FROM alert WHERE rule = 'not_worn'")


def test_the_most_good_readings_win_and_the_lower_number_of_equal_ones() -> None:
    hr = catalogue()["heart_rate"].id
    rows = [  # minute, device, quality
        (0, 2, 0), (0, 2, 0), (0, 1, 0), (0, 1, POOR_SIGNAL),
        (1, 1, 0), (1, 2, 0),
        (2, 1, POOR_SIGNAL), (2, 1, POOR_SIGNAL), (2, 2, 0),
        (3, 2, POOR_SIGNAL),
    ]  # fmt: skip
    n = len(rows)
    table = Table(
        np.zeros(n, np.intp), np.array([d for _, d, _ in rows], np.int32), np.full(n, hr, np.int16),
        np.array([T0 + m * MINUTE + i for i, (m, _, _) in enumerate(rows)], np.int64), np.ones(n, np.float32),
        np.array([q for *_, q in rows], np.uint8), np.zeros(n, np.int32),
    )  # fmt: skip
    shuffled = np.random.default_rng(1).permutation(n)
    wanted = [True, True, False, False, True, False, False, False, True, True]
    assert preferred(table).tolist() == wanted
    assert preferred(table[shuffled]).tolist() == [wanted[i] for i in shuffled]
