"""A schema is upgraded with its data in it: nothing is lost, and the new code goes on where the old one stopped."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from evaluation.checker import check
from services.settings import Settings
from services.store.migrate import migrate_database, migrate_topics
from services.store.schema import SchemaError, check_schema, revisions
from tests.cast import cast
from tests.databases import drop_database
from tests.fix_doors import environment
from tests.fix_faults import Stream, System, alerts, frames_of
from tests.fix_stack import LiveStack
from tests.fix_upgrade import OldCode, OldDoors, parent_of_the_commit_that_added

pytestmark = pytest.mark.stack

DAYS, PARTS = 9, 4
STORY = {person.key: frames_of(person, DAYS) for person in cast(DAYS)[:4]}
BY_THE_WALL_CLOCK = ("device_silent", "clock_fault")

# A row of each table as the first schema's code wrote it; the same in every later one.
ROWS: Final = """
INSERT INTO organisation (key, name) VALUES ('o', 'One');
INSERT INTO patient (organisation_id, key, name, enrolled_at) VALUES (1, 'p', 'P', '2025-01-01Z');
INSERT INTO device (organisation_id, key, created_at) VALUES (1, 'd', '2025-01-01Z');
INSERT INTO device_assignment (device_id, patient_id, valid_from) VALUES (1, 1, '2025-01-01Z');
INSERT INTO device_token VALUES ('\\x01', 1, 'x', '2025-01-01Z');
INSERT INTO person (organisation_id, key, name, role) VALUES (1, 'ada', 'Ada', 'nurse');
INSERT INTO person_token VALUES ('\\x02', 1, 'session', '2025-01-01Z', '2035-01-01Z');
INSERT INTO access_audit (at, organisation_id, person_id, action) VALUES ('2025-01-01Z', 1, 1, 'look');
INSERT INTO reading_block (patient_id, metric_id, device_id, t0, t_last, step_us, value, quality)
    SELECT 1, 1, 1, t, t + interval '1 minute', 60000000, ARRAY[60.5, 61], '{0,1}'
    FROM generate_series('2025-01-01Z'::timestamptz, '2025-03-01Z', '7 hours') AS t;
INSERT INTO waveform_block VALUES (1, 9, 1, '2025-01-01Z', 4000, 0.1, 0, '{1,2,3}');
INSERT INTO reading_conflict VALUES (1, 1, 1, '2025-01-01Z', 62, 'f');
INSERT INTO quarantined_reading VALUES (1, 1, 1, '2025-01-02Z', 900, 'out_of_range', 'f');
INSERT INTO dead_letter VALUES ('readings.v1', 0, 4, 'undecodable', 'no msgpack', '1', '\\x00ff', '2025-01-01Z');
INSERT INTO frame_log (frame_id, organisation_id, patient_id, device_id, received_at, processed_at, deliveries, stored,
                       duplicate, conflict, quarantined, late)
    VALUES ('f', 1, 1, 1, '2025-01-01Z', '2025-01-01Z', 2, 60, 3, 1, 1, 0);
INSERT INTO rollup VALUES (1, 1, 3600, '2025-01-01Z', 60, 50, 70, 60, 52, 68);
INSERT INTO baseline_band VALUES (1, 1, 'rest', '2025-01-01Z', 60, 4, 9);
INSERT INTO daily_value VALUES (1, 1, 'asleep', '2025-01-01', 58, 400, 57, 3, 9, 0.3, NULL, true);
INSERT INTO metric_state VALUES (1, 1, 1, 'learning', NULL, '2025-01-01Z', 60, '2025-01-01Z');
INSERT INTO alert (id, organisation_id, patient_id, rule, rule_version, kind, priority, state, provisional, late, started_at,
                   found_at, raised_at, last_evidence_at, sentence, patient_sentence, evidence)
    VALUES ('11111111-1111-5111-8111-111111111111', 1, 1, 'fever', 1, 'clinical', 'medium', 'active', false, false,
            '2025-01-01Z', '2025-01-01Z', '2025-01-01Z', '2025-01-01Z', 'Warm.', 'You were warm.', '{"value": 39}');
INSERT INTO alert_event (organisation_id, patient_id, alert_id, change, priority, late, at, recorded_at, sentence)
    VALUES (1, 1, '11111111-1111-5111-8111-111111111111', 'raised', 'medium', false, '2025-01-01Z', '2025-01-01Z', 'Warm.');
INSERT INTO partition_position VALUES ('readings.v1', 0, 5, 2);
INSERT INTO patient_state VALUES (1, 0, '\\x80', '2025-01-01Z');
INSERT INTO patient_baseline VALUES (1, '\\x01', 7);
INSERT INTO baseline_checkpoint VALUES (1, '2025-01-01', '\\x80', '\\x01', 7);
INSERT INTO silence_judgement VALUES (1, '2025-01-01Z', '2025-01-01T02:00Z');
INSERT INTO control_event VALUES ('control.v1', 0, 0, 1, 'note', '2025-01-01Z', '{}');
INSERT INTO outbox (partition, topic, record_key, record, created_at) VALUES (0, 'alerts.v1', '1', '{}', '2025-01-01Z');
"""
TABLES: Final = """SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
                   AND c.relname <> 'alembic_version'"""


@pytest.fixture
def blank(stack: LiveStack) -> Iterator[Settings]:
    """Settings of a database that does not exist yet."""
    postgres = stack.settings.postgres.model_copy(update={"database": "kw_upgrade"})
    settings = stack.settings.model_copy(update={"postgres": postgres})
    drop_database(settings)
    yield settings
    drop_database(settings)


@pytest.mark.parametrize("earlier", revisions()[:0:-1])
def test_an_upgrade_from_each_earlier_schema_keeps_every_row(blank: Settings, earlier: str) -> None:
    assert migrate_database(blank.postgres, earlier)[-1] == earlier
    with pytest.raises(SchemaError, match="run `keepwell migrate`"):
        check_schema(blank.postgres, "writer")
    with psycopg.connect(blank.postgres.conninfo("admin")) as admin:
        admin.execute(ROWS.encode())
    before = _rows(blank)
    assert [name for name, rows in before.items() if f"INSERT INTO {name} " in ROWS and not rows] == []

    applied = migrate_database(blank.postgres)
    known = revisions()[::-1]
    assert applied == known[known.index(earlier) + 1 :]
    assert migrate_database(blank.postgres) == []
    check_schema(blank.postgres, "writer")
    after = _rows(blank)
    assert {row["class"] for row in after["device"]} == {"unknown"}  # nobody said, and nobody guesses
    for table, rows in before.items():
        kept = [{key: row[key] for key in rows[0]} for row in after[table]] if rows else []
        assert kept == rows, table


def _rows(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    with psycopg.connect(settings.postgres.conninfo("admin")) as admin:
        return {
            name: [
                row
                for (row,) in admin.execute(
                    f"SELECT to_jsonb(one) FROM {name} one ORDER BY to_jsonb(one)::text".encode()
                )
            ]
            for (name,) in admin.execute(TABLES).fetchall()
        }


def test_a_schema_of_a_newer_keepwell_is_left_alone(blank: Settings) -> None:
    migrate_database(blank.postgres)
    with psycopg.connect(blank.postgres.conninfo("admin")) as admin:
        admin.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaError, match="run the newer Keepwell"):
        migrate_database(blank.postgres)
    with pytest.raises(SchemaError, match="run the newer Keepwell"):
        check_schema(blank.postgres, "api")


@pytest.mark.slow
async def test_the_new_code_goes_on_where_the_code_before_it_stopped(
    stack: LiveStack, calm: System, faulty: System, tmp_path: Path
) -> None:
    commit = parent_of_the_commit_that_added("services/store/migrations/versions/0003_exactness.sql")
    if commit is None:
        pytest.skip("no git history here: the code before this schema can't be run")
    (tmp_path / "calm").mkdir()
    with calm:
        await calm.ready()
        async with Stream(calm, STORY, set(), tmp_path / "calm" / "book.db", PARTS) as stream:
            await stream.all_released()
        await calm.drained()
        expected = _found(calm)

    old, system = OldCode.of(commit, tmp_path / "old"), faulty
    settings = system.settings
    drop_database(settings)
    assert "up to date" in old.keepwell(settings, "migrate")
    new_gateway, new_processor = system.gateway, system.processor
    system.gateway = old.process(settings, ["gateway"], tmp_path / "old-gateway.log")
    system.bridge = old.process(settings, ["bridge"], tmp_path / "old-bridge.log")
    system.processor = old.process(settings, ["processor"], tmp_path / "old-processor.log")
    system.doors = doors = OldDoors(stack, settings)
    doors.code = old
    with system:
        await system.ready()
        async with Stream(system, STORY, set(), tmp_path / "book.db", PARTS) as stream:
            await stream.release()
            await stream.release()
            await system.drained()
            raised = system.query("SELECT id, started_at FROM alert ORDER BY 1")
            assert system.processor.stop() == 0
            system.gateway.stop()
            refused = subprocess.run(
                [sys.executable, "-m", "services.cli.main", "processor"], env=environment(settings),
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert refused.returncode != 0
            assert "run `keepwell migrate`" in refused.stderr
            with psycopg.connect(settings.postgres.conninfo("admin")) as admin:
                was = admin.execute("SELECT version_num FROM alembic_version").fetchone()
            applied = migrate_database(settings.postgres)
            assert was is not None
            assert applied == revisions()[: revisions().index(was[0])][::-1]
            await migrate_topics(settings.kafka)
            system.gateway, system.processor = new_gateway, new_processor
            system.gateway.start()
            system.processor.start()
            await stream.all_released()
        await system.drained()
        verdict = check([stream.book], settings.postgres.conninfo("admin"))
        found = _found(system)
        kept = system.query(
            "SELECT id, started_at FROM alert WHERE id = ANY(%s) ORDER BY 1", [row[0] for row in raised]
        )
    assert verdict.problems == []
    assert raised
    assert kept == raised
    assert found == expected


def _found(system: System) -> list[tuple[Any, ...]]:
    """The settled alerts without their sentences, which a newer version may put in other words."""
    return [row[:10] for row in alerts(system, BY_THE_WALL_CLOCK)]
