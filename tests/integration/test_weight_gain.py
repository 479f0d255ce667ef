"""A fast gain of weight from frames to alerts: told on arrival, settled, ended by weights, however frames come."""

from __future__ import annotations

from random import Random

import msgspec
import psycopg
import pytest

from ingest.clock import to_datetime
from ingest.frame import StampedFrame
from tests.fix_processor import DAY, HOUR, MINUTE, T0, Bench, block, stamped
from tests.integration.test_control import changed, wanted
from tests.sentences.check import check_sentences

pytestmark = pytest.mark.stack

TOLD = """
    SELECT rule, kind, priority, state, provisional, late, started_at, found_at, resolved_at, sentence FROM alert
    WHERE patient_id = %s AND state <> 'withdrawn' AND revised_by IS NULL ORDER BY 1, 7"""
MORNING, WATCH = 7 * HOUR, 50


def scale(patient: int, *kilograms: float | None, first: int = 0) -> list[StampedFrame]:
    """A frame each morning of the patient's scale; None: not weighed. Sent at once, as scales do."""
    made: list[StampedFrame] = []
    for day, value in enumerate(kilograms, first):
        if value is not None:
            at = T0 + day * DAY + MORNING
            made.append(stamped(patient, len(made), [block("weight", at, [value])], received_ms=at + 5000))
    return made


def watch(patient: int, days: int) -> list[StampedFrame]:
    """A frame of each hour of a watch, which knows no weight."""
    hours = range(days * 24)
    return [
        stamped(patient, n, [block("heart_rate", T0 + n * HOUR, [70] * 12, 300)], device=WATCH + patient) for n in hours
    ]


def in_order(*frames: list[StampedFrame]) -> list[StampedFrame]:
    return sorted((frame for some in frames for frame in some), key=lambda frame: frame.received_ms)


def problems(bench: Bench) -> list[str]:
    with psycopg.connect(bench.settings.postgres.conninfo("admin")) as connection:
        report = check_sentences(connection)
    assert report.rules["weight_gain"] >= 2
    return report.problems


async def test_it_is_told_on_arrival_settles_and_ends_by_weights(bench: Bench) -> None:
    story = in_order(scale(1, 80.0, 81.2, 82.1, 82.4, 82.3, 80.7, 80.6), watch(1, 8))
    told_at = T0 + 3 * DAY + MORNING
    for frame in [frame for frame in story if frame.received_ms < told_at + MINUTE]:
        await bench.frames([frame])
    (told,) = await bench.rows(TOLD, 1)
    assert told[:6] == ("weight_gain", "clinical", "medium", "active", True, False)
    assert told[6:8] == (to_datetime(T0 + 2 * DAY + MORNING), to_datetime(told_at))
    assert told[9] == (
        "Weight rose by 2.4 kg, from 80 kg on 10 Oct to 82.4 kg on 13 Oct: more than 2 kg in 3 days, seen on two days"
    )
    for frame in [frame for frame in story if frame.received_ms >= told_at + MINUTE]:
        await bench.frames([frame])
    (told,) = await bench.rows(TOLD, 1)
    assert told[3:5] == ("resolved", False)
    assert told[8] == to_datetime(T0 + 6 * DAY + MORNING)
    ((evidence,),) = await bench.rows("SELECT evidence FROM alert WHERE state = 'resolved'")
    assert [one["device"] for one in evidence["devices"]] == ["d1"]
    assert problems(bench) == []
    await bench.connection.execute("UPDATE alert SET patient_sentence = replace(patient_sentence, '80', '79')")
    assert "weight_gain" in problems(bench)[0]


async def test_however_frames_are_cut_swapped_and_interrupted_the_same_is_told(bench: Bench) -> None:
    """Within the bound; and a weighing that came a day late is told once it is rebuilt, as if it had come in time."""
    chance = Random(7)
    kilograms = (80.0, 82.5, None, 82.6, 82.0, 80.2, 80.1, 80.3, 96.0, 96.1, *[96.0] * 8)
    for frame in in_order(scale(1, *kilograms), watch(1, len(kilograms) + 1)):
        await bench.frames([frame])
    story = in_order(scale(2, *kilograms), watch(2, len(kilograms) + 1))
    while story:
        some, story = story[: (n := chance.randint(1, 9))], story[n:]
        received_ms = max(frame.received_ms for frame in some)
        await bench.frames([msgspec.structs.replace(frame, received_ms=received_ms) for frame in some])
        if chance.random() < 0.1:
            await bench.take_over()
    story = in_order(scale(3, *kilograms), watch(3, len(kilograms) + 1))
    late = next(frame for frame in story if frame.device_id == 3 and frame.received_ms > T0 + DAY)
    story.remove(late)
    for frame in story[: (n := 24 * 4 + 12)]:
        await bench.frames([frame])
    assert await bench.rows(TOLD, 3) == []
    await bench.frames([msgspec.structs.replace(late, received_ms=T0 + 4 * DAY + 12 * HOUR)])
    bench.now_ms = T0 + 5 * DAY
    assert await bench.rebuild() == 1
    for frame in story[n:]:
        await bench.frames([frame])
    alike = [await bench.rows(TOLD, patient) for patient in (1, 2, 3)]
    assert [row[0] for row in alike[0]] == ["weight_gain", "weight_gain"]
    raised = await bench.rows("SELECT sentence FROM alert_event WHERE change = 'raised' AND patient_id = 1 ORDER BY id")
    assert ["another scale" in text for (text,) in raised] == [False, True]
    assert alike[0] == alike[1]
    assert [row[:5] + row[6:] for row in alike[2]] == [row[:5] + row[6:] for row in alike[0]]
    assert problems(bench) == []


async def test_mornings_left_out_hide_nothing_and_a_further_gain_is_told_as_worse_at_once(bench: Bench) -> None:
    kilograms = (80.0, None, None, 83.0, 83.0, 83.1, None, None, 87.0, None, 87.2, *[87.2] * 9)
    story = in_order(scale(1, *kilograms), watch(1, len(kilograms) + 1))
    seen: dict[int, list[tuple[object, ...]]] = {}
    for day in range(len(kilograms) + 1):
        while story and story[0].received_ms < T0 + day * DAY + MORNING + MINUTE:
            await bench.frames([story.pop(0)])
        seen[day] = await bench.rows("SELECT priority, state, provisional FROM alert WHERE rule = 'weight_gain'")
    assert (seen[3], seen[4]) == ([], [("medium", "active", True)])
    assert seen[9] == [("medium", "active", False)]
    assert seen[10] == [("high", "active", False)]  # on arrival: the next weighing comes a day later
    events = await bench.rows("SELECT change, at, sentence FROM alert_event WHERE patient_id = 1 ORDER BY id")
    worse = [row for row in events if row[0] == "worsened"]
    assert worse == [(
        "worsened", to_datetime(T0 + 10 * DAY + MORNING),
        "Weight rose further, by 4.1 kg, from 83.1 kg on 15 Oct to 87.2 kg on 20 Oct: more than 2 kg in 3 days, seen on "
        "two days",
    )]  # fmt: skip
    (told,) = await bench.rows(TOLD, 1)
    assert (told[3], told[8]) == ("resolved", to_datetime(T0 + 17 * DAY + MORNING))
    assert problems(bench) == []


async def test_it_is_off_in_dialysis_and_says_so(bench: Bench) -> None:
    await bench.feed(changed(bench, wanted(1, "profile", T0, dialysis=True)))
    for frame in in_order(scale(1, 80.0, 83.0, 83.1), watch(1, 4)):
        await bench.frames([frame])
    assert await bench.rows(TOLD, 1) == []
    assert await bench.rows("SELECT rule, monitoring FROM suppressed_finding") == [("weight_gain", "rule_off")]


async def test_days_that_a_scale_delivers_at_once_are_told_when_they_are_rebuilt(bench: Bench) -> None:
    hours = watch(1, 5)
    for frame in hours[: 4 * 24]:
        await bench.frames([frame])
    now = T0 + 4 * DAY
    kept = ((3 * DAY, 80.0), (2 * DAY, 80.6), (DAY, 81.5), (MINUTE, 82.7), (0, 82.6))
    blocks = [block("weight", now - ago, [value]) for ago, value in kept]
    await bench.frames([stamped(1, 0, blocks, received_ms=now + 5000)])
    assert await bench.rows(TOLD, 1) == []
    bench.now_ms = now + MINUTE
    assert await bench.rebuild() == 1
    (told,) = await bench.rows(TOLD, 1)
    assert told[3:6] == ("active", True, False)
    assert told[9].startswith("Weight rose by 2.65 kg, from 80 kg on 11 Oct to 82.65 kg on 1")
    for frame in hours[4 * 24 :]:
        await bench.frames([frame])
    assert [row[3:6] for row in await bench.rows(TOLD, 1)] == [("active", False, False)]
