"""A backup taken under load brings everything back, and the processor takes in the rest from Kafka."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from evaluation.checker import check
from services.api.events import Cursor
from services.cli.backup import _programs
from services.settings import Settings
from services.store import bundle
from services.store.backup import backup
from services.store.migrate import migrate_database
from services.store.reach import compare
from services.store.restore import restore
from tests.cast import cast
from tests.databases import drop_database
from tests.fix_doors import environment
from tests.fix_faults import Stream, System, alerts, ended, eventually, frames_of
from tests.fix_stack import LiveStack

DAYS, PARTS = 9, 6
STORY = {person.key: frames_of(person, DAYS) for person in cast(DAYS)[:6]}
BY_THE_WALL_CLOCK = ("device_silent", "clock_fault")


def keepwell(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli.main", *words],
        env=environment(settings), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def told(settings: Settings, *words: str, code: int = 0) -> dict[str, Any]:
    done = keepwell(settings, *words, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def take(settings: Settings, file: Path) -> None:
    backup(settings, file, _programs(), lambda _: None)


def bring_back(settings: Settings, file: Path) -> None:
    restore(settings, file, _programs(), lambda _: None, lambda _: None)


def refused(settings: Settings, file: Path) -> str:
    with pytest.raises(bundle.BackupError) as error:
        bring_back(settings, file)
    return str(error.value)


def named(settings: Settings, database: str) -> Settings:
    return settings.model_copy(update={"postgres": settings.postgres.model_copy(update={"database": database})})


@pytest.mark.stack
@pytest.mark.slow
async def test_a_lost_database_comes_back_and_takes_in_the_rest(
    stack: LiveStack, calm: System, faulty: System, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "calm").mkdir()
    with calm:
        await calm.ready()
        async with Stream(calm, STORY, set(), tmp_path / "calm" / "book.db", PARTS) as stream:
            await stream.all_released()
        await calm.drained()
        expected = alerts(calm, BY_THE_WALL_CLOCK)

    file = tmp_path / "under-load.backup"
    with faulty as system:
        await system.ready()
        async with Stream(system, STORY, set(), tmp_path / "book.db", PARTS) as stream:
            await stream.release()
            await system.drained()
            await stream.release()
            await eventually(lambda: stream.accepted > len(STORY), "a stream under way")
            taking = subprocess.Popen(
                [sys.executable, "-m", "services.cli.main", "backup", str(file)], env=environment(system.settings)
            )
            await stream.release()
            await eventually(lambda: taking.poll() is not None, "the backup")
            assert taking.returncode == 0
            in_backup = {(p.topic, p.partition): p.next_offset for p in bundle.read(file, lambda _: None).positions}
            await stream.release()
            await system.drained()
            lost = system.stored_positions()
            more = sum(lost.values()) - sum(in_backup["readings.v1", p] for p in lost)
            assert more > 0, "nothing came after the backup"
            drop_database(system.settings)
            await stream.release()  # devices go on; Kafka takes in what the doors still know how to stamp
            answer = told(system.settings, "restore", str(file))
            assert answer["gaps"] == []
            assert answer["waiting"] >= more
            assert await ended(system.processor, 60) != 0  # it knew the lost database: it may not write into this one
            assert "are owned by a newer process; stopping without writing" in system.processor.log.read_text()
            system.processor.start()
            await stream.all_released()
        await system.drained()
        verdict = check([stream.book], system.settings.postgres.conninfo("admin"))
        found = alerts(system, BY_THE_WALL_CLOCK)
        twice = system.query(
            "SELECT alert_id, change, at FROM alert_event WHERE change = 'raised' GROUP BY 1, 2, 3 HAVING count(*) > 1"
        )
    with capsys.disabled():
        print(  # noqa: T201 - what the test shows
            f"\n  {answer['dump_bytes']} bytes; {more} records after the backup, {verdict.stored} readings, {len(found)} alerts"
        )
    assert verdict.problems == []
    assert verdict.accepted == verdict.stored + verdict.conflict + verdict.quarantined
    assert found == expected
    assert twice == []
    assert len(found) >= 8


class Kept:
    """A small database with one patient, an alert and its events, and a backup of it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.file = settings, folder / "small.backup"
        with self.admin() as admin:
            admin.execute("INSERT INTO organisation (key, name) VALUES ('o', 'One')")
            admin.execute(
                "INSERT INTO patient (organisation_id, key, name, enrolled_at) VALUES (1, 'p', 'P', '2025-01-01Z')"
            )
            admin.execute(
                """INSERT INTO reading_block (patient_id, metric_id, device_id, t0, t_last, step_us, value)
                   SELECT 1, 1, 1, t, t, 0, ARRAY[60.5] FROM generate_series('2025-01-01Z'::timestamptz, '2025-03-01Z', '1 day') t"""
            )
            admin.execute("INSERT INTO partition_position VALUES ('readings.v1', 0, 7, 3)")
        self.event()

    def admin(self, settings: Settings | None = None) -> psycopg.Connection[Any]:
        return psycopg.connect((settings or self.settings).postgres.conninfo("admin"), autocommit=True)

    def event(self, settings: Settings | None = None) -> str:
        with self.admin(settings) as admin:
            row = admin.execute(
                """INSERT INTO alert_event (organisation_id, patient_id, alert_id, change, priority, late, at, recorded_at, sentence)
                   VALUES (1, 1, gen_random_uuid(), 'raised', 'high', false, '2025-01-01Z', '2025-01-01Z', '…')
                   RETURNING xid::text, id"""
            ).fetchone()
        assert row is not None
        return f"{row[0]}-{row[1]}"

    def read(self, settings: Settings, after: str) -> list[str]:
        """The events a reader that stands at ``after`` is sent."""
        cursor = Cursor.parse(after, "after")
        with self.admin(settings) as admin:
            rows = admin.execute(
                """SELECT e.xid::text, e.id FROM alert_event e
                   WHERE (e.xid, e.id) > (%s::text::xid8, %s) AND e.xid < stream_horizon() ORDER BY e.xid, e.id""",
                [str(cursor.xid), cursor.id],
            ).fetchall()
        return [f"{xid}-{number}" for xid, number in rows]


@pytest.fixture
def kept(stack: LiveStack, tmp_path: Path) -> Any:
    settings = named(stack.settings, "kw_backup")
    again = [named(settings, "kw_backup_again"), named(settings, "kw_backup_again_restoring")]
    for one in (settings, *again):
        drop_database(one)
    migrate_database(settings.postgres)
    yield Kept(settings, tmp_path)
    for one in (settings, *again):
        drop_database(one)


STRUCTURE = (
    "SELECT relname, relkind::text, pg_get_userbyid(relowner), relacl::text, relrowsecurity, relforcerowsecurity, reloptions FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind <> 'i' ORDER BY 1",
    "SELECT tablename, policyname, roles, cmd, qual, with_check FROM pg_policies ORDER BY 1, 2",
    "SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2",
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2",
    "SELECT proname, pg_get_userbyid(proowner), proacl::text, prosecdef FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proowner <> 10 ORDER BY 1",
    "SELECT hypertable_name, chunk_name, range_start, range_end FROM timescaledb_information.chunks ORDER BY 1, 3",
    "SELECT * FROM reading_block ORDER BY t0",
    "SELECT schemaname, tablename, tableowner, rowsecurity FROM pg_tables WHERE schemaname = '_timescaledb_internal' AND tablename LIKE '_hyper%' ORDER BY 2",
)


@pytest.mark.stack
def test_a_restored_database_is_the_same_and_its_streams_go_on(kept: Kept) -> None:
    seen = kept.event()  # the last one a reader was sent before the backup
    told(kept.settings, "backup", str(kept.file))
    assert kept.file.stat().st_mode & 0o077 == 0
    later = kept.event()  # sent, then lost with the database
    again = named(kept.settings, "kw_backup_again")
    answer = told(again, "restore", str(kept.file))
    assert answer["counts"]["reading_block"] == 60
    assert kept.settings.postgres.admin_password.get_secret_value() not in json.dumps(answer)
    with kept.admin() as before, kept.admin(again) as after:
        for query in STRUCTURE:
            assert after.execute(query.encode()).fetchall() == before.execute(query.encode()).fetchall(), query
        owner = after.execute("SELECT topic, next_offset, epoch > 1000000 FROM partition_position").fetchone()
    assert owner == ("readings.v1", 7, True)
    fresh = kept.event(again)
    assert kept.read(again, seen) == [fresh], "a reader who saw all of the backup"
    assert kept.read(again, later) == [fresh], "a reader who saw events that were lost"
    assert len(kept.read(again, "0-0")) == 3
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"), kept.admin(again) as admin:
        admin.execute("DELETE FROM alert_event")


@pytest.mark.stack
def test_a_backup_from_a_cluster_whose_transactions_are_far_ahead(kept: Kept) -> None:
    """Without a new base, events restored from there would be invisible, and new ones behind every reader."""
    with kept.admin() as admin:
        admin.execute(
            "CREATE OR REPLACE FUNCTION stream_base() RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 7000000000000::bigint'"
        )
    ahead = kept.event()
    take(kept.settings, kept.file)
    again = named(kept.settings, "kw_backup_again")
    bring_back(again, kept.file)
    fresh = kept.event(again)
    assert kept.read(again, "0-0")[1:] == [ahead, fresh]
    assert kept.read(again, ahead) == [fresh]


@pytest.mark.stack
def test_restore_refuses_what_it_should(kept: Kept, tmp_path: Path) -> None:
    take(kept.settings, kept.file)
    again = named(kept.settings, "kw_backup_again")
    whole = kept.file.read_bytes()

    assert "exists and is not overwritten" in told(kept.settings, "backup", str(kept.file), code=1)["error"]
    assert "is not empty" in refused(kept.settings, kept.file)

    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 1
    for what, body in (
        ("is damaged: SHA-256", bytes(broken)),
        ("cut off", whole[: len(whole) // 2]),
        ("no backup", b""),
    ):
        bad = tmp_path / "bad.backup"
        bad.write_bytes(body)
        error = refused(again, bad)
        assert what in error or "can't be read as a backup" in error, error

    for change, what in (
        ({"revision": "9999"}, "restore with the Keepwell that made it"),
        ({"format": 99}, "has format 99"),
        ({"timescaledb": "9.9.9"}, "needs TimescaleDB 9.9.9"),
        ({"postgres": 990000}, "is of PostgreSQL 99"),
        ({"owner": "somebody"}, "belong to somebody"),
    ):
        error = refused(again, _changed(kept.file, tmp_path / "changed.backup", change))
        assert what in error
    with kept.admin() as admin:
        assert admin.execute("SELECT 1 FROM pg_database WHERE datname LIKE 'kw_backup_again%'").fetchall() == []


@pytest.mark.stack
def test_an_interrupted_restore_is_never_taken_for_a_whole_one(kept: Kept, tmp_path: Path) -> None:
    take(kept.settings, kept.file)
    again = named(kept.settings, "kw_backup_again")
    lying = _changed(kept.file, tmp_path / "lying.backup", {"counts": {"patient": 2}})
    assert "patient: 1 of 2" in refused(again, lying)
    with kept.admin() as admin:  # what a kill in the middle leaves
        names = admin.execute("SELECT datname FROM pg_database WHERE datname LIKE 'kw_backup_again%'").fetchall()
    assert names == [("kw_backup_again_restoring",)]
    with kept.admin() as admin:  # an empty one of that name, as `keepwell up` makes it, is taken
        admin.execute("CREATE DATABASE kw_backup_again")
    bring_back(again, kept.file)
    with kept.admin(again) as admin:
        assert admin.execute("SELECT count(*) FROM patient").fetchone() == (1,)
        assert admin.execute("SELECT 1 FROM pg_database WHERE datname = 'kw_backup_again_restoring'").fetchall() == []


def _changed(file: Path, to: Path, change: dict[str, Any]) -> Path:
    manifest = msgspec.structs.replace(bundle.read(file, lambda _: None), **change)
    to.unlink(missing_ok=True)
    with open(os.devnull, "rb"), _dump(file) as source:
        bundle.Writer(to).write(source, lambda _size, _digest: manifest, lambda _: None)
    return to


def _dump(file: Path) -> Any:
    import io

    return io.BytesIO(b"".join(bundle.chunks(file)))


def test_what_kafka_no_longer_holds_is_named() -> None:
    key = ("readings.v1", 3)
    (gone,) = compare({key: 420}, {key: 500}, {key: 900})
    assert "80 records from 420 to 499 are no longer in Kafka" in gone.trouble
    assert gone.waiting == 400
    (beyond,) = compare({key: 901}, {key: 500}, {key: 900})
    assert "beyond the log's end 900" in beyond.trouble
    (fine,) = compare({key: 500}, {key: 500}, {key: 900})
    assert (fine.trouble, fine.waiting) == ("", 400)
