"""Findings on history are listed and page nobody, whatever way the frames were cut; what still lasts is told."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from ingest.frame import StampedFrame
from tests.cast import cast
from tests.fix_faults import stamped_story
from tests.fix_processor import DAY, HOUR, MINUTE, T0, Bench, block, stamped

pytestmark = pytest.mark.stack

DAYS = 8
ALERTS = """SELECT patient_id, rule, priority, state, late, started_at, found_at, resolved_at FROM alert
            WHERE state <> 'withdrawn' ORDER BY 1, 2, 6"""
EVENTS = """SELECT e.change, e.priority, e.late, e.at FROM alert_event e JOIN alert a ON a.id = e.alert_id
            WHERE e.change IN ('raised', 'worsened') AND a.rule = 'spo2_low' ORDER BY e.id"""


def spooled(frames: list[StampedFrame], received_ms: int) -> list[StampedFrame]:
    """The same frames, all received at one instant."""
    return [msgspec.structs.replace(frame, received_ms=received_ms) for frame in frames]


def low(patient: int, seq: int, minute: int, value: float, received_ms: int) -> StampedFrame:
    """Half an hour of one oxygen saturation."""
    return stamped(patient, seq, [block("spo2", T0 + minute * MINUTE, [value] * 6, 300)], received_ms=received_ms)


async def test_a_spool_of_days_pages_nobody_however_it_is_cut(bench: Bench, second_bench: Bench) -> None:
    frames = []
    for number, person in enumerate(cast(DAYS), start=1):
        story = stamped_story(number, person, DAYS)
        frames += story[: 4 * 24] + spooled(story[4 * 24 : 7 * 24], T0 + 7 * DAY) + story[7 * 24 :]
    frames.sort(key=lambda frame: (frame.received_ms, frame.patient_id, frame.seq))
    chance, at = Random(5), 0
    await bench.frames(frames)
    while at < len(frames):
        size = chance.choice((1, 3, 20, 200, 700))
        if chance.random() < 0.1:
            await second_bench.take_over()
        await second_bench.frames(frames[at : at + size])
        at += size
    whole, cut = await bench.rows(ALERTS), await second_bench.rows(ALERTS)
    assert whole == cut
    last = T0 + 7 * DAY
    from_spool = [row for row in whole if T0 + 4 * DAY < row[6].timestamp() * 1000 < last - 6 * HOUR]
    resolved = [row for row in from_spool if row[7] is not None and row[7].timestamp() * 1000 < last - HOUR]
    assert len(resolved) >= 6
    assert {row[4] for row in resolved} == {True}
    assert {row[4] for row in whole if row[6].timestamp() * 1000 < T0 + 4 * DAY} == {False}
    told = await bench.rows("SELECT DISTINCT alert_id FROM alert_event WHERE change = 'raised' AND NOT late")
    assert len(told) == sum(not row[4] for row in whole)


async def test_a_time_lapse_of_six_hours_a_step_is_live(bench: Bench) -> None:
    for number, person in enumerate(cast(DAYS), start=1):
        frames = stamped_story(number, person, DAYS)
        for end in range(T0 + 6 * HOUR, T0 + DAYS * DAY + 1, 6 * HOUR):
            await bench.frames(spooled([f for f in frames if end - 6 * HOUR < f.received_ms <= end], end))
    rows = await bench.rows(ALERTS)
    assert len(rows) > 10
    # a silence begins two hours after the last reading, which may be a step ago; the clock tells it, were it asked
    assert {row[1] for row in rows if row[4]} <= {"device_silent"}


@pytest.mark.parametrize("together", [True, False])
async def test_what_a_spool_opened_and_still_lasts_is_told_when_the_patient_is_live(
    bench: Bench, together: bool
) -> None:
    start = T0 + 3 * DAY
    frames = [
        low(1, 0, 0, 97, T0 + 30 * MINUTE),
        low(1, 1, 30, 88, start),
        low(1, 2, 60, 88, start),
        stamped(1, 3, [block("spo2", start - HOUR, [83] * 12, 300)], received_ms=start),
    ]
    for batch in [frames] if together else [[frame] for frame in frames]:
        await bench.frames(batch)
    rows: list[tuple[Any, ...]] = await bench.rows("SELECT priority, state, late FROM alert WHERE rule = 'spo2_low'")
    assert rows == [("high", "active", False)]
    events = await bench.rows(EVENTS)
    assert events[0][:3] == ("raised", "medium", True)
    assert ("raised", False) in {(change, late) for change, _, late, _ in events}
    live = await bench.rows("SELECT sentence FROM alert_event WHERE NOT late AND change = 'raised'")
    assert live
    assert all("Oxygen saturation" in sentence for (sentence,) in live)


async def test_what_ended_within_the_spool_is_never_told(bench: Bench) -> None:
    start = T0 + 3 * DAY
    await bench.frames([low(1, 0, 0, 97, T0 + 30 * MINUTE)])
    await bench.frames([low(1, 1, 30, 83, start), low(1, 2, 60, 97, start)])
    await bench.frames([stamped(1, 3, [block("spo2", start, [97] * 6, 300)], received_ms=start + HOUR)])
    assert await bench.rows("SELECT state, late FROM alert WHERE rule = 'spo2_low'") == [("resolved", True)]
    assert {late for _, _, late, _ in await bench.rows(EVENTS)} == {True}


async def test_a_worsening_on_history_is_told_when_the_patient_is_live(bench: Bench) -> None:
    start = T0 + 3 * DAY
    await bench.frames([low(1, 0, 0, 88, T0 + 30 * MINUTE)])
    await bench.frames([low(1, 1, 30, 83, start)])
    assert [row[:3] for row in await bench.rows(EVENTS)] == [("raised", "medium", False), ("worsened", "high", True)]
    await bench.take_over()
    await bench.frames([stamped(1, 2, [block("heart_rate", start, [70] * 30)], received_ms=start + HOUR)])
    assert [row[:3] for row in await bench.rows(EVENTS)][2:] == [("worsened", "high", False)]
