"""Values in what must be a wrong unit: set aside, asked about at once where they would be dangerous, never converted."""

from __future__ import annotations

from itertools import permutations

import psycopg
import pytest

from ingest.frame import MOTION, OUT_OF_RANGE, UNIT_SUSPECTED, StampedFrame
from tests.fix_processor import DAY, HOUR, MINUTE, T0, Bench, block, stamped
from tests.sentences.check import check_sentences

pytestmark = pytest.mark.stack

WRONG = bytes([UNIT_SUSPECTED])
ALERTS = """SELECT rule, kind, priority, state, provisional, late, started_at, resolved_at, sentence
            FROM alert WHERE state <> 'withdrawn' AND rule LIKE 'check_value%' ORDER BY started_at"""


def wrong(seq: int, at_ms: int, value: float = 5.5) -> StampedFrame:
    return stamped(1, seq, [block("glucose", at_ms, [value], quality=WRONG)], received_ms=max(T0 + HOUR, at_ms))


def good(seq: int, at_ms: int, value: float = 99) -> StampedFrame:
    return stamped(1, seq, [block("glucose", at_ms, [value])], received_ms=max(T0 + HOUR, at_ms))


async def test_a_dangerous_value_in_a_wrong_unit_is_asked_about_until_a_good_one_comes(bench: Bench) -> None:
    effects = await bench.frames([wrong(0, T0)])
    assert [(f.stored, f.quarantined) for f in effects.fates] == [(0, 1)]
    assert await bench.rows("SELECT value, reason FROM quarantined_reading") == [(5.5, "unit_suspected")]
    (alert,) = await bench.rows(ALERTS)
    assert alert[:6] == ("check_value_glucose", "clinical", "low", "active", False, False)
    assert alert[8] == (
        "Check this value: glucose came as 5.5 mg/dL from d1 at 01:00 on 10 Oct, which can't be true; read in mmol/L "
        "it would be 99.1 mg/dL. It was set aside, not converted"
    )
    await bench.frames([wrong(1, T0 + 5 * MINUTE, 6.0)])  # one more of the same: no second alert
    await bench.frames([wrong(2, T0)])  # a re-send
    assert len(await bench.rows(ALERTS)) == 1
    await bench.frames([good(3, T0 + 10 * MINUTE)])
    assert (await bench.rows(ALERTS))[0][3] == "active"  # not settled yet
    await bench.frames([good(4, T0 + 15 * MINUTE)])
    (alert,) = await bench.rows(ALERTS)
    assert alert[3] == "resolved"
    assert alert[8] == "Glucose is in a possible range again: 99 mg/dL from d1 at 01:10 on 10 Oct"
    await bench.frames([wrong(5, T0), wrong(6, T0 + 5 * MINUTE, 6.0)])  # a replay changes nothing
    assert await bench.rows(ALERTS) == [alert]
    assert await bench.rows("SELECT count(*) FROM alert_event") == [(2,)]


async def test_every_number_it_says_is_recomputed_by_sql(bench: Bench) -> None:
    """As sent, and the other way round: said to be in °F, kPa or mmol/L, and was not."""
    sent = {
        "heart_rate": (1.2, 72 * 60), "spo2": (0.97, 9700), "body_temperature": (98.6, 2.7778), "systolic_pressure": (16, 900),
        "glucose": (5.5, 1783.5),
    }  # fmt: skip
    right = {"heart_rate": 70, "spo2": 97, "body_temperature": 36.6, "systolic_pressure": 120, "glucose": 99}
    for patient, place in ((1, 0), (2, 1)):
        blocks = [block(metric, T0, [values[place]], quality=WRONG) for metric, values in sent.items()]
        await bench.frames([stamped(patient, 0, blocks, received_ms=T0 + HOUR)])
        for seq, minute in ((1, 5), (2, 40)):
            blocks = [block(metric, T0 + minute * MINUTE, [value]) for metric, value in right.items()]
            await bench.frames([stamped(patient, seq, blocks, received_ms=T0 + HOUR)])
    with psycopg.connect(bench.settings.postgres.conninfo("admin"), autocommit=True) as connection:
        report = check_sentences(connection)
        assert report.problems == []
        told = {rule: n for rule, n in report.rules.items() if rule.startswith("check_value")}
        assert told["check_value_glucose"] == 6  # raised and resolved for each, and the patient's own
        assert len(told) == len(sent)
        connection.execute("UPDATE quarantined_reading SET value = 5 WHERE value = 5.5")
        assert any("check_value_glucose" in problem for problem in check_sentences(connection).problems)


async def test_no_limit_no_danger_no_alert(bench: Bench) -> None:
    weight = block("weight", T0, [70_000.0], quality=WRONG)
    odd = block("glucose", T0, [900.0], quality=bytes([OUT_OF_RANGE]))
    effects = await bench.frames([stamped(1, 0, [weight, odd])])
    assert effects.fates[0].quarantined == 2
    assert sorted(await bench.rows("SELECT reason FROM quarantined_reading")) == [
        ("out_of_range",),
        ("unit_suspected",),
    ]
    assert not await bench.rows("SELECT 1 FROM alert")


async def test_two_metrics_are_asked_about_apart(bench: Bench) -> None:
    blocks = [
        block("glucose", T0, [5.5], quality=WRONG), block("body_temperature", T0, [98.6], quality=WRONG),
        block("diastolic_pressure", T0, [10.6], quality=WRONG), block("spo2", T0, [97], quality=bytes([MOTION])),
    ]  # fmt: skip
    await bench.frames([stamped(1, 0, blocks)])
    rules = sorted(row[0] for row in await bench.rows(ALERTS))
    assert rules == ["check_value_body_temperature", "check_value_glucose"]


@pytest.mark.parametrize("order", list(permutations(range(5)))[::11])
async def test_frames_in_any_order_give_the_same(bench: Bench, order: tuple[int, ...]) -> None:
    frames = [
        wrong(0, T0 + 60_000), wrong(1, T0 + 80_000, 6.5), good(2, T0 + 90_000), wrong(3, T0 + 100_000), good(4, T0 + 110_000),
    ]  # fmt: skip
    for index in order:
        await bench.frames([frames[index]])
    await bench.frames([good(5, T0 + 10 * MINUTE)])
    found = [
        (row[3], row[6].second + 60 * row[6].minute, row[7].second + 60 * row[7].minute)
        for row in await bench.rows(ALERTS)
    ]
    assert found == [("resolved", 60, 90), ("resolved", 100, 110)]


async def test_a_late_value_is_listed_and_not_paged(bench: Bench) -> None:
    await bench.frames([good(0, T0), good(1, T0 + 3 * HOUR), good(2, T0 + 6 * HOUR)])
    await bench.frames([wrong(3, T0 + HOUR)])
    (alert,) = await bench.rows(ALERTS)
    assert (alert[3], alert[5], alert[7] is not None) == ("resolved", True, True)
    await bench.take_over()
    await bench.frames([good(4, T0 + DAY)])
    assert len(await bench.rows(ALERTS)) == 1
