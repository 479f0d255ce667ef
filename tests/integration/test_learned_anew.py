"""An upgrade that can't read what was learned: hours wait for the learning anew, safety limits do not."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.frame import StampedFrame
from services.processor import rebuild as rebuilding
from services.processor.rebuild import Rebuilder
from tests.cast import OFFSET_MIN, cast
from tests.fix_faults import stamped_story
from tests.fix_processor import BOUNDS, Bench

pytestmark = pytest.mark.stack

DAYS = 8
NOON = (DAYS - 2) * 24 + 12 - OFFSET_MIN // 60  # local; the restless person's heart is fast from 13 to 16 of this day
ALERTS = """SELECT rule, priority, state, late, provisional, started_at, found_at, resolved_at, sentence, evidence
            FROM alert WHERE patient_id = 1 ORDER BY rule, started_at"""
EVENTS = """SELECT a.rule, e.change, e.late FROM alert_event e JOIN alert a ON a.id = e.alert_id
            WHERE a.patient_id = 1 ORDER BY e.id"""
HEART = "SELECT state FROM metric_state WHERE metric_id = (SELECT id FROM metric WHERE key = 'heart_rate')"
KEPT = (
    "SELECT patient_id, metric_id, state, cause FROM metric_state ORDER BY 1, 2",
    "SELECT * FROM daily_value ORDER BY 1, 2, 3, 4",
    "SELECT * FROM baseline_band ORDER BY 1, 2, 3, 4",
    "SELECT * FROM rollup ORDER BY 1, 2, 3, 4",
    "SELECT state FROM patient_baseline",
)
AT_REST = "heart_rate_unusual_at_rest"


def story(key: str) -> list[StampedFrame]:
    return stamped_story(1, next(person for person in cast(DAYS) if person.key == key), DAYS)


async def upgraded(bench: Bench) -> None:
    """What is stored is of another layout; the new version takes over."""
    await bench.rows("UPDATE patient_baseline SET layout = 1 RETURNING 1")
    await bench.rows("UPDATE baseline_checkpoint SET layout = 1 RETURNING 1")
    await bench.take_over()


async def one_by_one(bench: Bench, frames: list[StampedFrame]) -> None:
    for frame in frames:
        await bench.frames([frame])


async def all_of(bench: Bench) -> dict[str, Any]:
    kept = {query: sorted(map(str, await bench.rows(query))) for query in KEPT}
    return kept | {"alerts": await bench.rows(ALERTS), "events": await bench.rows(EVENTS)}


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_began_and_ended_meanwhile_is_told_as_if_nobody_had_been_learned_anew(
    bench: Bench, second_bench: Bench, restarted: bool
) -> None:
    frames = story("restless")
    await second_bench.frames(frames)
    undisturbed = await all_of(second_bench)
    assert [row[2:4] for row in undisturbed["alerts"] if row[0] == AT_REST] == [("resolved", False)]
    await bench.frames(frames[:NOON])
    await upgraded(bench)
    await one_by_one(bench, frames[NOON : NOON + 3])
    if restarted:
        await bench.take_over()
    await one_by_one(bench, frames[NOON + 3 : NOON + 5])
    assert await bench.rows(HEART) == [("learning",)]
    assert AT_REST not in {row[0] for row in await bench.rows(EVENTS)}
    assert await bench.rebuild() == 1
    await bench.frames(frames[NOON + 5 :])
    assert await all_of(bench) == undisturbed


async def test_safety_limits_go_on_meanwhile(bench: Bench, second_bench: Bench) -> None:
    frames = story("spo2")
    for each in (bench, second_bench):
        await each.frames(frames[:24])
    await upgraded(bench)
    for frame in frames[24:36]:
        await bench.frames([frame])
        await second_bench.frames([frame])
        assert await bench.rows(EVENTS) == await second_bench.rows(EVENTS)
    assert ("spo2_low", "worsened", False) in await bench.rows(EVENTS)


async def test_what_ended_long_before_the_learning_was_through_is_listed(bench: Bench) -> None:
    """A page about it would come too late to be acted on."""
    frames = story("restless")
    await bench.frames(frames[:NOON])
    await upgraded(bench)
    await one_by_one(bench, frames[NOON : NOON + 14])
    assert await bench.rebuild() == 1
    assert [event for event in await bench.rows(EVENTS) if event[0] == AT_REST] == [(AT_REST, "raised", True)]


async def test_no_young_baseline_is_kept_meanwhile(bench: Bench) -> None:
    frames = story("restless")
    await bench.frames(frames[:48])
    await upgraded(bench)
    await one_by_one(bench, frames[48:100])
    assert await bench.rows("SELECT DISTINCT layout FROM patient_baseline") == [(1,)]
    assert await bench.rows("SELECT DISTINCT layout FROM baseline_checkpoint") == [(1,)]
    assert await bench.rebuild() == 1
    assert await bench.rows("SELECT DISTINCT layout FROM patient_baseline") == [(bench.core.layout,)]


async def test_whoever_cannot_be_learned_anew_is_judged_as_somebody_new(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Waiting for ever would be silence; the next rebuild is still due."""
    frames = story("restless")
    await bench.frames(frames[:48])
    await upgraded(bench)

    async def broken(*_: object) -> None:
        msg = "a fault put in"
        raise ValueError(msg)

    with monkeypatch.context() as fault:
        fault.setattr(rebuilding, "remade", broken)
        fault.setattr(rebuilding, "REST_S", -1.0)
        rebuilder = Rebuilder(bench.core, bench, BOUNDS.silence_ms, BOUNDS.history_ms)
        assert not await rebuilder.turn(bench.now_ms, caught_up=True)
    await bench.take_over()  # memory was dropped
    assert not await rebuilder.turn(bench.now_ms, caught_up=True)
    assert "judged_as_new" in capsys.readouterr().out
    await one_by_one(bench, frames[48:60])
    assert await bench.rows("SELECT DISTINCT layout FROM patient_baseline") == [(bench.core.layout,)]
    assert await bench.rebuild() == 1
