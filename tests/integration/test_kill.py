"""Whatever is killed, what was accepted is kept once, and the same alerts come of it.

The devices' books are compared with the database by `evaluation.checker`, which shares no code with either.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer

from evaluation.checker import Verdict, check
from ingest.frame import Frame
from tests.cast import cast
from tests.fix_doors import Process
from tests.fix_faults import (
    Group,
    Stream,
    System,
    alerts,
    behind,
    ended,
    eventually,
    frames_of,
    held_in_a_transaction,
    pause,
    wake,
)  # fmt: skip
from tests.fix_stack import LiveStack

pytestmark = pytest.mark.stack

DAYS = 9
PARTS = 8  # a part of the stream for each fault, and a calm end
# Only these depend on the clock on the wall: when silence is judged, and how late a frame was received.
BY_THE_WALL_CLOCK = ("device_silent", "clock_fault")
MQTT = {"tachycardia", "fever", "infection", "unworn", "battery", "restless"}
STORY = {person.key: frames_of(person, DAYS) for person in cast(DAYS)}


FEW = {key: STORY[key] for key in list(STORY)[:6]}  # of both halves of the partitions
FEW_ALERTS = 11


def stream_into(system: System, folder: Path, story: dict[str, list[Frame]] = STORY) -> Stream:
    return Stream(system, story, MQTT, folder / "book.db", PARTS)


async def test_kill_anything_in_mid_stream(
    stack: LiveStack, calm: System, faulty: System, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    began = time.monotonic()
    (tmp_path / "calm").mkdir()
    with calm:
        await calm.ready()
        async with stream_into(calm, tmp_path / "calm") as stream:
            await stream.all_released()
        await calm.drained()
        expected = alerts(calm, BY_THE_WALL_CLOCK)
        undisturbed = _kept(calm, stream)
    said.append(f"undisturbed: {undisturbed.stored} readings, {time.monotonic() - began:.1f} s")

    with faulty as system:
        await system.ready()
        async with stream_into(system, tmp_path) as stream, Group(system) as group:
            for fault in (
                _kill_gateway, _kill_bridge, _kill_between_the_commits, _kill_in_a_transaction, _kill_kafka, _kill_postgres,
            ):  # fmt: skip
                await stream.release()
                said.append(f"{await fault(stack, system, stream, group)} [{time.monotonic() - began:.1f} s]")
                await system.ready()
            await stream.all_released()
            assert stream.counts() == {"sent": 0, "accepted": sum(map(len, STORY.values())), "rejected": 0}
        await system.drained()
        kept = _kept(system, stream)
        found = alerts(system, BY_THE_WALL_CLOCK)
        again = system.query(
            "SELECT count(*), coalesce(sum(deliveries - 1), 0), sum(duplicate) FROM frame_log WHERE deliveries > 1"
        )[0]

    said.append(f"the processor stopped loudly and was started again {system.restarts} times")
    said.append(f"{again[0]} frames came more than once through Kafka ({again[1]} deliveries too many)")
    said.append(f"accepted {kept.accepted} readings, hash {kept.accepted_hash}")
    said.append(
        f"kept {kept.stored} + {kept.conflict} conflicts + {kept.quarantined} quarantined, hash {kept.kept_hash}"
    )
    said.append(
        f"{len(found)} settled alerts, {sum(row[3] == 'clinical' for row in found)} clinical, of {len(expected)}"
    )
    with capsys.disabled():
        print("", *said, sep="\n  ")  # noqa: T201 - what the test shows
    assert again[0] >= 1, "no fault made a client send a frame again that Kafka had already"
    assert kept.problems == []
    assert kept.accepted_hash == kept.kept_hash == undisturbed.kept_hash
    assert found == expected
    assert sum(row[3] == "clinical" for row in found) >= 10
    assert {row[1] for row in found} >= {
        "spo2_low", "tachycardia_at_rest", "bradycardia", "fever", "respiratory_rate_high", "not_worn", "battery_low",
        "resting_heart_rate_rise", "night_skin_temperature_rise", "poor_signal",
    }  # fmt: skip


def _kept(system: System, stream: Stream) -> Verdict:
    verdict = check([stream.book], system.settings.postgres.conninfo("admin"))
    assert verdict.problems == []
    return verdict


async def _kill_gateway(stack: LiveStack, system: System, stream: Stream, group: Group) -> str:
    """Kill it while Kafka holds its records unread: they are kept, and no device has heard of it."""
    return await _kill_door(stack, stream, system.gateway, "gateway")


async def _kill_bridge(stack: LiveStack, system: System, stream: Stream, group: Group) -> str:
    """The same on the MQTT side: the MQTT broker delivers again what the bridge had not acknowledged."""
    system.bridge.log.write_text("")  # the next "carrying" is that of the next bridge
    return await _kill_door(stack, stream, system.bridge, "bridge")


async def _kill_door(stack: LiveStack, stream: Stream, door: Process, name: str) -> str:
    kafka = stack.pid("kafka")
    assert kafka is not None
    pause(kafka)
    try:
        await asyncio.sleep(0.4)  # what the doors send now lies unread in Kafka's sockets
        waiting = stream.on_their_way
        door.kill()
    finally:
        wake(kafka)
    assert waiting > 0, f"the {name} was not killed in mid-stream"
    door.start()
    return f"{name} killed with {waiting} frames on their way"


async def _kill_between_the_commits(stack: LiveStack, system: System, stream: Stream, group: Group) -> str:
    """Kill the processor when effects are in the database and Kafka's book does not know yet."""
    pid = system.processor.pid
    async with asyncio.timeout(30):
        while True:
            if behind(await group.committed(), system.stored_positions()):
                pause(pid)  # frozen first, so that what is seen now is what it died with
                if lost := behind(await group.committed(), await _settled_positions(system)):
                    break
                wake(pid)
            await asyncio.sleep(0.01)
    system.processor.kill()
    redelivered = await _frame_ids(system, lost)
    assert redelivered
    known = "SELECT frame_id, deliveries FROM frame_log WHERE frame_id = ANY(%s)"
    assert len(system.query(known, redelivered)) == len(set(redelivered)), "their effects are not in the database"
    system.processor.start()
    async with asyncio.timeout(30):
        while behind(await group.committed(), {p: stored for p, (_, stored) in lost.items()}):
            await asyncio.sleep(0.05)
    sent = Counter(await _frame_ids(system, {p: (0, end) for p, end in (await system.ends()).items()}))
    assert [one for one, times in system.query(known, redelivered) if times > sent[one]] == [], "done twice"
    return f"processor killed with {len(redelivered)} records that its group's committed offsets would deliver again"


async def _settled_positions(system: System) -> dict[int, int]:
    """Return the stored positions once they stand still: a COMMIT sent before the freeze may still be at work."""
    seen = system.stored_positions()
    while True:
        await asyncio.sleep(0.1)
        now = system.stored_positions()
        if now == seen:
            return now
        seen = now


async def _frame_ids(system: System, spans: dict[int, tuple[int, int]]) -> list[str]:
    """Read the records between two offsets of each partition, as a group would be handed them."""
    consumer = AIOKafkaConsumer(bootstrap_servers=system.settings.kafka.bootstrap, group_id=None)
    await consumer.start()
    found = []
    try:
        for place in system.places():
            first, stop = spans.get(place.partition, (0, 0))
            if first == stop:
                continue
            consumer.assign([place])
            consumer.seek(place, first)
            async with asyncio.timeout(20):
                while await consumer.position(place) < stop:
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        found += [record.value for record in records if record.offset < stop]
    finally:
        await consumer.stop()
    return [str(msgspec.msgpack.decode(record)[1]) for record in found]


async def _kill_in_a_transaction(stack: LiveStack, system: System, stream: Stream, group: Group) -> str:
    """Kill the processor with a batch half written: all of it is handed to the next one again."""
    async with held_in_a_transaction(system, stream):
        system.processor.kill()
        before, ends = system.stored_positions(), await system.ends()
    handed = sum(ends[p] - offset for p, offset in before.items())
    assert handed > 0
    assert system.stored_positions() == before, "half a batch was kept"
    system.processor.start()
    await system.drained()
    return f"processor killed in a transaction; {handed} records were handed out again"


async def _kill_kafka(stack: LiveStack, system: System, stream: Stream, group: Group) -> str:
    waiting = await _under_way(stream)
    stack.kill("kafka")
    await asyncio.to_thread(stack.start, "kafka")
    return f"Kafka killed with {waiting} frames on their way"


async def _kill_postgres(stack: LiveStack, system: System, stream: Stream, group: Group) -> str:
    waiting = await _under_way(stream)
    stack.kill("postgres")
    await asyncio.to_thread(stack.start, "postgres")
    return f"PostgreSQL killed with {waiting} frames on their way"


async def _under_way(stream: Stream) -> int:
    accepted = stream.accepted
    async with asyncio.timeout(20):
        while stream.accepted == accepted:
            await asyncio.sleep(0.005)
    assert stream.on_their_way > 0, "this part had all been accepted before the kill"
    return stream.on_their_way


async def test_another_processor_takes_over_from_a_killed_one(stack: LiveStack, faulty: System, tmp_path: Path) -> None:
    with faulty as system, system.another("second") as second:
        await _both_own_partitions(system)
        async with stream_into(system, tmp_path, FEW) as stream:
            await stream.release()
            await _until_processed(system, 12)
            system.processor.kill()
            await stream.release()
            await system.drained(by=second)
            await stream.all_released()
        await system.drained(by=second)
        _kept(system, stream)
        owned = system.query("SELECT count(*) FROM partition_position WHERE topic = 'readings.v1' AND epoch > 1")
        assert owned == [(system.settings.kafka.partitions,)]
        assert len(alerts(system)) == FEW_ALERTS


async def test_a_fenced_processor_stops_loudly_and_writes_nothing(
    stack: LiveStack, faulty: System, tmp_path: Path
) -> None:
    with faulty as system:
        await system.ready()
        async with stream_into(system, tmp_path, FEW) as stream:
            await stream.release()
            await system.drained()
            system.take_partitions()  # as another owner does, without this one hearing of it
            before = _everything(system)
            await stream.release()
            assert await ended(system.processor, 30) != 0
            assert "are owned by a newer process; stopping without writing" in system.processor.log.read_text()
            assert _everything(system) == before
            system.processor.start()  # its supervisor does: now it is the owner
            await stream.all_released()
        await system.drained()
        _kept(system, stream)
        assert len(alerts(system)) == FEW_ALERTS


@pytest.mark.slow
async def test_a_processor_frozen_in_a_transaction_writes_nothing_when_it_wakes(
    stack: LiveStack, faulty: System, tmp_path: Path
) -> None:
    """Frozen past the session time-out it wakes up as a stranger: it stops, or joins again as a new owner."""
    with faulty as system, system.another("second") as second:
        await _both_own_partitions(system)
        async with stream_into(system, tmp_path, FEW) as stream:
            async with held_in_a_transaction(system, stream, processors=2):
                pause(system.processor.pid)
            await stream.all_released()
            await system.drained(by=second)  # once the frozen one's session and transaction have timed out
            before, joined = _everything(system), _times_assigned(system)
            wake(system.processor.pid)
            await eventually(
                lambda: not system.processor.alive() or _times_assigned(system) > joined,
                "noticing that time has passed",
            )
        assert _everything(system) == before
        _kept(system, stream)
        assert len(alerts(system)) == FEW_ALERTS


def _times_assigned(system: System) -> int:
    return int(system.query("SELECT count(*) FROM partition_owner_log WHERE owner = 'faulty-1'")[0][0])


async def _both_own_partitions(system: System) -> None:
    await system.ready()
    await eventually(
        lambda: bool(system.query("SELECT 1 FROM partition_position GROUP BY topic HAVING min(epoch) > 1")),
        "the second processor's assignment",
    )


async def _until_processed(system: System, frames: int) -> None:
    await eventually(
        lambda: system.query("SELECT count(*) >= %s FROM frame_log", frames) == [(True,)], "the first batch"
    )


def _everything(system: System) -> list[tuple[object, ...]]:
    """What a writer changes with any batch of readings (not what the clock alone tells)."""
    return system.query(
        """SELECT (SELECT array_agg((topic, partition, next_offset) ORDER BY topic, partition) FROM partition_position)::text,
                  (SELECT count(*) FROM frame_log), (SELECT sum(deliveries) FROM frame_log),
                  (SELECT sum(cardinality(value)) FROM reading_block), (SELECT count(*) FROM alert),
                  (SELECT count(*) FROM alert_event WHERE change NOT IN ('unknown', 'known'))"""
    )
