"""An alert on the real database: at once and provisional, settled, worse, withdrawn, late, never over without data."""

from __future__ import annotations

import psycopg
import pytest

from ingest.frame import NOT_WORN
from services.processor.watermark import AT_THE_DOOR_MS
from tests.fix_processor import HOUR, MINUTE, T0, Bench, block, stamped

pytestmark = pytest.mark.stack


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


async def test_a_provisional_worsening_is_taken_back_when_its_evidence_goes(bench: Bench) -> None:
    await bench.frames([stamped(1, 0, [block("spo2", T0, [89] * 7, 300)], received_ms=T0 + 40 * MINUTE)])
    assert await bench.rows("SELECT priority FROM alert") == [("medium",)]
    start = T0 + 35 * MINUTE
    received = T0 + 50 * MINUTE
    await bench.frames([stamped(1, 2, [block("spo2", start, [84, 84], 330)], received_ms=received)])
    assert await bench.rows("SELECT priority FROM alert") == [("high",)]
    await bench.frames([stamped(1, 1, [block("spo2", start + 3 * MINUTE, [88])], received_ms=received)])
    assert await bench.rows("SELECT priority FROM alert") == [("medium",)]


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


async def test_readings_while_not_worn_are_no_news_of_the_person(bench: Bench) -> None:
    await bench.frames([stamped(1, 0, [block("spo2", T0, [83] * 6, 300)])])
    off = [block("spo2", T0 + HOUR // 2, [96] * 30, 300, quality=bytes([NOT_WORN] * 30))]
    await bench.frames([stamped(1, 1, off, received_ms=T0 + 3 * HOUR)])
    await bench.silence(T0 + 3 * HOUR + 10 * MINUTE)
    assert await bench.rows("SELECT state, unknown_since IS NOT NULL FROM alert WHERE rule = 'spo2_low'") == [
        ("active", True)
    ]


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
