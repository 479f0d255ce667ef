"""A patient is erased while frames are on their way and processors are frozen: nothing remains but the proof."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from evaluation.checker import check
from ingest.clock import SystemClock, to_datetime
from ingest.partition import partition_of
from services import topics
from services.store import changes
from tests.cast import cast
from tests.fix_doors import environment
from tests.fix_faults import Stream, System, eventually, frames_of, pause, wake

pytestmark = pytest.mark.stack

DAYS = 8
STORY = {person.key: frames_of(person, DAYS) for person in cast(DAYS) if person.key in ("spo2", "infection", "battery")}
GONE = "spo2"


def keepwell(system: System, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "services.cli.main", "patient", *words]
    return subprocess.run(argv, env=environment(system.told), capture_output=True, text=True, timeout=120, check=False)


async def in_the_logs(system: System, patient: int) -> dict[str, int]:
    """Topic → how many records of the patient can still be read."""
    settings = system.settings.kafka
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap, group_id=None, auto_offset_reset="earliest")
    await consumer.start()
    found = dict.fromkeys(topics.ALL, 0)
    try:
        for name in topics.ALL:
            place = TopicPartition(
                topics.named(name, settings), partition_of(patient, topics.partitions(name, settings))
            )
            consumer.assign([place])
            end = (await consumer.end_offsets([place]))[place]
            await consumer.seek_to_beginning(place)
            while await consumer.position(place) < end:
                for batch in (await consumer.getmany(timeout_ms=500)).values():
                    found[name] += sum(record.key == b"%d" % patient for record in batch)
    finally:
        await consumer.stop()
    return found


async def test_nothing_remains_but_the_proof(calm: System, tmp_path: Path) -> None:
    with calm as system:
        await system.ready()
        async with Stream(system, STORY, set(), tmp_path / "book.db", parts=4) as stream:
            await stream.release()
            await eventually(lambda: stream.on_their_way == 0, "the first part", 60)
            await system.drained()
            ((patient,),) = system.query("SELECT id FROM patient WHERE key = %s", GONE)
            second = system.another("second")
            second.start()
            assert system.query("SELECT count(*) > 0 FROM alert WHERE patient_id = %s", patient) == [(True,)]
            assert (await in_the_logs(system, patient))["readings.v1"] > 0

            with system.doors.admin() as connection:
                connection.execute(
                    """INSERT INTO consent (organisation_id, patient_id, purpose, decision, effective_at, relation, decided_by,
                                            form, reason, recorded_at)
                       SELECT organisation_id, id, 'family', 'refused', enrolled_at, 'self', 'Paul', 'said', '', enrolled_at
                       FROM patient WHERE id = %s""",
                    [patient],
                )

            # frames in flight: they lie in the log before the erasure is, or come after it while nobody processes
            pause(system.processor.pid)
            await stream.release()
            await asyncio.sleep(1)
            wake(system.processor.pid)
            asking = asyncio.create_task(
                asyncio.to_thread(keepwell, system, "erase", GONE, "--reason", "asked", "--yes", "--json",
                                  "--organisation", "tests")
            )  # fmt: skip
            done = await asking
            assert done.returncode == 0, done.stderr
            (proof,) = json.loads(done.stdout)
            assert proof["counts"]["reading_block"] > 0
            assert proof["counts"]["consent"] == 1
            assert proof["id"] == f"erased:{patient}"

            refused = keepwell(system, "erase", GONE, "--reason", "asked", "--yes", "--organisation", "tests")
            assert refused.returncode == 2
            assert "nothing was changed" in refused.stderr
            again = keepwell(
                system, "erase", f"erased:{patient}", "--reason", "asked", "--yes", "--json", "--organisation", "tests"
            )
            assert json.loads(again.stdout) == [proof]
        second.kill()
        system.processor.kill()
        system.processor.start()
        await system.drained()

        tables = system.query(
            """SELECT table_name FROM information_schema.columns
               WHERE column_name = 'patient_id' AND table_schema = 'public' AND table_name !~ '_view$'"""
        )
        left = {
            name: system.query(f"SELECT count(*) FROM {name} WHERE patient_id = %s", patient)[0][0]
            for (name,) in tables
        }
        assert {name for name, count in left.items() if count} <= {
            "erasure", "device_assignment", "access_audit", "frame_log"
        }, left  # fmt: skip
        fates = system.query("SELECT stored, erased FROM frame_log WHERE patient_id = %s", patient)
        assert all(stored == 0 and erased > 0 for stored, erased in fates)
        assert await in_the_logs(system, patient) == dict.fromkeys(topics.ALL, 0)
        verdict = check([stream.book], system.settings.postgres.conninfo("admin"))
        assert verdict.problems == []
        assert verdict.erased > 0
        assert verdict.kept_hash == verdict.accepted_hash
        others = system.query("SELECT count(DISTINCT patient_id) FROM reading_block")
        assert others == [(len(STORY) - 1,)]
        assert system.processor.alive(), system.processor.log.read_text()[-3000:]


async def test_a_change_is_on_kafka_well_under_a_second_after_it_was_written(calm: System) -> None:
    with calm as system:
        await system.ready()
        system.doors.enrol(("p1", "w1"))
        ((patient,),) = system.query("SELECT id FROM patient WHERE key = 'p1'")
        took: list[float] = []
        for number in range(5):
            now = to_datetime(SystemClock().now_ms())
            wanted: Any = changes.Wanted(patient, "new_normal", "heart_rate", now, {}, "", None, now)
            with system.doors.admin() as connection:
                changes.write(connection, wanted, system.settings.kafka.partitions)
            began = time.monotonic()
            await eventually(
                lambda n=number: system.query("SELECT count(*) FROM control_event WHERE kind = 'new_normal'") == [(n + 1,)],  # type: ignore[misc]
                "the change", 10,
            )  # fmt: skip
            took.append(time.monotonic() - began)
        assert sorted(took)[2] < 1.0, took
