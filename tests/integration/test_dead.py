"""A bad deploy: few records dead, the process stopped and kept stopped, nothing lost, everything stored after a redrive."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from typer.testing import CliRunner

from detectors.limits import Limits
from detectors.pipeline import Pipeline
from ingest.clock import SystemClock
from ingest.frame import StampedFrame, encode
from ingest.partition import partition_of, record_key
from services import topics
from services.cli.main import create_app
from services.processor.core import Core
from services.processor.poison import RUN, PoisonError
from services.processor.records import Record
from services.processor.worker import Worker
from services.settings import Settings
from services.store.session import Session
from tests.databases import drop_database
from tests.fix_doors import migrated_settings
from tests.fix_processor import BOUNDS, HOUR, T0, TOPIC, block, stamped
from tests.fix_stack import LiveStack

pytestmark = pytest.mark.stack
PATIENTS, FRAMES = 20, 400


@pytest.fixture
def settings(stack: LiveStack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A database and topics of their own with 20 patients; the command line finds them."""
    made = migrated_settings(stack)
    with psycopg.connect(made.postgres.conninfo("admin"), autocommit=True) as admin:
        admin.execute("INSERT INTO organisation (key, name) VALUES ('o', 'One')")
        admin.execute(
            """INSERT INTO patient (organisation_id, key, name, enrolled_at)
               SELECT 1, 'p' || i, 'Patient ' || i, '2025-01-01Z' FROM generate_series(1, %s) AS i""",
            [PATIENTS],
        )
        admin.execute(
            """INSERT INTO device (organisation_id, key, created_at)
               SELECT 1, 'd' || i, '2025-01-01Z' FROM generate_series(1, %s) AS i""",
            [PATIENTS],
        )
    monkeypatch.setenv("KEEPWELL_CONFIG", os.devnull)
    monkeypatch.setenv("KEEPWELL_STACK__HOME", str(stack.home.absolute()))
    monkeypatch.setenv("KEEPWELL_KAFKA__PREFIX", made.kafka.prefix)
    monkeypatch.setenv("KEEPWELL_POSTGRES__DATABASE", made.postgres.database)
    yield made
    drop_database(made)


def rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(settings.postgres.conninfo("admin")) as connection:
        return connection.execute(query.encode()).fetchall()


async def keepwell(*words: object) -> Any:
    """What a `keepwell dead …` printed, as JSON; a refusal is its text."""
    done = await asyncio.to_thread(CliRunner().invoke, create_app("dead"), ["dead", *map(str, words)])
    return json.loads(done.stdout) if done.exit_code == 0 else done.output


async def log(settings: Settings) -> list[Record]:
    """Everything on ``readings.v1``."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka.bootstrap, group_id=None)
    await consumer.start()
    try:
        name = topics.named(TOPIC, settings.kafka)
        places = [TopicPartition(name, p) for p in range(settings.kafka.partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(places)
        found: list[Record] = []
        async with asyncio.timeout(20):
            while len(found) < sum(ends.values()):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found += [Record(TOPIC, r.partition, r.offset, r.key, r.value) for r in batch]
    finally:
        await consumer.stop()
    return found


async def send(settings: Settings, frames: list[StampedFrame]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap, acks="all")
    await producer.start()
    try:
        for frame in frames:
            partition = partition_of(frame.patient_id, settings.kafka.partitions)
            name = topics.named(TOPIC, settings.kafka)
            await producer.send(name, encode(frame), record_key(frame.patient_id), partition=partition)
        await producer.flush()
    finally:
        await producer.stop()


async def run(settings: Settings, *, broken: bool) -> None:
    """One life of a processor: take over, go on where the positions stand, to the end or until it stops itself."""
    core = Core(Pipeline(), Limits(), settings.kafka.partitions)
    if broken:
        core.limits.advance = _broken  # type: ignore[method-assign, assignment]
    worker = Worker(Session(settings.postgres.conninfo("writer")), SystemClock(), core, BOUNDS, "test")
    await worker.take_over([(TOPIC, p) for p in range(settings.kafka.partitions)])
    await worker.prepare()
    try:
        waiting = [r for r in await log(settings) if r.offset >= worker.positions[r.topic, r.partition]]
        for start in range(0, len(waiting), 100):
            await worker.process(waiting[start : start + 100])
    finally:
        await worker.drop()


def _broken(*_: object) -> Any:
    msg = "a detector that raises on every message"
    raise ValueError(msg)


async def test_a_bad_deploy_files_little_stays_stopped_and_is_made_good(settings: Settings) -> None:
    frames = [
        stamped(n % PATIENTS + 1, n // PATIENTS, [block("heart_rate", T0 + n // PATIENTS * HOUR, [60 + n % 7] * 2)])
        for n in range(FRAMES)
    ]
    await send(settings, frames)
    for _ in range(4):  # a supervisor that restarts for ever
        with pytest.raises(PoisonError, match="unprocessable.*stopping before everything"):
            await run(settings, broken=True)
    letters = await keepwell("list", "--limit", 1000, "--json")
    assert len(letters) == RUN - 1
    assert {letter["reason"] for letter in letters} == {"unprocessable"}

    await run(settings, broken=False)  # the mended version needs nobody's leave

    assert rows(settings, "SELECT sum(stored)::int FROM frame_log") == [(2 * (FRAMES - RUN + 1),)]
    assert (await keepwell("redrive", "--dry-run", "--json"))["redriven"] == 0
    assert (await keepwell("redrive", "--limit", 9, "--rate", 1000, "--json"))["redriven"] == 9
    assert (await keepwell("redrive", "--reason", "unprocessable", "--rate", 1000, "--json"))["redriven"] == RUN - 10
    assert await keepwell("list", "--json") == []
    with psycopg.connect(settings.postgres.conninfo("admin")) as crash:  # between sending and marking
        crash.execute("UPDATE dead_letter SET state = 'open' WHERE ctid IN (SELECT ctid FROM dead_letter LIMIT 5)")
    assert (await keepwell("redrive", "--rate", 1000, "--json"))["redriven"] == 5
    await run(settings, broken=False)
    assert rows(settings, "SELECT sum(stored)::int, sum(duplicate)::int FROM frame_log") == [(2 * FRAMES, 10)]
    assert rows(settings, "SELECT sum(cardinality(value))::int FROM reading_block") == [(2 * FRAMES,)]
    assert rows(settings, "SELECT state, count(*) FROM dead_letter GROUP BY 1") == [("redriven", RUN - 1)]


async def test_a_letter_is_fixed_beside_its_original_bytes(settings: Settings) -> None:
    lost = stamped(99, 0, [block("heart_rate", T0, [60, 61])])
    await send(settings, [lost])
    await run(settings, broken=False)
    (letter,) = await keepwell("list", "--json")
    place = (letter["topic"], letter["partition"], letter["offset"])
    shown = await keepwell("show", *place, "--json")
    assert (shown["reason"], shown["decoded"]["patient_id"]) == ("unknown_patient", 99)
    assert shown["decoded"]["blocks"][0]["values"] == [60.0, 61.0]
    assert "not enrolled" in await keepwell("fix", *place, "--set", "patient_id=98")
    assert "dead again" in await keepwell("fix", *place, "--set", "blocks[0].quality=[1]")
    fixed = await keepwell("fix", *place, "--set", "patient_id=3", "--note", "the watch was handed on", "--json")
    assert fixed["state"] == "fixed"
    assert rows(settings, "SELECT record FROM dead_letter") == [(encode(lost),)]
    assert (await keepwell("redrive", *place, "--json"))["redriven"] == 1
    await run(settings, broken=False)
    assert rows(settings, "SELECT patient_id, stored FROM frame_log") == [(3, 2)]
    assert "redriven already" in await keepwell("redrive", *place)
    assert "nothing to give up" in await keepwell("give-up", *place, "--note", "x")


async def test_bad_records_are_stepped_over_together(settings: Settings) -> None:
    partition = partition_of(1, settings.kafka.partitions)
    frames = [stamped(1, seq, [block("heart_rate", T0 + seq * HOUR, [60])]) for seq in range(60)]
    await send(settings, frames)
    with pytest.raises(PoisonError):
        await run(settings, broken=True)
    at = RUN - 1
    assert "not at 5" in await keepwell("skip", TOPIC, partition, 5)
    await asyncio.to_thread(
        CliRunner().invoke, create_app("dead"), ["dead", "skip", TOPIC, str(partition), str(at), "--count", "10"]
    )
    assert rows(settings, "SELECT count(*) FROM dead_letter WHERE reason = 'skipped' AND record <> ''") == [(10,)]
    await run(settings, broken=False)
    assert rows(settings, "SELECT sum(stored)::int FROM frame_log") == [(1,)]
    (letter,) = await keepwell("list", "--reason", "skipped", "--limit", 1, "--json")
    place = (letter["topic"], letter["partition"], letter["offset"])
    assert (await keepwell("give-up", *place, "--note", "a test's", "--json"))["state"] == "given_up"
