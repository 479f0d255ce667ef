"""A patient's profile and own limits, applied in event time: other thresholds, rules that are off, nothing lost."""

from __future__ import annotations

from random import Random
from typing import Any

import psycopg
import pytest

from ingest.clock import to_datetime
from ingest.frame import StampedFrame
from tests.cast import Episode, Person, at
from tests.fix_faults import stamped_story
from tests.fix_processor import DAY, HOUR, MINUTE, T0, Bench, block, stamped
from tests.integration.test_control import changed, interleaved, wanted
from tests.sentences.check import check_sentences

pytestmark = pytest.mark.stack

OXYGEN: dict[str, Any] = {"oxygen": {"target": [88, 92], "set_by": "dr", "home": True}}
STEP = 5 * MINUTE
SETTLED = """
    SELECT rule, priority, state, started_at, found_at, resolved_at, sentence, evidence - 'devices' FROM alert
    WHERE patient_id = %s AND state <> 'withdrawn' AND revised_by IS NULL ORDER BY 4, 1"""
ALERTS = (
    "SELECT rule, priority, state, started_at, found_at, resolved_at FROM alert WHERE patient_id = %s ORDER BY 4, 1"
)


def spo2(patient: int, *stretches: tuple[int, float]) -> list[StampedFrame]:
    """Frames of an hour each, a reading every five minutes: so many readings of each value from T0 on."""
    values = [value for n, value in stretches for _ in range(n)]
    hours = [values[i : i + 12] for i in range(0, len(values), 12)]
    return [stamped(patient, i, [block("spo2", T0 + i * HOUR, part, 300)]) for i, part in enumerate(hours)]


def own_limits(patient: int, effective_ms: int, subject: str = "patient", **rules: Any) -> Any:
    return wanted(patient, "limits", effective_ms, subject, rules=rules)


async def true_sentences(bench: Bench) -> int:
    with psycopg.connect(bench.settings.postgres.conninfo("admin")) as connection:
        report = check_sentences(connection)
    assert report.problems == []
    return report.sentences


async def test_a_target_of_88_to_92_moves_the_limits_of_oxygen_and_watches_for_too_much(bench: Bench) -> None:
    """89 % is what was wanted; 85 is not; and on oxygen neither is 96 (NEWS2, SpO2 scale 2)."""
    await bench.feed(changed(bench, wanted(1, "profile", T0, **OXYGEN)))
    story = ((12, 89.0), (12, 85.0), (12, 90.0), (12, 96.0), (12, 91.0))
    for patient in (1, 2):
        for frame in spo2(patient, *story):
            await bench.frames([frame])
    hour = [to_datetime(T0 + n * HOUR) for n in range(6)]
    assert await bench.rows(ALERTS, 1) == [
        ("spo2_low", "medium", "resolved", hour[1], to_datetime(T0 + HOUR + STEP), to_datetime(T0 + 2 * HOUR + 2 * STEP)),
        ("spo2_high_on_oxygen", "medium", "resolved", hour[3], to_datetime(T0 + 3 * HOUR + 2 * STEP),
         to_datetime(T0 + 4 * HOUR + 2 * STEP)),
    ]  # fmt: skip
    assert [row[:3] for row in await bench.rows(ALERTS, 2)] == [("spo2_low", "medium", "resolved")], "everybody's"
    told = await bench.rows("SELECT change, sentence FROM alert_event WHERE patient_id = 1 ORDER BY id")
    assert told[0][1].startswith("Oxygen saturation fell to 85 % and stayed below 86 %")
    assert any("at 95 % or more" in sentence for _, sentence in told)
    origin = "SELECT DISTINCT evidence->>'limit_set_by' FROM alert WHERE patient_id = %s"
    assert await bench.rows(origin, 1) == [("profile",)]
    assert await bench.rows(origin, 2) == [(None,)]
    assert await true_sentences(bench) > 6


async def test_an_open_alert_goes_on_to_the_clear_threshold_of_the_limit_that_holds_then(bench: Bench) -> None:
    """Looser limits while it is open: it is not lost, and ends at 87, where the own limit clears."""
    low = spo2(1, (12, 89.0), (12, 88.0))
    await bench.frames(low[:1])
    assert await bench.rows("SELECT rule, state FROM alert") == [("spo2_low", "active")]
    await bench.feed(changed(bench, own_limits(1, T0 + HOUR, spo2_low={"levels": [85, 82]})))
    assert await bench.rows("SELECT state FROM alert") == [("active",)], "nothing is taken away by a change"
    await bench.frames(low[1:])
    await bench.frames([stamped(1, 2, [block("spo2", T0 + 2 * HOUR, [88.0] * 12, 300)])])
    rows = await bench.rows(ALERTS, 1)
    assert [(row[2], row[5]) for row in rows] == [("resolved", to_datetime(T0 + HOUR + 2 * STEP))]
    assert await true_sentences(bench) > 1


async def test_a_run_goes_on_under_a_stricter_limit_and_begins_anew_under_a_looser_one(bench: Bench) -> None:
    """Patient 1: three readings at 84, then 90/88 instead of 90/85: high at once. Patient 2: the limit becomes 84."""
    readings = [84.5, 84.5, 83.0, 83.0, 83.0]
    when = T0 + MINUTE + 30_000
    await bench.feed(
        changed(
            bench,
            own_limits(1, when, spo2_low={"levels": [92, 88]}),
            own_limits(2, when, spo2_low={"levels": [84, 80]}),
        )
    )
    for patient in (1, 2):
        one_a_minute = [*readings, 83.0, 83.0, 83.0]
        await bench.frames([stamped(patient, 0, [block("spo2", T0, one_a_minute, 60)])])
        await bench.frames([stamped(patient, 1, [block("spo2", T0 + HOUR, [97.0] * 60, 60)])])
    first, second = await bench.rows(ALERTS, 1), await bench.rows(ALERTS, 2)
    assert [(row[1], row[3], row[4]) for row in first] == [("high", to_datetime(T0), to_datetime(T0 + 5 * MINUTE))]
    began = to_datetime(T0 + 2 * MINUTE)
    assert [(row[1], row[3], row[4]) for row in second] == [("medium", began, to_datetime(T0 + 7 * MINUTE))]
    assert await true_sentences(bench) > 3


async def test_the_layers_come_one_over_the_other_and_of_two_programmes_the_stricter_number_counts(
    bench: Bench,
) -> None:
    layers = [
        own_limits(1, T0, "organisation", spo2_low={"levels": [92, 88], "persist_s": 60}),
        own_limits(1, T0, "programme/copd", spo2_low={"levels": [88, 84]}),
        own_limits(1, T0, "programme/heart", spo2_low={"levels": [86, 85]}),
        own_limits(1, T0 + 2 * HOUR, "patient", spo2_low={"levels": [85, 80]}),
    ]
    await bench.feed(changed(bench, *layers))
    for frame in spo2(1, (12, 87.0), (12, 97.0), (12, 86.0), (12, 97.0), (12, 84.5), (12, 97.0)):
        await bench.frames([frame])
    sentences = [
        row[0] for row in await bench.rows("SELECT sentence FROM alert_event WHERE change = 'raised' ORDER BY id")
    ]
    assert len(sentences) == 2
    assert "below 88 %" in sentences[0]
    assert "below 85 %" in sentences[1]


RISEN = Person("risen", tuple(Episode("heart_rate", at(d - 1, 22), at(d, 8), add=12) for d in range(6, 16)))


async def test_a_rule_that_does_not_hold_is_off_and_what_it_would_have_said_is_counted(bench: Bench) -> None:
    """A pacemaker from the start: the resting heart rate says nothing. Without it any more: told, as it still is so."""
    await bench.feed(
        changed(
            bench,
            wanted(1, "profile", T0, pacemaker=True),
            wanted(1, "profile", T0 + 12 * DAY + 30 * MINUTE, pacemaker=False),
        )
    )
    for patient in (1, 2):
        await bench.frames(stamped_story(patient, RISEN, 15))
    rise = "SELECT rule, found_at FROM alert WHERE patient_id = %s AND rule = 'resting_heart_rate_rise'"
    assert await bench.rows(rise, 1) == [("resting_heart_rate_rise", to_datetime(T0 + 12 * DAY + HOUR))]
    assert (await bench.rows(rise, 2))[0][1] < to_datetime(T0 + 11 * DAY)
    kept = await bench.rows("SELECT rule, monitoring FROM suppressed_finding WHERE patient_id = 1")
    assert kept == [("resting_heart_rate_rise", "rule_off")]


async def test_under_16_the_limits_for_adults_are_off_from_and_to_the_day(bench: Bench) -> None:
    """Born on 2009-10-11: 16 on the second day of the data. Low oxygen is told at any age."""
    await bench.feed(changed(bench, wanted(1, "profile", T0, birth_date="2009-10-11", adult_limits="off")))
    for hour in range(26):
        fast = [block("heart_rate", T0 + hour * HOUR, [165.0] * 60), block("spo2", T0 + hour * HOUR, [84.0] * 12, 300)]
        await bench.frames([stamped(1, hour, fast)])
    rows = await bench.rows(ALERTS, 1)
    assert [(row[0], row[3]) for row in rows] == [
        ("spo2_low", to_datetime(T0)), ("news2_high", to_datetime(T0 + DAY)), ("tachycardia_at_rest", to_datetime(T0 + DAY)),
    ]  # fmt: skip


async def test_what_is_not_beyond_the_own_limit_teaches_the_baseline(bench: Bench) -> None:
    """89 % all day: an alarm for everybody, and never learned; what is wanted of somebody with a target, and learned."""
    await bench.feed(changed(bench, wanted(1, "profile", T0, **OXYGEN)))
    for patient in (1, 2):
        await bench.frames(spo2(patient, (12 * 60, 89.0)))
    used = "SELECT DISTINCT used FROM daily_value WHERE patient_id = %s AND metric_id = 4"
    assert await bench.rows(used, 1) == [(True,)]
    assert await bench.rows(used, 2) == [(False,)]


def asked(patient: int) -> list[Any]:
    return [
        wanted(patient, "profile", T0 + 2 * HOUR, **OXYGEN),
        own_limits(patient, T0 + 5 * HOUR + 7 * MINUTE, spo2_low={"levels": [84, 82], "persist_s": 120}),
        own_limits(patient, T0 + 9 * HOUR + MINUTE, "organisation", spo2_high_on_oxygen={"levels": [94, 96]}),
        wanted(patient, "profile", T0 + 20 * HOUR + 1),
        own_limits(patient, T0 + 22 * HOUR + 11 * MINUTE, "patient"),
    ]


def wandering(patient: int, seed: int) -> list[StampedFrame]:
    """A saturation that wanders through every threshold, in frames of ten minutes."""
    chance, frames, value = Random(seed), [], 90.0
    for i in range(26 * 6):
        values = []
        for _ in range(5):
            value = min(99.0, max(79.0, value + chance.choice((-2.0, -1.0, 0.0, 0.0, 0.0, 1.0, 2.0))))
            values.append(value)
        start = T0 + i * 10 * MINUTE
        frames.append(stamped(patient, i, [block("spo2", start, values, 120)], received_ms=start + 10 * MINUTE))
    return frames


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_in_time_in_any_cut_late_or_replayed_the_same_comes_of_it(bench: Bench, seed: int) -> None:
    await bench.feed(changed(bench, *asked(1)))
    await bench.frames(wandering(1, seed))
    assert await true_sentences(bench) > 10  # what is told before a late change is true of what was known then
    control = changed(bench, *asked(2))
    Random(seed).shuffle(control)
    control += [record._replace(offset=record.offset + 1000) for record in control[:2]]
    await interleaved(bench, wandering(2, seed), control, seed)
    await bench.feed(control)  # those for which there was no batch
    await bench.frames(wandering(3, seed))
    await bench.feed(changed(bench, *asked(3)))
    assert await bench.rebuild() > 0
    first, second, third = [await bench.rows(SETTLED, patient) for patient in (1, 2, 3)]
    assert len(first) > 3
    assert second == first
    assert third == first
    assert await bench.rows("SELECT 1 FROM patient_state WHERE dirty_since IS NOT NULL") == []
