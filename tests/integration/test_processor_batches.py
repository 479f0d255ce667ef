"""The processor's core on the real database: same input, same outcome, however it is cut, shuffled or restarted."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
import pytest

from ingest.clock import SystemClock
from ingest.frame import NOT_WORN, OUT_OF_RANGE, StampedFrame
from services.processor.records import Record
from services.processor.watermark import AT_THE_DOOR_MS
from services.processor.worker import Worker
from services.store.fence import FencedError
from services.store.session import Session
from tests.fix_processor import BOUNDS, DAY, HOUR, MINUTE, T0, TOPIC, Bench, block, records, stamped

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


async def test_undecodable_records_are_dead_byte_for_byte(bench: Bench) -> None:
    good = records([stamped(1, 0, [block("heart_rate", T0, [60])])])
    bad = [
        Record(TOPIC, 0, 1, b"1", b"\xc1 nonsense"),
        Record(TOPIC, 0, 2, b"99", records([stamped(99, 0, [block("steps", T0, [1])])])[0].value),
    ]
    await bench.feed([*good, *bad])
    dead = await bench.rows("SELECT record_offset, reason, record FROM dead_letter ORDER BY 1")
    assert [(row[0], row[1]) for row in dead] == [(1, "not_msgpack"), (2, "unknown_patient")]
    assert dead[0][2] == b"\xc1 nonsense"
    assert await bench.rows("SELECT next_offset FROM partition_position") == [(3,)]
    assert await bench.rows("SELECT count(*) FROM frame_log") == [(1,)]


async def test_a_safety_alert_is_raised_at_once_and_settles(bench: Bench) -> None:
    await bench.frames([stamped(1, 0, [block("spo2", T0, [97] * 12, 300)])])
    low = stamped(1, 1, [block("spo2", T0 + HOUR, [83, 82], 300)])
    await bench.frames([low])
    assert await bench.rows("SELECT provisional, state FROM alert") == [(True, "active")]
    await bench.frames([stamped(1, 2, [block("spo2", T0 + HOUR + 15 * MINUTE, [84], 300)])])
    assert await bench.rows("SELECT provisional, state FROM alert") == [(False, "active")]
    changes = [row[0] for row in await bench.rows("SELECT change FROM alert_event ORDER BY id")]
    assert changes == ["raised", "settled"]


async def test_a_provisional_alert_loses_its_evidence_and_is_withdrawn(bench: Bench) -> None:
    start = T0 + HOUR
    low = stamped(1, 0, [block("spo2", start, [83, 82], 330)], received_ms=start + HOUR)
    await bench.frames([low])
    assert await bench.rows("SELECT provisional FROM alert") == [(True,)]
    good = stamped(1, 1, [block("spo2", start + 300_000, [97], 300)], received_ms=start + HOUR)
    await bench.frames([good])
    assert await bench.rows("SELECT state FROM alert") == [("withdrawn",)]


async def test_a_gap_of_a_device_that_has_stopped_is_waited_for_by_the_clock(bench: Bench) -> None:
    await bench.frames([stamped(1, 0, [block("spo2", T0, [97] * 12, 300)])])
    received = T0 + 2 * HOUR
    await bench.frames([stamped(1, 2, [block("spo2", T0 + HOUR, [83] * 6, 300)], received_ms=received)])
    assert await bench.rows("SELECT provisional FROM alert") == [(True,)]
    waits = bench.bounds.reordering_ms + AT_THE_DOOR_MS
    await bench.silence(received + waits - 1)
    assert await bench.rows("SELECT provisional FROM alert") == [(True,)]
    await bench.silence(received + waits)
    assert await bench.rows("SELECT provisional, late, state FROM alert") == [(False, False, "active")]
    assert [row[0] for row in await bench.rows("SELECT change FROM alert_event ORDER BY id")] == ["raised", "settled"]
    await bench.frames([stamped(1, 1, [block("spo2", T0 + HOUR + 2 * MINUTE, [98], 300)], received_ms=received + HOUR)])
    assert await bench.rows("SELECT dirty_since IS NOT NULL FROM patient_state") == [(True,)], "it came after all"


async def test_worsening_voids_the_acknowledgement(bench: Bench) -> None:
    await bench.frames([stamped(1, 0, [block("spo2", T0, [89] * 6, 300)])])
    with psycopg.connect(bench.settings.postgres.conninfo("admin")) as admin:
        admin.execute("UPDATE alert SET acknowledged_at = '2025-10-10Z'")
    await bench.frames([stamped(1, 1, [block("spo2", T0 + HOUR // 2, [82] * 6, 300)])])
    assert await bench.rows("SELECT priority, acknowledged_at FROM alert") == [("high", None)]
    assert ("worsened",) in await bench.rows("SELECT change FROM alert_event")


async def test_no_resolve_without_data(bench: Bench) -> None:
    await bench.frames([stamped(1, 0, [block("spo2", T0, [83] * 6, 300), block("heart_rate", T0, [70] * 30)])])
    for hour in range(1, 6):  # the heart rate flows on, oxygen saturation is gone
        await bench.frames([stamped(1, hour, [block("heart_rate", T0 + hour * HOUR, [70] * 60)])])
    await bench.silence(T0 + 6 * HOUR)
    rows = await bench.rows("SELECT state, unknown_since IS NOT NULL FROM alert WHERE rule = 'spo2_low'")
    assert rows == [("active", True)]
    assert await bench.rows("SELECT state FROM metric_state WHERE metric_id = 4") == [("learning",)]
    await bench.silence(T0 + 40 * HOUR)  # measured at night at least: overdue after 26 h
    assert await bench.rows("SELECT state, cause FROM metric_state WHERE metric_id = 4") == [("unknown", "no_data")]


async def test_a_late_abnormal_value_is_a_late_finding(bench: Bench) -> None:
    for hour in (0, 3, 4):
        await bench.frames([stamped(1, hour, [block("spo2", T0 + hour * HOUR, [97] * 12, 300)])])
    await bench.frames(
        [stamped(1, 2, [block("spo2", T0 + 2 * HOUR, [97, 82, 83, 82, 84, 83, 97, 97, 97, 97, 97, 97], 300)])]
    )
    rows = await bench.rows("SELECT late, provisional, state FROM alert WHERE rule = 'spo2_low'")
    assert rows == [(True, False, "resolved")]
    assert await bench.rows("SELECT sum(late)::int FROM frame_log") == [(12,)]
    assert (
        await bench.rows(
            "SELECT n FROM rollup WHERE metric_id = 4 AND bucket_s = 3600 AND t0 = %s::timestamptz", "2025-10-10T02:00Z"
        )
    ) == [(12,)]
    assert (await bench.rows("SELECT dirty_since IS NOT NULL FROM patient_state")) == [(True,)]


async def test_silence_is_technical_and_ends_with_data(bench: Bench) -> None:
    await bench.frames([stamped(1, 0, [block("heart_rate", T0, [60] * 60)])])
    await bench.silence(T0 + HOUR + 30 * MINUTE)
    assert not await bench.rows("SELECT 1 FROM alert")
    await bench.silence(T0 + 4 * HOUR)
    await bench.silence(T0 + 5 * HOUR)
    assert await bench.rows("SELECT rule, kind, state FROM alert") == [("device_silent", "technical", "active")]
    await bench.frames([stamped(1, 1, [block("heart_rate", T0 + 5 * HOUR, [60] * 60)])])
    assert await bench.rows("SELECT state FROM alert") == [("resolved",)]


async def test_a_clock_in_2038_silences_nobody(bench: Bench) -> None:
    await bench.frames([stamped(1, 0, [block("spo2", T0, [97] * 12, 300)])])
    future = stamped(1, 1, [block("heart_rate", T0 + 4000 * DAY, [70] * 5)], received_ms=T0 + HOUR)
    await bench.frames([future])
    await bench.frames([stamped(1, 2, [block("spo2", T0 + HOUR, [83] * 6, 300)])])
    assert await bench.rows("SELECT rule, late FROM alert") == [("spo2_low", False)]


async def worker_of(bench: Bench) -> Worker:
    session = Session(bench.settings.postgres.conninfo("writer"))
    worker = Worker(session, SystemClock(), bench.core, BOUNDS, "test")
    await worker.take_over(bench.epochs)
    await worker.prepare()
    return worker


async def test_one_poisonous_record_is_found_filed_and_stepped_over(bench: Bench) -> None:
    """An instant no calendar holds gets past no door of ours; another producer's must not stop a partition for ever."""
    worker = await worker_of(bench)
    frames = [stamped(1, seq, [block("heart_rate", T0 + seq * HOUR, [60, 61])]) for seq in range(7)]
    frames.insert(4, stamped(2, 0, [block("steps", 400_000_000_000_000, [1])], received_ms=T0))
    await worker.process(records(frames))
    await worker.drop()
    assert await bench.rows("SELECT record_offset, reason FROM dead_letter") == [(4, "unprocessable")]
    assert await bench.rows("SELECT sum(stored)::int FROM frame_log") == [(14,)]
    assert await bench.rows("SELECT next_offset FROM partition_position WHERE topic = %s", TOPIC) == [(8,)]


async def test_a_zombie_writes_nothing(bench: Bench) -> None:
    await bench.frames([stamped(1, 0, [block("heart_rate", T0, [60])])])
    zombie_epochs = dict(bench.epochs)
    await bench.take_over()
    bench.epochs = zombie_epochs
    with pytest.raises(FencedError):
        await bench.frames([stamped(1, 1, [block("heart_rate", T0 + HOUR, [61])])])
    assert await bench.rows("SELECT count(*) FROM frame_log") == [(1,)]


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


async def test_heartbeats_without_readings_do_not_hide_silence(bench: Bench) -> None:
    await bench.frames([stamped(1, 0, [block("heart_rate", T0, [60] * 60)])])
    for hour in range(1, 6):
        again = block("heart_rate", T0, [60] * 60)  # a re-send brings nothing new
        await bench.frames([stamped(1, hour, [again], received_ms=T0 + hour * HOUR)])
    await bench.silence(T0 + 6 * HOUR)
    assert await bench.rows("SELECT rule FROM alert") == [("device_silent",)]


async def test_readings_while_not_worn_are_no_news_of_the_person(bench: Bench) -> None:
    await bench.frames([stamped(1, 0, [block("spo2", T0, [83] * 6, 300)])])
    off = [block("spo2", T0 + HOUR // 2, [96] * 30, 300, quality=bytes([NOT_WORN] * 30))]
    await bench.frames([stamped(1, 1, off, received_ms=T0 + 3 * HOUR)])
    await bench.silence(T0 + 3 * HOUR + 10 * MINUTE)
    assert await bench.rows("SELECT state, unknown_since IS NOT NULL FROM alert WHERE rule = 'spo2_low'") == [
        ("active", True)
    ]


async def test_a_first_frame_with_a_fast_clock_does_not_make_all_others_late(bench: Bench) -> None:
    ahead = stamped(1, 0, [block("heart_rate", T0 + 20 * HOUR, [70] * 5)], received_ms=T0)
    await bench.frames([ahead])
    await bench.frames([stamped(1, 1, [block("spo2", T0, [83] * 6, 300)], received_ms=T0 + 30 * MINUTE)])
    assert await bench.rows("SELECT late FROM alert WHERE rule = 'spo2_low'") == [(False,)]


async def test_a_provisional_worsening_is_taken_back_when_its_evidence_goes(bench: Bench) -> None:
    await bench.frames([stamped(1, 0, [block("spo2", T0, [89] * 7, 300)], received_ms=T0 + 40 * MINUTE)])
    assert await bench.rows("SELECT priority FROM alert") == [("medium",)]
    start = T0 + 35 * MINUTE
    received = T0 + 50 * MINUTE
    await bench.frames([stamped(1, 2, [block("spo2", start, [84, 84], 330)], received_ms=received)])
    assert await bench.rows("SELECT priority FROM alert") == [("high",)]
    await bench.frames([stamped(1, 1, [block("spo2", start + 3 * MINUTE, [88])], received_ms=received)])
    assert await bench.rows("SELECT priority FROM alert") == [("medium",)]


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
