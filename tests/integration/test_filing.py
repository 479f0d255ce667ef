"""What others put on ``dead.v1`` is filed once, whatever happens; what the processor filed itself is left alone."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from ingest.client import DeviceClient
from ingest.doors import MqttDoor
from ingest.ledger import Ledger
from services import topics
from services.processor import filing
from tests.fix_doors import Process
from tests.fix_faults import System, ended, eventually

pytestmark = pytest.mark.stack

LETTERS = "SELECT topic, reason, record, record_key FROM dead_letter ORDER BY topic, reason, record"


async def produce(system: System, topic: str, *records: tuple[bytes | None, bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=system.settings.kafka.bootstrap, acks="all")
    await producer.start()
    try:
        for key, value in records:
            await producer.send_and_wait(topics.named(topic, system.settings.kafka), value, key=key, partition=0)
    finally:
        await producer.stop()


def notice(record: bytes) -> bytes:
    return json.dumps({"reason": "refused", "record": base64.b64encode(record).decode(), "key": "them"}).encode()


async def test_dead_records_of_others_are_filed_once(faulty: System, tmp_path: Path) -> None:
    with faulty as system:
        await system.ready()
        (watch,) = system.doors.enrol(("p", "filing-watch"))
        mqtt = system.settings.mqtt
        with Ledger(tmp_path / "book.db") as ledger:
            async with MqttDoor(mqtt.host, mqtt.port, watch, mqtt.ca_file) as door:
                await DeviceClient(watch.device, door, ledger, "a").send_body(b"\xc1poison")
        await produce(system, topics.DEAD, (None, notice(b"theirs")), (None, b"junk"))
        await produce(system, topics.READINGS, (b"1", b"\x00no frame"))
        expected = [
            ("dead.v1", "not_a_dead_record", b"junk", None),
            ("dead.v1", "refused", b"theirs", b"them"),
            ("dead.v1", "undecodable", b"\xc1poison", b"filing-watch"),
            ("readings.v1", "wrong_shape", b"\x00no frame", b"1"),
        ]
        await eventually(lambda: len(system.query(LETTERS)) == 4, "the filing")
        assert system.query(LETTERS) == expected

        # the processor's own comes back on dead.v1; one that was looked at, or erased, stays so
        await eventually(lambda: not system.query("SELECT 1 FROM outbox WHERE sent_at IS NULL"), "the relay")
        with psycopg.connect(system.settings.postgres.conninfo("admin")) as admin:
            admin.execute("DELETE FROM dead_letter WHERE topic = 'readings.v1'")
        system.processor.kill()
        system.processor.start()
        await produce(system, topics.DEAD, (None, notice(b"later")))
        await eventually(lambda: len(system.query(LETTERS)) == 4, "the filing after a restart")
        assert system.query(LETTERS) == sorted([*expected[:3], ("dead.v1", "refused", b"later", b"them")])

        # a database restored from before all of this: filed again from where it stood
        assert system.processor.stop() == 0
        with psycopg.connect(system.settings.postgres.conninfo("admin")) as admin:
            admin.execute("DELETE FROM dead_letter")
            admin.execute("DELETE FROM partition_position WHERE topic = 'dead.v1'")
        system.processor.start()
        await eventually(lambda: len(system.query(LETTERS)) == 4, "the filing after a restore", 60)
        ends = system.query("SELECT sum(next_offset) FROM partition_position WHERE topic = 'dead.v1'")
        assert ends == [(5,)]  # the processor's own was read as well


async def test_an_agent_at_work_elsewhere_is_not_taken_for_a_restore(
    faulty: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It files on, and commits, between any two looks of one that joins."""

    async def filed_on(_: AIOKafkaConsumer, place: TopicPartition) -> int:
        with psycopg.connect(faulty.settings.postgres.conninfo("admin")) as admin:
            admin.execute(
                "INSERT INTO partition_position (topic, partition, next_offset, epoch) VALUES ('dead.v1', %s, 9, 0)",
                [place.partition],
            )
        return 9

    async def back(_: AIOKafkaConsumer, places: dict[TopicPartition, int]) -> None:
        pytest.fail(f"the group was taken back to {places}")

    monkeypatch.setattr(AIOKafkaConsumer, "committed", filed_on)
    monkeypatch.setattr(filing, "_commit", back)
    await filing.Beginning(faulty.settings).on_start()


async def test_what_fausts_consumer_skipped_is_fetched_and_filed_in_order(faulty: System) -> None:
    await produce(faulty, topics.DEAD, *((None, notice(b"%d" % n)) for n in range(7)))
    filer = filing.Filer(faulty.settings)
    filed = "SELECT record FROM dead_letter ORDER BY record_offset"
    await filer.file([filing.Filed(0, 4, None, notice(b"4"), 0)])  # of a batch whose first four were dropped
    assert faulty.query(filed) == [(b"%d" % n,) for n in range(5)]
    await filer.catch_up({0: 7})
    assert len(faulty.query(filed)) == 5, "it may be in hand"
    await filer.catch_up({0: 7})
    assert faulty.query(filed) == [(b"%d" % n,) for n in range(7)]
    assert faulty.query("SELECT next_offset FROM partition_position WHERE topic = 'dead.v1'") == [(7,)]
    await filer.file([filing.Filed(0, 6, None, notice(b"6"), 0)])
    assert len(faulty.query(filed)) == 7, "filed twice"


async def test_no_topic_is_a_loud_stop(faulty: System, tmp_path: Path) -> None:
    kafka = faulty.settings.kafka.model_copy(update={"prefix": "nowhere."})
    nowhere = faulty.settings.model_copy(update={"kafka": kafka})
    with Process(nowhere, ["processor"], tmp_path / "lost.log") as lost:
        assert await ended(lost, 60) != 0
        assert "keepwell migrate" in lost.log.read_text()
