"""Two devices of one patient with overlapping data: both stored, one preferred, however the stream is cut."""

from __future__ import annotations

import numpy as np
import pytest

from ingest.catalogue import catalogue
from ingest.frame import NOT_WORN, POOR_SIGNAL, StampedFrame
from services.processor.readings import Table
from services.processor.sources import preferred
from tests.fix_processor import DAY, HOUR, MINUTE, T0, Bench, block, stamped

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


def nights_of(patient: int, devices: int) -> list[StampedFrame]:
    """25 nights at 60 /min, from the 17th on measured 6 higher, by the second of ``devices`` where there are two."""
    frames: list[StampedFrame] = []
    for night in range(25):
        other, level = night >= 16, 60 + np.random.default_rng(night).normal(0, 1.2)
        for hour in [22, 23, *range(24, 31), 34]:
            rates = np.rint(level + 6 * other + np.random.default_rng([night, hour]).normal(0, 2, 60))
            heart = block("heart_rate", T0 + night * DAY + hour * HOUR, rates)
            device = 100 * patient + (devices - 1) * other
            frames.append(stamped(patient, len(frames), [heart], device=device, session=f"s{device}"))
    return frames


async def test_another_device_is_learned_and_no_rise_is_told(bench: Bench, second_bench: Bench) -> None:
    await bench.frames(nights_of(1, devices=1))
    rises = "SELECT evidence FROM alert WHERE rule = 'resting_heart_rate_rise' AND patient_id = %s"
    assert len(await bench.rows(rises, 1)) == 1, "of whoever is not known to have another device it is told"
    frames = nights_of(2, devices=2)
    await bench.frames(frames)
    assert await bench.rows(rises, 2) == []
    (row,) = bench.core.state[[bench.core.slot_of[2]]]
    assert row["devices"]["number"][0].tolist() == [2, 1]
    assert 400 < row["devices"]["offset"][0, 0] < 800
    last = (
        "SELECT value, center FROM daily_value WHERE patient_id = %s AND context = 'asleep' ORDER BY day DESC LIMIT 1"
    )
    ((value, center),) = await bench.rows(last, 2)
    assert value > 64, "the night is stored as it was measured"
    assert center == pytest.approx(value, abs=4), "and its usual as this device would measure it"
    while frames:  # in other batches, with restarts between them
        batch, frames = frames[:37], frames[37:]
        await second_bench.frames(batch)
        await second_bench.take_over()
    for query in ("SELECT state FROM patient_baseline WHERE patient_id = %s", last):
        assert await bench.rows(query, 2) == await second_bench.rows(query, 2)


async def test_a_night_of_the_other_device_that_comes_late_is_rebuilt(bench: Bench, second_bench: Bench) -> None:
    frames = nights_of(2, devices=2)
    late = [frame for frame in frames if frame.device_id == 201 and frame.blocks[0].t0_ms < T0 + 18 * DAY]
    await bench.frames(frames)
    await second_bench.frames([frame for frame in frames if frame not in late])
    await second_bench.frames(late)
    assert await second_bench.rebuild() == 1
    query = "SELECT state FROM patient_baseline WHERE patient_id = 2"
    assert await bench.rows(query) == await second_bench.rows(query)


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
