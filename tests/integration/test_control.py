"""What people change about a patient, applied in event time: whenever it arrives in time, the same comes of it."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import msgspec
import psycopg
import pytest

from ingest.catalogue import catalogue
from ingest.clock import to_datetime
from ingest.frame import StampedFrame
from services import topics
from services.control import Kind
from services.processor.records import Record
from services.store import changes
from services.store.changes import NoPatientError, StaleVersionError, Wanted
from services.store.erasure import DELETED, KEPT
from tests.cast import Episode, Person, at
from tests.fix_faults import stamped_story
from tests.fix_processor import DAY, HOUR, MINUTE, T0, Bench, block, records, stamped

pytestmark = pytest.mark.stack

DAYS = 15
RISEN = Person("risen", (Episode("heart_rate", at(5, 22), at(DAYS, 22), add=12),))
OUTCOME = {
    "alerts": """SELECT rule, priority, state, provisional, late, started_at, found_at, resolved_at FROM alert
                 WHERE patient_id = %s AND state <> 'withdrawn' ORDER BY 1, 6""",
    "days": """SELECT metric_id, context, day, value, minutes, center, days, z, cusum, used FROM daily_value
               WHERE patient_id = %s ORDER BY 1, 2, 3""",
    "suppressed": """SELECT rule, started_at, found_at, monitoring, sentence FROM suppressed_finding
                     WHERE patient_id = %s ORDER BY 1, 2""",
}


async def outcome(bench: Bench, patient: int) -> dict[str, list[tuple[Any, ...]]]:
    return {name: await bench.rows(query, patient) for name, query in OUTCOME.items()}


def wanted(
    patient: int, kind: Kind, effective_ms: int, subject: str = "", expected: int | None = None, **payload: Any
) -> Wanted:
    at_ = to_datetime(effective_ms)
    return Wanted(patient, kind, subject, at_, payload, "because", None, at_, expected)


def changed(bench: Bench, *asked: Wanted) -> list[Record]:
    """Write changes as the API does, and return the records the relay would send."""
    with psycopg.connect(bench.settings.postgres.conninfo("admin")) as connection:
        for one in asked:
            changes.write(connection, one, 1)
        rows = connection.execute("SELECT id, record_key, record FROM outbox WHERE topic = 'control.v1' ORDER BY id")
        found = rows.fetchall()[-len(asked) :]
    return [Record(topics.CONTROL, 0, offset, key, record) for offset, key, record in found]


async def interleaved(bench: Bench, frames: list[StampedFrame], control: list[Record], seed: int) -> None:
    """Feed the frames in batches of any size with restarts between, each of the first with one control record."""
    chance = Random(seed)
    start = 0
    while start < len(frames):
        size = chance.choice((1, 3, 10, 40))
        batch = frames[start : start + size]
        start += size
        if chance.random() < 0.15:
            await bench.take_over()
        await bench.feed([*records(batch, bench.offset), *([control.pop()] if control else [])])
        bench.offset += len(batch)


async def test_a_new_normal_resolves_the_rise_and_the_baseline_starts_afresh(bench: Bench) -> None:
    story = stamped_story(1, RISEN, DAYS)
    when = T0 + 9 * DAY + 11 * HOUR + 10 * MINUTE
    told = [f for f in story if f.received_ms <= when]
    await bench.frames(told)
    assert await bench.rows("SELECT rule, state FROM alert") == [("resting_heart_rate_rise", "active")]
    await bench.feed(changed(bench, wanted(1, "new_normal", when, "heart_rate")))
    assert await bench.rows("SELECT state FROM alert") == [("active",)], "it takes effect with the next full hour"
    anchor_before = bench.core.state[bench.core.slot_of[1]]["baselines"]["anchor"].copy()
    await bench.frames(story[len(told) :])
    assert await bench.rows("SELECT state, resolved_at FROM alert") == [
        ("resolved", to_datetime(T0 + 9 * DAY + 12 * HOUR))
    ]
    events = await bench.rows("SELECT change, sentence FROM alert_event ORDER BY id")
    assert events[-1] == ("resolved", "Resolved by a person: new normal for heart rate")
    nights = await bench.rows(
        """SELECT days, used, round(center) FROM daily_value WHERE metric_id = 1 AND context = 'asleep'
           AND day > '2025-10-19' ORDER BY day"""
    )
    assert [row[:2] for row in nights[:4]] == [(0, True), (1, True), (2, True), (3, True)]
    assert nights[-1][2] > 66, "the risen heart rate is usual now"
    assert (bench.core.state[bench.core.slot_of[1]]["baselines"]["anchor"] == anchor_before).all()
    assert await bench.rows("SELECT dirty_since FROM patient_state") == [(None,)]


async def test_a_new_normal_ends_the_question_about_a_small_shift_and_only_then_it_is_learned(bench: Bench) -> None:
    days, asked = 42, 26
    story = stamped_story(1, Person("less", (Episode("spo2", at(15, 22), at(days, 22), add=-1.5),)), days)
    when = T0 + asked * DAY + 11 * HOUR
    told = [f for f in story if f.received_ms <= when]
    await bench.frames(told)
    shifts = "SELECT rule, state FROM alert WHERE rule LIKE %s"
    assert await bench.rows(shifts, "%_shift") == [("spo2_shift", "active")]
    usual = "SELECT round(center::numeric, 1) FROM daily_value WHERE metric_id = %s AND context = 'asleep' ORDER BY day DESC"
    spo2 = catalogue()["spo2"].id
    assert float((await bench.rows(usual, spo2))[0][0]) > 96.3, "no night of it was learned unasked"
    await bench.feed(changed(bench, wanted(1, "new_normal", when, "spo2")))
    await bench.frames(story[len(told) :])
    assert await bench.rows(shifts, "%_shift") == [("spo2_shift", "resolved")]
    assert float((await bench.rows(usual, spo2))[0][0]) < 95.7, "it is usual now"


@pytest.mark.parametrize("seed", [1, 2])
async def test_whenever_changes_come_in_time_and_however_batches_are_cut(bench: Bench, seed: int) -> None:
    """Told at once and beforehand; or one by one, in any order, relayed twice, with restarts: the same."""
    asked = [
        wanted(0, "monitoring", T0 + 6 * DAY, state="paused", until_ms=T0 + 8 * DAY + 20 * MINUTE),
        wanted(0, "new_normal", T0 + 10 * DAY + 9 * HOUR + 1, "heart_rate"),
        wanted(0, "monitoring", T0 + 12 * DAY + 14 * HOUR + 30 * MINUTE, state="inpatient"),
        wanted(0, "monitoring", T0 + 13 * DAY, state="active"),
        wanted(0, "monitoring", T0 + 14 * DAY + 3 * HOUR, state="discharged"),
    ]
    await bench.feed(changed(bench, *(one._replace(patient_id=1) for one in asked)))
    await bench.frames(stamped_story(1, RISEN, DAYS))
    control = changed(bench, *(one._replace(patient_id=2) for one in asked))
    Random(seed).shuffle(control)
    control += [record._replace(offset=record.offset + 1000) for record in control[:2]]
    await interleaved(bench, stamped_story(2, RISEN, DAYS), control, seed)
    first, second = await outcome(bench, 1), await outcome(bench, 2)
    assert first == second
    assert [row[2] for row in first["alerts"]] == ["resolved"]
    assert {row[3] for row in first["suppressed"]} == {"paused"}
    raised, resolved = first["alerts"][0][6], first["alerts"][0][7]
    assert raised == to_datetime(T0 + 8 * DAY + HOUR), "still so when the pause ended: told with the next full hour"
    assert resolved == to_datetime(T0 + 10 * DAY + 10 * HOUR)
    assert await bench.rows("SELECT count(*) FROM control_event WHERE patient_id = 2") == [(len(asked),)]
    assert await bench.rows("SELECT 1 FROM patient_state WHERE dirty_since IS NOT NULL") == []


async def test_safety_limits_go_on_while_paused_and_end_with_the_discharge(bench: Bench) -> None:
    low = [82.0] * 12
    await bench.feed(
        changed(
            bench,
            wanted(1, "monitoring", T0, state="paused", until_ms=T0 + DAY),
            wanted(1, "monitoring", T0 + 3 * HOUR, state="discharged"),
            wanted(1, "monitoring", T0 + 9 * HOUR, state="active"),
        )
    )
    for hour in range(12):
        await bench.frames([stamped(1, hour, [block("spo2", T0 + hour * HOUR, low, 300)])])
    alerts = await bench.rows("SELECT state, started_at, found_at, resolved_at FROM alert ORDER BY found_at")
    at_ = [to_datetime(T0 + hour * HOUR) for hour in range(12)]
    assert alerts[0][:2] == ("resolved", at_[0])
    assert alerts[0][3] == at_[3], "whoever was discharged is not left open on the worklist"
    assert await bench.rows("SELECT sentence FROM alert_event WHERE change = 'resolved'") == [
        ("Resolved by a person: discharged",)
    ]
    assert await bench.rows("SELECT sum(cardinality(value)) FROM reading_block") == [(144,)], "always stored"


async def test_silence_while_paused_is_counted_and_told_when_the_pause_ends(bench: Bench) -> None:
    await bench.feed(changed(bench, wanted(1, "monitoring", T0, state="paused", until_ms=T0 + 6 * HOUR)))
    await bench.frames([stamped(1, 0, [block("heart_rate", T0, [60] * 60)])])
    for hour in (2, 4, 5):
        await bench.silence(T0 + hour * HOUR)
    assert await bench.rows("SELECT 1 FROM alert") == []
    assert await bench.rows("SELECT rule, monitoring FROM suppressed_finding") == [("device_silent", "paused")]
    await bench.silence(T0 + 6 * HOUR + 2 * MINUTE)
    rows = await bench.rows("SELECT rule, state, found_at FROM alert")
    assert rows == [("device_silent", "active", to_datetime(T0 + 6 * HOUR))]


async def test_a_discharge_ends_what_is_open_although_nothing_comes_any_more(bench: Bench) -> None:
    await bench.frames([stamped(1, 0, [block("spo2", T0, [82.0] * 12, 300)])])
    await bench.feed(changed(bench, wanted(1, "monitoring", T0 + 2 * HOUR, state="deceased")))
    await bench.silence(T0 + 2 * HOUR - 1)
    assert await bench.rows("SELECT state FROM alert") == [("active",)]
    await bench.silence(T0 + 2 * HOUR + 6 * MINUTE)
    assert await bench.rows("SELECT rule, state FROM alert") == [("spo2_low", "resolved")]
    await bench.take_over()
    await bench.silence(T0 + 9 * HOUR)
    assert await bench.rows("SELECT count(*) FROM alert") == [(1,)]


async def test_a_change_that_comes_late_marks_the_patient_dirty(bench: Bench) -> None:
    await bench.frames(stamped_story(1, RISEN, 2))
    late = T0 + DAY + 7 * MINUTE
    await bench.feed(changed(bench, wanted(1, "new_normal", late, "heart_rate")))
    assert await bench.rows("SELECT dirty_since FROM patient_state") == [(to_datetime(late),)]


@pytest.mark.parametrize("day", [9, 12])
async def test_a_change_that_comes_late_is_rebuilt_to_what_it_would_have_been_in_time(bench: Bench, day: int) -> None:
    """A new normal, and a stay in hospital before it, are said after all was seen; or on the day they began."""
    asked = [
        wanted(0, "new_normal", T0 + day * DAY + 9 * HOUR + 1, "heart_rate"),
        wanted(0, "monitoring", T0 + (day + 1) * DAY + 5 * MINUTE, state="inpatient", until_ms=T0 + 14 * DAY),
    ]
    await bench.feed(changed(bench, *(one._replace(patient_id=1) for one in asked)))
    await bench.frames(stamped_story(1, RISEN, DAYS))
    await bench.frames(stamped_story(2, RISEN, DAYS))
    await bench.feed(changed(bench, *(one._replace(patient_id=2) for one in asked)))
    assert await bench.rebuild() == 1
    in_time, late = await outcome(bench, 1), await outcome(bench, 2)
    assert late == in_time
    assert await bench.rows("SELECT 1 FROM patient_state WHERE dirty_since IS NOT NULL") == []
    before = await bench.rows("SELECT sentence FROM alert_event WHERE patient_id = 2 ORDER BY id")
    assert await bench.rebuild() == 0
    await bench.frames([stamped(p, DAYS * 24, [block("heart_rate", T0 + DAYS * DAY, [60] * 60)]) for p in (1, 2)])
    assert await outcome(bench, 1) == await outcome(bench, 2)
    assert await bench.rows("SELECT sentence FROM alert_event WHERE patient_id = 2 ORDER BY id") == before


async def test_what_the_clock_resolved_stays_resolved_through_a_rebuild(bench: Bench) -> None:
    """Nobody wears the watch any more: the clock carries the new normal on, and late data do not bring the rise back."""
    story = [f for f in stamped_story(1, RISEN, 10) if f.received_ms <= T0 + 9 * DAY + 11 * HOUR]
    missing = story.pop(-30)
    await bench.frames(story)
    said = T0 + 9 * DAY + 11 * HOUR + 10 * MINUTE
    await bench.feed(changed(bench, wanted(1, "new_normal", said, "heart_rate")))
    await bench.silence(said + 30 * MINUTE)
    assert await bench.rows("SELECT state FROM alert WHERE kind = 'clinical'") == [("active",)]
    await bench.silence(said + HOUR)
    rule = "SELECT state, resolved_at FROM alert WHERE rule = 'resting_heart_rate_rise'"
    resolved = [("resolved", to_datetime(T0 + 9 * DAY + 12 * HOUR))]
    assert await bench.rows(rule) == resolved
    await bench.frames([msgspec.structs.replace(missing, received_ms=said + 2 * HOUR)])
    assert await bench.rebuild() == 1
    await bench.silence(said + 2 * HOUR)
    assert await bench.rows(rule) == resolved
    told = await bench.rows(
        """SELECT e.change FROM alert_event e JOIN alert a ON a.id = e.alert_id
           WHERE a.rule = 'resting_heart_rate_rise' AND e.change IN ('raised', 'resolved') ORDER BY e.id"""
    )
    assert told == [("raised",), ("resolved",)]


async def test_an_erasure_while_a_rebuild_is_under_way_leaves_nothing(bench: Bench) -> None:
    await bench.frames(stamped_story(1, RISEN, DAYS))
    await bench.feed(changed(bench, wanted(1, "new_normal", T0 + DAY, "heart_rate")))
    rebuilding = asyncio.create_task(bench.rebuild())
    await asyncio.sleep(0.05)
    assert not rebuilding.done()
    async with bench.lock:
        await bench.feed(changed(bench, wanted(1, "erase", T0)))
    assert await rebuilding == 0
    for table in DELETED:
        assert await bench.rows(f"SELECT count(*) FROM {table} WHERE patient_id = 1") == [(0,)], table


async def test_a_stale_version_is_refused_and_versions_count_by_subject(bench: Bench) -> None:
    changed(bench, wanted(1, "new_normal", T0, "heart_rate", 0), wanted(1, "new_normal", T0, "spo2", 0))
    with pytest.raises(StaleVersionError, match="version 1, not 0") as refused:
        changed(bench, wanted(1, "new_normal", T0, "heart_rate", 0))
    assert refused.value.current == 1
    changed(bench, wanted(1, "new_normal", T0, "heart_rate", 1))
    assert await bench.rows("SELECT count(*) FROM outbox WHERE topic = 'control.v1'") == [(3,)]
    with pytest.raises(NoPatientError):
        changed(bench, wanted(77, "new_normal", T0, "heart_rate"))


# Accounts of both patients with a token each, both in a team, seen by a proxy and by break-glass.
SEEN_BY = """
    WITH team AS (INSERT INTO care_team (organisation_id, key, name) SELECT 1, 't', 'T' RETURNING id),
    inside AS (INSERT INTO care_team_patient SELECT 1, team.id, p.id, '2025-01-01Z' FROM team, patient p WHERE p.id IN (1, 2)),
    account AS (INSERT INTO person (organisation_id, key, name, role, patient_id)
                VALUES (1, 'first', 'First', 'patient', 1), (1, 'second', 'Second', 'patient', 2) RETURNING id, patient_id),
    token AS (INSERT INTO person_token (hash, person_id, kind, created_at, expires_at)
              SELECT id::text::bytea, id, 'api', '2025-01-01Z', '2035-01-01Z' FROM account),
    proxy AS (INSERT INTO proxy_grant (organisation_id, person_id, patient_id, what, valid_from, valid_to)
              SELECT 1, id, patient_id, '{readings}', '2025-01-01Z', '2035-01-01Z' FROM account)
    INSERT INTO break_glass (organisation_id, person_id, patient_id, reason, opened_at, until)
    SELECT 1, id, patient_id, 'why not', '2025-01-01Z', '2025-01-01Z' FROM account"""


async def test_nothing_remains_of_an_erased_patient_and_what_comes_later_is_counted(bench: Bench) -> None:
    with psycopg.connect(bench.settings.postgres.conninfo("admin")) as admin:
        admin.execute(
            "INSERT INTO device_assignment (device_id, patient_id, valid_from) VALUES (1, 1, '2025-01-01Z'), (2, 2, '2025-01-01Z')"
        )
        admin.execute(
            "INSERT INTO device_token (hash, device_id, mqtt_hash, created_at) VALUES ('a', 1, '', '2025-01-01Z'), ('b', 2, '', '2025-01-01Z')"
        )
        admin.execute(SEEN_BY)
    await bench.feed(changed(bench, wanted(1, "monitoring", T0 + HOUR, state="paused", until_ms=T0 + 9 * DAY)))
    frames = [f for patient in (1, 2) for f in stamped_story(patient, RISEN, 3)]
    frames.sort(key=lambda frame: frame.received_ms)
    await bench.frames(frames[:100])
    await bench.feed([Record("readings.v1", 0, 9000 + p, b"%d" % p, b"\xc1 nonsense") for p in (1, 2)])
    erase = changed(bench, wanted(1, "erase", T0))
    bench.now_ms = T0 + 3 * DAY
    effects = await bench.feed([*erase, *records(frames[100:110], bench.offset)])
    bench.offset += 10
    of_them = sum(frame.patient_id == 1 for frame in frames[100:110])
    assert sum(fate.erased > 0 for fate in effects.fates) == of_them > 0
    for table in DELETED:
        left = await bench.rows(f"SELECT count(*) FROM {table} WHERE patient_id = 1")
        assert left == [(of_them if table == "frame_log" else 0,)], table
    assert await bench.rows("SELECT record_key FROM dead_letter") == [(b"2",)]
    assert await bench.rows("SELECT count(*) FROM outbox WHERE record_key = '1'") == [(0,)]
    assert await bench.rows("SELECT key, name, erased_at FROM patient WHERE id = 1") == [
        ("erased:1", "", to_datetime(bench.now_ms))
    ]
    assert await bench.rows("SELECT device_id FROM device_token WHERE revoked_at IS NULL") == [(2,)]
    assert await bench.rows("SELECT patient_id FROM device_assignment WHERE valid_to = 'infinity'") == [(2,)]
    with psycopg.connect(bench.settings.postgres.conninfo("admin")) as admin:
        people = admin.execute(
            """SELECT p.key, p.name, count(t.hash) FROM person p
               LEFT JOIN person_token t ON t.person_id = p.id AND t.revoked_at IS NULL GROUP BY p.id ORDER BY p.id"""
        ).fetchall()
        assert people == [("erased:1", "", 0), ("second", "Second", 1)]
        opened = admin.execute("SELECT patient_id, reason FROM break_glass ORDER BY 1").fetchall()
        assert opened == [(1, ""), (2, "why not")]
        assert admin.execute("SELECT patient_id FROM care_team_patient").fetchall() == [(2,)]
    proof = await bench.rows("SELECT patient_id, reason, done_at, counts FROM erasure")
    assert proof[0][:3] == (1, "because", to_datetime(bench.now_ms))
    assert proof[0][3]["reading_block"] > 0
    assert proof[0][3]["patient_change"] == 2
    assert proof[0][3]["device_token revoked"] == 1

    await bench.feed([erase[0]._replace(offset=erase[0].offset + 1000)])  # relayed twice
    assert await bench.rows("SELECT patient_id, reason, done_at, counts FROM erasure") == proof
    await bench.take_over()
    effects = await bench.frames(frames[110:])
    assert {f.patient_id for f in effects.fates if f.erased} == {1}
    assert all(f.stored == 0 for f in effects.fates if f.patient_id == 1)
    assert await bench.rows("SELECT count(*) FROM reading_block WHERE patient_id = 1") == [(0,)]
    assert await bench.rows("SELECT count(*) > 0 FROM reading_block WHERE patient_id = 2") == [(True,)]
    assert await bench.rows("SELECT count(*) FROM patient_state") == [(1,)]


async def test_every_table_with_a_patient_is_deleted_from_or_kept_for_a_reason(bench: Bench) -> None:
    found = await bench.rows(
        """SELECT c.relname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
           JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE a.attname = 'patient_id' AND NOT a.attisdropped AND c.relkind IN ('r', 'p') AND n.nspname = 'public'"""
    )
    assert {row[0] for row in found} == {*DELETED, *KEPT}
