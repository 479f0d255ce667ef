"""A device corrects itself: the highest revision counts, the others are kept beside, in any order and any cut."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import msgspec
import pytest

from ingest.frame import StampedFrame
from tests.fix_processor import HOUR, MINUTE, T0, Bench, block, stamped

pytestmark = pytest.mark.stack
STORED = """SELECT (extract(epoch FROM t0) * 1000)::bigint + coalesce(offsets_ms[i], (i - 1)::bigint * step_us / 1000), value[i]
            FROM reading_block, LATERAL generate_subscripts(value, 1) AS i ORDER BY 1"""
BESIDE = "SELECT value, revision, frame_id FROM reading_superseded ORDER BY t, revision"


def frame(seq: int, values: list[float], revision: int = 0, at_ms: int = T0, metric: str = "glucose") -> StampedFrame:
    one = stamped(1, seq, [block(metric, at_ms, values)], received_ms=T0 + 12 * HOUR)
    return msgspec.structs.replace(one, revision=revision)


async def values(bench: Bench) -> list[float]:
    return [row[1] for row in await bench.rows(STORED)]


def fates(effects: Any) -> list[tuple[int, int, int, int]]:
    return [(f.stored, f.duplicate, f.conflict, f.corrected) for f in effects.fates]


async def test_a_higher_revision_replaces_and_keeps_the_old_value_beside(bench: Bench) -> None:
    await bench.frames([frame(0, [100, 101, 102])])
    assert fates(await bench.frames([frame(1, [100, 110, 102, 103], 1)])) == [(1, 2, 0, 1)]
    assert await values(bench) == [100, 110, 102, 103]
    assert await bench.rows(BESIDE) == [(101.0, 0, "d1~s~1")]
    await bench.take_over()
    assert fates(await bench.frames([frame(2, [100, 120, 102], 1)])) == [(0, 2, 1, 0)]  # an equal revision
    assert fates(await bench.frames([frame(3, [100, 120, 102], 3)])) == [(0, 2, 0, 1)]
    assert fates(await bench.frames([frame(4, [100, 130, 102], 2)])) == [(0, 2, 1, 0)]
    assert await values(bench) == [100, 120, 102, 103]
    assert await bench.rows(BESIDE) == [(101.0, 0, "d1~s~1"), (110.0, 1, "d1~s~3")]
    # 120 was a conflict, and is what is stored now
    assert await bench.rows("SELECT value FROM reading_conflict") == [(130.0,)]
    assert await bench.rows("SELECT corrected FROM frame_log ORDER BY frame_id") == [(0,), (1,), (0,), (1,), (0,)]


async def test_a_replay_of_all_of_it_changes_nothing(bench: Bench) -> None:
    frames = [frame(0, [100, 101]), frame(1, [100, 110], 1), frame(2, [90, 110], 2), frame(3, [100, 55])]
    for one in frames:
        await bench.frames([one])
    tables = (
        STORED,
        BESIDE,
        "SELECT t, value FROM reading_conflict ORDER BY 1, 2",
        "SELECT * FROM reading_revision ORDER BY t",
    )
    before = [await bench.rows(query) for query in tables]
    again = await bench.frames([msgspec.structs.replace(one, frame_id=f"x{i}") for i, one in enumerate(frames)])
    assert fates(again) == [(0, 2, 0, 0), (0, 2, 0, 0), (0, 2, 0, 0), (0, 1, 1, 0)]
    assert [await bench.rows(query) for query in tables] == before
    assert await values(bench) == [90, 110]


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("together", [True, False])
async def test_in_any_order_and_any_cut_the_highest_revision_counts(
    bench: Bench, order: tuple[int, ...], *, together: bool
) -> None:
    frames = [frame(0, [100, 101]), frame(1, [100, 110], 1), frame(2, [100, 120, 121], 2)]
    shuffled = [frames[i] for i in order]
    for part in [shuffled] if together else [[one] for one in shuffled]:
        await bench.frames(part)
    assert await values(bench) == [100, 120, 121]
    kept = await bench.rows("SELECT value FROM reading_superseded UNION SELECT value FROM reading_conflict ORDER BY 1")
    assert kept == [(101.0,), (110.0,)]
    counted = "SELECT sum(stored + duplicate + conflict + corrected)::int FROM frame_log"
    assert await bench.rows(counted) == [(7,)]


async def test_a_settled_hour_is_summed_up_again_and_the_patient_is_dirty(bench: Bench) -> None:
    await bench.frames([frame(0, [100] * 60), frame(1, [100] * 60, 0, T0 + HOUR)])
    dirty = "SELECT dirty_since FROM patient_state"
    assert await bench.rows(dirty) == [(None,)]
    await bench.frames([frame(2, [160], 1, T0 + 30 * MINUTE)])
    bucket = "SELECT n, high, mean FROM rollup WHERE metric_id = 10 AND bucket_s = 3600 ORDER BY t0 LIMIT 1"
    assert await bench.rows(bucket) == [(60, 160.0, 101.0)]
    assert await bench.rows("SELECT (extract(epoch FROM dirty_since) * 1000)::bigint FROM patient_state") == [
        (T0 + 30 * MINUTE,)
    ]


async def test_what_is_not_settled_is_judged_by_the_corrected_value(bench: Bench) -> None:
    low = stamped(1, 0, [block("spo2", T0, [82, 83, 82], 150)], received_ms=T0 + 301_000)
    await bench.frames([low])
    assert await bench.rows("SELECT rule, provisional FROM alert") == [("spo2_low", True)]
    right = stamped(1, 1, [block("spo2", T0, [97, 97, 97], 150)], received_ms=T0 + 302_000)
    await bench.frames([msgspec.structs.replace(right, revision=1)])
    assert await bench.rows("SELECT state FROM alert") == [("withdrawn",)]
    assert await bench.rows("SELECT last_value FROM metric_state WHERE metric_id = 4") == [(97.0,)]


async def test_a_corrected_value_that_is_abnormal_is_a_late_finding(bench: Bench) -> None:
    await bench.frames([frame(0, [97] * 12, 0, T0, "spo2"), frame(1, [97] * 6, 0, T0 + 5 * HOUR, "spo2")])
    await bench.frames([frame(2, [82] * 8, 1, T0 + 2 * MINUTE, "spo2")])
    assert ("spo2_low", True) in await bench.rows("SELECT rule, late FROM alert")
