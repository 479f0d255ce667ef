"""Silence and wrong clocks: judged by the clock, and no stamp of a device silences anybody or makes all others late."""

from __future__ import annotations

import pytest

from tests.fix_processor import DAY, HOUR, MINUTE, T0, Bench, block, stamped

pytestmark = pytest.mark.stack


async def test_silence_is_technical_and_ends_with_data(bench: Bench) -> None:
    await bench.frames([stamped(1, 0, [block("heart_rate", T0, [60] * 60)])])
    await bench.silence(T0 + HOUR + 30 * MINUTE)
    assert not await bench.rows("SELECT 1 FROM alert")
    await bench.silence(T0 + 4 * HOUR)
    await bench.silence(T0 + 5 * HOUR)
    assert await bench.rows("SELECT rule, kind, state FROM alert") == [("device_silent", "technical", "active")]
    await bench.frames([stamped(1, 1, [block("heart_rate", T0 + 5 * HOUR, [60] * 60)])])
    assert await bench.rows("SELECT state FROM alert") == [("resolved",)]


async def test_heartbeats_without_readings_do_not_hide_silence(bench: Bench) -> None:
    await bench.frames([stamped(1, 0, [block("heart_rate", T0, [60] * 60)])])
    for hour in range(1, 6):
        again = block("heart_rate", T0, [60] * 60)  # a re-send brings nothing new
        await bench.frames([stamped(1, hour, [again], received_ms=T0 + hour * HOUR)])
    await bench.silence(T0 + 6 * HOUR)
    assert await bench.rows("SELECT rule FROM alert") == [("device_silent",)]


async def test_a_clock_in_2038_silences_nobody(bench: Bench) -> None:
    await bench.frames([stamped(1, 0, [block("spo2", T0, [97] * 12, 300)])])
    future = stamped(1, 1, [block("heart_rate", T0 + 4000 * DAY, [70] * 5)], received_ms=T0 + HOUR)
    await bench.frames([future])
    await bench.frames([stamped(1, 2, [block("spo2", T0 + HOUR, [83] * 6, 300)])])
    assert await bench.rows("SELECT rule, late FROM alert") == [("spo2_low", False)]


async def test_a_first_frame_with_a_fast_clock_does_not_make_all_others_late(bench: Bench) -> None:
    ahead = stamped(1, 0, [block("heart_rate", T0 + 20 * HOUR, [70] * 5)], received_ms=T0)
    await bench.frames([ahead])
    await bench.frames([stamped(1, 1, [block("spo2", T0, [83] * 6, 300)], received_ms=T0 + 30 * MINUTE)])
    assert await bench.rows("SELECT late FROM alert WHERE rule = 'spo2_low'") == [(False,)]
