"""A rebuild beside live data: what people were told stays, what history shows is listed, nothing is held up or lost."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import psycopg
import pytest

from detectors.rules import RULES
from ingest.frame import StampedFrame
from services.processor.rebuild import Rebuilder
from services.processor.records import Effects
from services.store.reader import Reader
from tests.cast import cast
from tests.fix_faults import stamped_story
from tests.fix_processor import BOUNDS, DAY, HOUR, MINUTE, T0, Bench, block, stamped

pytestmark = pytest.mark.stack

ALERTS = """SELECT priority, state, late, started_at, resolved_at, revised_by IS NOT NULL FROM alert
            WHERE rule = 'spo2_low' ORDER BY started_at"""
EVENTS = """SELECT e.change, e.late FROM alert_event e JOIN alert a ON a.id = e.alert_id
            WHERE a.rule = 'spo2_low' ORDER BY e.id"""
DIRTY = "SELECT count(*) FROM patient_state WHERE dirty_since IS NOT NULL"


def hour_of(hour: int, value: float, seq: int | None = None, received: float | None = None) -> StampedFrame:
    """An hour of one oxygen saturation, received when it ended unless said (in hours)."""
    received_ms = None if received is None else round(T0 + received * HOUR)
    values = block("spo2", T0 + hour * HOUR, [value] * 12, 300)
    return stamped(1, hour if seq is None else seq, [values], received_ms=received_ms)


async def test_an_alert_that_began_earlier_goes_on_under_the_one_that_was_told(bench: Bench) -> None:
    await bench.frames([hour_of(0, 97), hour_of(2, 88), hour_of(3, 88)])
    assert await bench.rows(EVENTS) == [("raised", False)]
    await bench.frames([hour_of(1, 83, received=4.5)])  # it had begun an hour before, and was worse
    assert await bench.rebuild() == 1
    rows = await bench.rows(ALERTS)
    assert [(row[0], row[1], row[2], row[5]) for row in rows] == [
        ("high", "active", True, False),  # as it really was: behind
        ("high", "active", False, True),  # as it was told, and has become
    ]
    assert ("worsened", False) in await bench.rows(EVENTS)
    await bench.take_over()
    await bench.frames([hour_of(4, 97), hour_of(5, 97)])
    rows = await bench.rows(ALERTS)
    assert {(row[1], row[4]) for row in rows} == {("resolved", rows[0][4])}
    assert (await bench.rows(EVENTS))[-1] == ("resolved", False)


async def test_data_that_explain_an_alert_away_withdraw_it(bench: Bench) -> None:
    await bench.frames([hour_of(0, 97), stamped(1, 1, [block("spo2", T0 + HOUR, [89, 89], 600)])])
    await bench.frames([hour_of(2, 97)])
    assert [row[1] for row in await bench.rows(ALERTS)] == ["resolved"]
    between = block("spo2", T0 + HOUR + 5 * MINUTE, [97])
    await bench.frames([stamped(1, 3, [between], received_ms=T0 + 4 * HOUR)])
    await bench.rebuild()
    assert [row[1] for row in await bench.rows(ALERTS)] == ["withdrawn"]
    ((sentence,),) = await bench.rows("SELECT sentence FROM alert WHERE rule = 'spo2_low'")
    assert "do not bear this out" in sentence


async def test_a_spool_beside_live_data_is_listed_and_pages_nobody(bench: Bench) -> None:
    """Three days come at once, out of order, while live data flow: every finding in them is a late one."""
    person = next(person for person in cast(8) if person.key == "spo2")
    frames = stamped_story(1, person, 8)
    spool, live = frames[2 * 24 : 5 * 24], frames[: 2 * 24] + frames[5 * 24 :]
    await bench.frames(live)
    told = await bench.rows("SELECT id FROM alert_event WHERE NOT late AND change IN ('raised', 'worsened')")
    for start in (24, 0, 48):  # backfill keeps a device's order, its partition's slices may come as they like
        await bench.frames(spool[start : start + 24])
    await bench.rebuild()
    again = await bench.rows("SELECT id FROM alert_event WHERE NOT late AND change IN ('raised', 'worsened')")
    assert again == told
    listed = await bench.rows("SELECT state, late FROM alert WHERE rule = 'spo2_low' AND started_at > '2025-10-12Z'")
    assert listed == [("resolved", True)]
    assert await bench.rows(DIRTY) == [(0,)]


async def test_live_batches_go_on_while_a_patient_is_rebuilt(bench: Bench) -> None:
    """Between two hours of the replay a live batch raises an alert; the rebuild takes it in and changes nothing."""
    person = next(person for person in cast(8) if person.key == "infection")
    frames = stamped_story(1, person, 8)
    held = frames[30:40]
    await bench.frames(frames[:30] + frames[40:180])
    await bench.frames(held)
    rest, raised = frames[180:], []

    async def live() -> None:
        for frame in rest:
            for _ in range(4):
                await asyncio.sleep(0)
            async with bench.lock:
                effects = await bench.frames([frame])
                raised.extend(effects.alerts)

    rebuilder = Rebuilder(bench.core, bench, BOUNDS.silence_ms, BOUNDS.history_ms)
    done, _ = await asyncio.gather(rebuilder.rebuild(1, bench.now_ms), live())
    assert done
    await bench.frames(stamped_story(2, person, 8))
    query = """SELECT rule, priority, state, started_at, found_at, resolved_at FROM alert
               WHERE patient_id = %s AND state <> 'withdrawn' AND revised_by IS NULL ORDER BY 1, 4"""
    assert await bench.rows(query, 1) == await bench.rows(query, 2)
    query = "SELECT metric_id, context, day, value, z, used FROM daily_value WHERE patient_id = %s ORDER BY 1, 2, 3"
    assert await bench.rows(query, 1) == await bench.rows(query, 2)
    query = "SELECT state FROM patient_baseline WHERE patient_id = %s"
    assert await bench.rows(query, 1) == await bench.rows(query, 2)


async def test_late_data_during_a_rebuild_begin_it_again(bench: Bench) -> None:
    await bench.frames([hour_of(hour, 97) for hour in (0, 1, 4, 5, 6, 7, 8)])
    await bench.frames([hour_of(2, 83, received=9)])
    rebuilder = Rebuilder(bench.core, bench, BOUNDS.silence_ms, BOUNDS.history_ms)

    async def more() -> None:
        await asyncio.sleep(0)
        async with bench.lock:
            await bench.frames([hour_of(3, 83, received=9)])

    done, _ = await asyncio.gather(rebuilder.rebuild(1, bench.now_ms), more())
    assert not done
    assert await bench.rows(DIRTY) == [(1,)]
    assert await bench.rebuild() == 1
    assert await bench.rows(DIRTY) == [(0,)]


async def test_a_rebuild_that_dies_changes_nothing(bench: Bench) -> None:
    await bench.frames([hour_of(0, 97), hour_of(2, 88), hour_of(3, 88)])
    await bench.frames([hour_of(1, 83, received=4.5)])
    before = await everything(bench)

    class Dying(Bench):
        async def apply(self, make: Any) -> Effects:
            async def made(reader: Reader) -> Effects:
                await self._write(await make(reader))
                raise KilledError

            return await Bench.apply(self, made)

    dying = Dying(bench.settings, bench.connection, bench.core, bench.epochs)
    with pytest.raises(KilledError):
        await Rebuilder(bench.core, dying, BOUNDS.silence_ms, BOUNDS.history_ms).rebuild(1, bench.now_ms)
    assert await everything(bench) == before
    await bench.take_over()
    assert await bench.rebuild() == 1
    assert await bench.rows(DIRTY) == [(0,)]


async def test_what_lies_beyond_reach_is_stored_listed_and_said_aloud(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    day = 500 * 24
    await bench.frames([hour_of(0, 97)])
    for hour in range(day, day + 6):
        await bench.frames([hour_of(hour, 97, seq=hour - day + 1)])
    await bench.frames([hour_of(3, 83, seq=7, received=day + 6)])
    await bench.rebuild()
    assert "rebuild_out_of_reach" in capsys.readouterr().out
    assert [(row[1], row[2]) for row in await bench.rows(ALERTS)] == [("active", True)]
    assert await bench.rows(DIRTY) == [(0,)]


async def test_checkpoints_are_kept_daily_for_five_weeks_then_monthly(bench: Bench) -> None:
    for day in range(0, 150):
        await bench.frames(
            [stamped(1, day, [block("heart_rate", T0 + day * DAY, [60] * 60)], received_ms=T0 + day * DAY + 3 * HOUR)]
        )
    kept = [row[0].isoformat() for row in await bench.rows("SELECT day FROM baseline_checkpoint ORDER BY day")]
    assert len(kept) == 36 + 4
    assert kept[:4] == ["2025-10-10", "2025-11-01", "2025-12-01", "2026-01-01"]


async def everything(bench: Bench) -> dict[str, Any]:
    tables = ("alert", "alert_event", "baseline_band", "daily_value", "baseline_checkpoint", "patient_state", "rollup")
    return {table: sorted(map(str, await bench.rows(f"SELECT * FROM {table}"))) for table in tables}


class KilledError(Exception):
    """The process has died."""


async def test_after_an_upgrade_everybodys_usual_is_learned_anew_from_what_is_stored(bench: Bench) -> None:
    """Another version's state can't be read; until the rebuild is through nothing is known, and nothing is lost."""
    person = next(person for person in cast(9) if person.key == "infection")
    await bench.frames(stamped_story(1, person, 9))
    kept = "SELECT id, rule, state, started_at, resolved_at, sentence FROM alert WHERE kind = 'clinical' ORDER BY id"
    days = "SELECT metric_id, context, day, value, center, days, z, cusum, used FROM daily_value ORDER BY 1, 2, 3"
    before = await bench.rows(kept), await bench.rows(days), await bench.rows("SELECT state FROM patient_baseline")
    assert before[0]
    await bench.rows("UPDATE patient_baseline SET layout = 1 RETURNING 1")
    await bench.rows("UPDATE baseline_checkpoint SET layout = 1 RETURNING 1")
    await bench.take_over()
    assert await bench.rebuild() == 1
    assert (
        await bench.rows(kept),
        await bench.rows(days),
        await bench.rows("SELECT state FROM patient_baseline"),
    ) == before
    await bench.take_over()
    assert await bench.rebuild() == 0  # once


async def test_what_an_earlier_version_of_a_rule_found_stays_as_it_was_told_when_it_is_over(bench: Bench) -> None:
    person = next(person for person in cast(9) if person.key == "infection")
    await bench.frames(stamped_story(1, person, 9))
    copied = """INSERT INTO alert SELECT (jsonb_populate_record(a, jsonb_build_object('id', gen_random_uuid(),
                'rule_version', 1, 'state', %s::text, 'resolved_at', %s::timestamptz))).*
                FROM alert a WHERE rule = 'resting_heart_rate_rise' RETURNING id"""
    version = RULES["resting_heart_rate_rise"].version
    ((over,),) = await bench.rows(copied, "resolved", "2025-10-19Z")
    ((lasts,),) = await bench.rows(copied.replace("a WHERE", f"a WHERE rule_version = {version} AND"), "active", None)
    await bench.rows("UPDATE patient_baseline SET layout = 1 RETURNING 1")
    await bench.rows("UPDATE baseline_checkpoint SET layout = 1 RETURNING 1")
    await bench.take_over()
    assert await bench.rebuild() == 1
    rows = dict(await bench.rows("SELECT id, (state, revised_by IS NOT NULL)::text FROM alert WHERE rule_version = 1"))
    assert rows[over] == "(resolved,f)"
    assert rows[lasts].endswith(",t)")
    assert not await bench.rows("SELECT 1 FROM alert WHERE state = 'withdrawn'")


async def test_what_an_earlier_version_of_a_rule_told_of_is_not_listed_a_second_time(bench: Bench) -> None:
    for n in range(36):  # two falls of 20 min within three hours
        values = [88.0 if n in (6, 7, 8, 9, 20, 21, 22, 23) else 97.0] * 5
        await bench.frames([stamped(1, n, [block("spo2", T0 + n * 5 * MINUTE, values)])])
    kept = "SELECT rule_version, late FROM alert WHERE rule = 'spo2_low' ORDER BY started_at"
    version = RULES["spo2_low"].version
    assert await bench.rows(kept) == [(version, False)] * 2
    with psycopg.connect(bench.settings.postgres.conninfo("admin")) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("""UPDATE alert SET id = gen_random_uuid(), rule_version = 1
                              WHERE started_at = (SELECT min(started_at) FROM alert WHERE rule = 'spo2_low')""")
    await bench.rows("UPDATE patient_baseline SET layout = 1 RETURNING 1")
    await bench.take_over()
    assert await bench.rebuild() == 1
    assert await bench.rows(kept) == [(1, False), (version, False)]


async def test_a_repeat_hours_after_the_first_reading_that_came_late_is_found_by_the_rebuild(bench: Bench) -> None:
    """The late reading's own stretch is too short for it."""
    low = [stamped(1, n, [block("spo2", T0 + hour * HOUR, [84.0])], device=2) for n, hour in enumerate((1, 9))]
    for n in range(24):
        at = T0 + n * HOUR // 2
        await bench.frames([stamped(1, n, [block("heart_rate", at, [70.0] * 30)], received_ms=at + HOUR // 2)])
        await bench.frames(low[:1] if n == 2 else [])
    await bench.frames([msgspec.structs.replace(low[1], received_ms=T0 + 12 * HOUR)])
    assert await bench.rows(ALERTS) == []
    assert await bench.rebuild() == 1
    ((priority, state, late, *_),) = await bench.rows(ALERTS)
    assert (priority, state, late) == ("high", "active", False)  # it lasts, as far as anybody knows
