"""What the processor's core stores on the real database: each reading once, and what contradicts or can't be beside it."""

from __future__ import annotations

import numpy as np
import pytest

from ingest.frame import OUT_OF_RANGE
from tests.fix_processor import HOUR, MINUTE, T0, Bench, block, stamped

pytestmark = pytest.mark.stack


async def test_a_resend_with_other_boundaries_stores_nothing_twice(bench: Bench) -> None:
    values = np.arange(60.0) + 60
    await bench.frames([stamped(1, 0, [block("heart_rate", T0, values)])])
    again = [
        stamped(1, 0, [block("heart_rate", T0 - 5 * MINUTE, [1e2] * 5 + values[:7].tolist())], session="other"),
        stamped(1, 1, [block("heart_rate", T0 + 7 * MINUTE, values[7:])], session="other"),
        stamped(1, 1, [block("heart_rate", T0 + 7 * MINUTE, values[7:])], session="other"),
    ]
    effects = await bench.frames(again)
    assert [(f.stored, f.duplicate, f.conflict, f.late) for f in effects.fates] == [
        (5, 7, 0, 5),
        (0, 53, 0, 0),
        (0, 53, 0, 0),
    ]
    assert await bench.rows("SELECT sum(cardinality(value)) FROM reading_block") == [(65,)]
    fate = "SELECT deliveries, stored, duplicate FROM frame_log WHERE frame_id = 'd1~other~1'"
    assert await bench.rows(fate) == [(2, 0, 106)]
    await bench.frames(again[2:])
    assert await bench.rows(fate) == [(3, 0, 159)]


async def test_another_value_at_a_known_instant_is_a_conflict_kept_beside(bench: Bench) -> None:
    await bench.frames([stamped(1, 0, [block("heart_rate", T0, [60, 61, 62])])])
    contradicting = stamped(1, 1, [block("heart_rate", T0, [60, 99, 62, 63])])
    effects = await bench.frames([contradicting])
    assert [(f.stored, f.duplicate, f.conflict) for f in effects.fates] == [(1, 2, 1)]
    await bench.frames([stamped(1, 2, contradicting.blocks)])
    assert await bench.rows("SELECT value, frame_id FROM reading_conflict") == [(99.0, "d1~s~1")]
    stored = await bench.rows("SELECT value FROM reading_block ORDER BY t0")
    assert sum((row[0] for row in stored), []) == [60, 61, 62, 63]


async def test_two_values_at_one_instant_in_one_block(bench: Bench) -> None:
    twice = block("heart_rate", T0, [60, 61, 62], step_s=0)
    effects = await bench.frames([stamped(1, 0, [twice])])
    assert [(f.stored, f.duplicate, f.conflict) for f in effects.fates] == [(1, 0, 2)]


async def test_impossible_values_are_quarantined(bench: Bench) -> None:
    odd = block("body_temperature", T0, [98.6, 36.6], quality=bytes([OUT_OF_RANGE, 0]))
    effects = await bench.frames([stamped(1, 0, [odd])])
    assert [(f.stored, f.quarantined) for f in effects.fates] == [(1, 1)]
    assert await bench.rows("SELECT round(value::numeric, 1)::text, reason FROM quarantined_reading") == [
        ("98.6", "out_of_range")
    ]


async def test_a_day_is_the_sum_of_its_hours(bench: Bench) -> None:
    for hour in (0, 1, 2):
        await bench.frames([stamped(1, hour, [block("heart_rate", T0 + hour * HOUR, np.full(60, 60.0 + hour))])])
    rows = await bench.rows("SELECT bucket_s, t0::text, n, low, high, mean FROM rollup ORDER BY bucket_s DESC, t0")
    assert rows[0][0] == 86400
    assert rows[0][2:] == (120, 60.0, 61.0, 60.5)
    assert [row[2] for row in rows[1:]] == [60, 60]


async def test_a_device_may_begin_as_many_sessions_as_it_likes(bench: Bench) -> None:
    for day in range(40):
        start = T0 + day * HOUR
        frames = [
            stamped(
                1,
                seq,
                [block("heart_rate", start + seq * MINUTE, [60])],
                session=f"day{day}",
                received_ms=start + seq * 130_000,
            )
            for seq in (0, 2, 3)
        ]
        for frame in frames:
            await bench.frames([frame])
    assert await bench.rows("SELECT count(*) FROM frame_log") == [(120,)]
    assert len(bench.core.hot[0].sessions) <= 32
