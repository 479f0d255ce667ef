"""Same input, same outcome, on the real database: however it is cut, shuffled or restarted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ingest.frame import NOT_WORN, StampedFrame
from tests.fix_processor import HOUR, T0, Bench, block, stamped

pytestmark = pytest.mark.stack

OUTCOME = {
    "alerts": """SELECT patient_id, rule, id::text, priority, state, provisional, late, started_at, found_at, resolved_at, sentence
                 FROM alert WHERE state <> 'withdrawn' ORDER BY 1, 2, 8""",
    "days": """SELECT patient_id, metric_id, context, day, minutes, round(value::numeric, 3), round(center::numeric, 3),
               round(z::numeric, 3), days, used FROM daily_value ORDER BY 1, 2, 3, 4""",
    "bands": "SELECT patient_id, metric_id, context, t0, round(center::numeric, 3), days FROM baseline_band ORDER BY 1, 2, 3, 4",
    "rollups": """SELECT patient_id, metric_id, bucket_s, t0, n, low, high, round(mean::numeric, 6), q10, q90 FROM rollup
                  WHERE bucket_s <> 86400 ORDER BY 1, 2, 3, 4""",
    "states": "SELECT patient_id, metric_id, state, cause, last_value, last_at FROM metric_state ORDER BY 1, 2",
    "readings": """SELECT patient_id, metric_id, device_id, t0 + (i - 1)::bigint * step_us * interval '1 us', value[i] FROM reading_block
                   CROSS JOIN LATERAL generate_subscripts(value, 1) AS i WHERE offsets_ms IS NULL ORDER BY 1, 2, 3, 4""",
}


async def outcome(bench: Bench) -> dict[str, list[tuple[Any, ...]]]:
    return {name: await bench.rows(query) for name, query in OUTCOME.items()}


def fortnight(days: int = 6, patients: int = 4) -> list[StampedFrame]:
    """Hourly frames of some patients, with a night desaturation, a tachycardia and a night off the wrist."""
    rng = np.random.default_rng(7)
    frames = []
    for hour in range(days * 24):
        start = T0 + hour * HOUR
        for patient in range(1, patients + 1):
            asleep = hour % 24 < 6 or hour % 24 >= 21
            heart = 58 + 2 * patient + (0 if asleep else 15) + rng.normal(0, 2.5, 60)
            steps = np.zeros(60) if asleep else rng.poisson(12, 60).astype(float)
            spo2 = 96.5 + rng.normal(0, 0.6, 12)
            quality = None
            if patient == 1 and hour == 4 * 24 + 2:
                spo2[4:9] = (84, 82, 83, 84, 86)
            if patient == 2 and hour == 3 * 24 + 22:
                heart[12:50] = 158
            if patient == 3 and hour % 24 in (1, 2, 3) and hour > 48:
                quality = bytes([NOT_WORN] * 60)
            blocks = [
                block("heart_rate", start, heart, quality=quality),
                block("steps", start, steps),
                block("spo2", start, np.minimum(spo2, 100), 300),
            ]
            frames.append(stamped(patient, hour, blocks))
    return frames


async def test_any_cut_gives_the_same(bench: Bench, second_bench: Bench) -> None:
    frames = fortnight()
    await bench.frames(frames)
    rng = np.random.default_rng(1)
    cuts = sorted(rng.choice(len(frames), 40, replace=False).tolist())
    for start, stop in zip([0, *cuts], [*cuts, len(frames)], strict=True):
        await second_bench.frames(frames[start:stop])
    whole, cut = await outcome(bench), await outcome(second_bench)
    assert {row[1] for row in whole["alerts"]} >= {"spo2_low", "tachycardia_at_rest", "not_worn"}
    for name in OUTCOME:
        assert whole[name] == cut[name], name


async def test_a_restart_anywhere_gives_the_same(bench: Bench, second_bench: Bench) -> None:
    frames = fortnight(days=4)
    for start in range(0, len(frames), 50):
        await bench.frames(frames[start : start + 50])
    for start in range(0, len(frames), 10):
        await second_bench.take_over()  # memory is dropped and loaded before every batch
        await second_bench.frames(frames[start : start + 10])
    whole, restarted = await outcome(bench), await outcome(second_bench)
    for name in OUTCOME:
        assert whole[name] == restarted[name], name


async def test_frames_swapped_within_the_bound_change_nothing(bench: Bench, second_bench: Bench) -> None:
    frames = [f for f in fortnight(days=5) if f.patient_id <= 2]
    await bench.frames(frames)
    swapped = []
    for start in range(0, len(frames), 4):  # two hours of both patients come in reverse, received at one instant
        group = frames[start : start + 4]
        received = max(f.received_ms for f in group)
        swapped += [stamped(f.patient_id, f.seq, f.blocks, received_ms=received) for f in reversed(group)]
    for start in range(0, len(swapped), 3):
        await second_bench.frames(swapped[start : start + 3])
    straight, shuffled = await outcome(bench), await outcome(second_bench)
    assert not await second_bench.rows("SELECT 1 FROM frame_log WHERE late > 0")
    for name in ("alerts", "days", "bands", "rollups", "readings"):
        assert straight[name] == shuffled[name], name


async def test_a_change_of_the_utc_offset_gives_the_same_however_it_is_cut(bench: Bench, second_bench: Bench) -> None:
    frames = [
        StampedFrame(f.version, f.frame_id, 1, f.patient_id, f.device_id, f.session, f.seq, f.sent_ms, f.received_ms,
                     60 if f.seq < 50 else -300, f.blocks)
        for f in fortnight(days=4, patients=1)
    ]  # fmt: skip
    await bench.frames(frames)
    for frame in frames:
        await second_bench.frames([frame])
    whole, cut = await outcome(bench), await outcome(second_bench)
    for name in OUTCOME:
        assert whole[name] == cut[name], name


async def test_late_readings_survive_a_restart_as_late(bench: Bench, second_bench: Bench) -> None:
    hour = np.full(60, 60.0)
    frames = [
        stamped(1, 0, [block("heart_rate", T0, hour), block("steps", T0, np.zeros(60))]),
        stamped(
            1,
            1,
            [block("heart_rate", T0 + HOUR, hour[:40]), block("steps", T0 + HOUR, hour[:40] * 0)],
            received_ms=T0 + 3 * HOUR,
        ),
        stamped(1, 2, [block("heart_rate", T0 + HOUR + 10_000, [150] * 10)], received_ms=T0 + 4 * HOUR),
        stamped(
            1,
            3,
            [block("heart_rate", T0 + 2 * HOUR, hour), block("steps", T0 + 2 * HOUR, hour * 0)],
            received_ms=T0 + 5 * HOUR,
        ),
    ]
    for frame in frames:
        await bench.frames([frame])
        await second_bench.take_over()
        await second_bench.frames([frame])
    whole, restarted = await outcome(bench), await outcome(second_bench)
    assert (await bench.rows("SELECT sum(late)::int FROM frame_log"))[0] == (10,)
    for name in OUTCOME:
        assert whole[name] == restarted[name], name
    assert (
        await bench.rows(
            "SELECT n, high FROM rollup WHERE metric_id = 1 AND bucket_s = 3600 ORDER BY t0 OFFSET 1 LIMIT 1"
        )
    ) == [(50, 150.0)]
