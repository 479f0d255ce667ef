"""Of what class a device is comes as a change, in event time: whatever the order, the same is said of what it found."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from ingest.frame import StampedFrame
from services.processor.records import Record
from services.store.changes import Wanted
from tests.fix_processor import DAY, HOUR, MINUTE, T0, Bench, block, stamped
from tests.integration.test_control import changed, interleaved, wanted
from tests.sentences.check import check_sentences

pytestmark = pytest.mark.stack

EVIDENCE = """SELECT rule, started_at, found_at, evidence, sentence, patient_sentence, id FROM alert
              WHERE patient_id = 1 AND state <> 'withdrawn' ORDER BY started_at, rule"""
SAID = "may be off by"


def classified(device: str, device_class: str, from_ms: int) -> Wanted:
    return wanted(1, "assignment", from_ms, device, assigned=True, device_class=device_class)


def story() -> list[StampedFrame]:
    """A minute a frame: low oxygen by the oximeter (device 2) in hours 1, 5 and 7, then by the watch (device 1) too, a
    fast heart by the watch in hour 3."""
    frames = []
    for minute in range(8 * 60 + 40):
        at, hour, low = T0 + minute * MINUTE, minute // 60, 20 <= minute % 60 < 40
        rate = 140.0 if hour == 3 and minute % 60 < 30 else 70.0
        oxygen = [88.0 if hour in (1, 5, 7, 8) and low else 97.0]
        watch = [block("heart_rate", at, [rate]), block("steps", at, [0.0])]
        watch += [block("spo2", at + 30_000, oxygen)] if hour >= 7 else []
        frames.append(stamped(1, minute, watch, received_ms=at + MINUTE))
        frames.append(stamped(1, minute, [block("spo2", at, oxygen)], device=2, received_ms=at + MINUTE))
    return frames


def classes(bench: Bench) -> list[Record]:
    """The watch is known from the start, the oximeter from the fourth hour on, and put right in the sixth."""
    return changed(
        bench, classified("d1", "wrist_optical", T0 - DAY), classified("d2", "thermometer", T0 + 4 * HOUR),
        classified("d2", "finger_oximeter", T0 + 4 * HOUR),
    )  # fmt: skip


async def told(bench: Bench) -> list[tuple[Any, ...]]:
    return await bench.rows(EVIDENCE)


async def test_a_finding_says_what_class_its_devices_were_known_to_be_then(bench: Bench) -> None:
    await bench.feed(classes(bench))
    await bench.frames(story())
    found = await told(bench)
    raised = dict(await bench.rows("SELECT alert_id, sentence FROM alert_event WHERE change = 'raised'"))
    both = [("d1", "wrist_optical"), ("d2", "finger_oximeter")]
    assert [
        (row[0], [(one["device"], one["class"]) for one in row[3]["devices"]], SAID in raised[row[6]]) for row in found
    ] == [
        ("spo2_low", [("d2", "unknown")], False), ("tachycardia_at_rest", both[:1], True),
        ("spo2_low", both[1:], True), ("spo2_low", both, True), ("spo2_low", both, True),
    ]  # fmt: skip
    assert [one["accuracy"]["error"] for one in found[-1][3]["devices"]] == [6, 4]
    assert "a finger oximeter may be off by (4 %)" in found[-1][4]
    assert not any(SAID in row[5] for row in found)
    with psycopg.connect(bench.settings.postgres.conninfo("admin"), autocommit=True) as connection:
        report = check_sentences(connection)
        assert report.problems == []
        connection.execute('UPDATE patient_change SET payload = payload || \'{"device_class": "unknown"}\'')
        spoilt = check_sentences(connection).problems
    assert {problem.split()[2] for problem in spoilt} == {"spo2_low", "tachycardia_at_rest"}


async def test_however_late_it_is_said_and_however_the_stream_is_cut_the_same_is_told(
    bench: Bench, second_bench: Bench
) -> None:
    await bench.feed(classes(bench))
    await bench.frames(story())
    expected = await told(bench)
    late = classes(second_bench)
    await interleaved(second_bench, story(), [], seed=3)
    assert all(one["class"] == "unknown" for row in await told(second_bench) for one in row[3]["devices"])
    await second_bench.take_over()
    await second_bench.feed(late)
    assert await second_bench.rebuild() == 1
    assert await told(second_bench) == expected


async def test_a_class_said_of_now_changes_nothing_that_was_found(bench: Bench) -> None:
    await bench.frames(story())
    before = await told(bench)
    await bench.feed(changed(bench, classified("d2", "finger_oximeter", T0 + 40 * HOUR)))
    await bench.feed(changed(bench, classified("d9", "cuff", T0)))  # it never measured anything of this patient
    assert await bench.rebuild() == 0
    later = [stamped(1, 900, [block("spo2", T0 + 44 * HOUR, [97.0] * 20 + [88.0] * 20)], device=2)]
    await bench.frames(later)
    after = await told(bench)
    assert after[: len(before) - 1] == before[:-1]  # the last one was still open
    assert [one["class"] for one in after[-1][3]["devices"]] == ["finger_oximeter"]


async def test_a_rebuild_right_after_the_start_names_devices_that_nothing_came_from_since(bench: Bench) -> None:
    await bench.feed(changed(bench, classified("d1", "wrist_optical", T0 - DAY)))
    for minute in range(90):
        at = T0 + minute * MINUTE
        await bench.frames([stamped(1, minute, [block("heart_rate", at, [70.0])], received_ms=at + MINUTE)])
        if minute >= 65:  # only in the hour that is not over
            await bench.frames(
                [stamped(1, minute - 65, [block("spo2", at, [88.0])], device=2, received_ms=at + MINUTE)]
            )
    await bench.feed(changed(bench, classified("d2", "finger_oximeter", T0)))
    bench.core.device_keys.clear()  # another process
    await bench.take_over()
    assert await bench.rebuild() == 1
    (found,) = await told(bench)
    assert [(one["device"], one["class"]) for one in found[3]["devices"]] == [("d2", "finger_oximeter")]
