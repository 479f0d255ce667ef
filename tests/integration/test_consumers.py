"""The contract every consumer keeps: the live loop, its second consumer of history, and the Faust agent.

Each test drives all of them at once, on the real broker and database, with 1 and with 4 processors (`make contract`;
`make test` takes the short choice). `Traffic.problems` says what was lost, done twice, done out of order, or written
by two owners.
"""

from __future__ import annotations

import asyncio
import random
import struct
import time
from collections import defaultdict

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from services import topics
from tests.fix_consumers import KEYS, KINDS, TOPIC_OF, Traffic
from tests.fix_doors import Process
from tests.fix_faults import eventually, pause, wake

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

SESSION_S = 10.0  # of a member that is not heard of
START_S = 150.0  # of four processors at once on a busy machine


@pytest.fixture(params=[1, pytest.param(4, marks=pytest.mark.slow)])
def processors(request: pytest.FixtureRequest) -> int:
    """How many processors share the partitions: the contract holds with any number."""
    return int(request.param)


async def begun(traffic: Traffic, processors: int, *, static: bool = False) -> list[Process]:
    """Start so many processors, static members by name if asked, and wait until each owns its share."""
    members = [traffic.processor(f"m{number}" if static else "") for number in range(processors)]
    await traffic.owned_by(processors, START_S)
    return members


async def stopped(members: list[Process]) -> None:
    """Stop all of them at the same time, as a shutdown of the machine does."""
    codes = await asyncio.gather(*(asyncio.to_thread(member.stop) for member in members))
    assert codes == [0] * len(members)


async def test_each_key_in_order_and_poison_goes_to_the_dead(traffic: Traffic, processors: int) -> None:
    await traffic.send(3)  # before anybody listens
    await begun(traffic, processors)
    await traffic.send(20)
    await traffic.junk(("live", "history", "filing"))
    await traffic.send(20)
    await traffic.all_taken()
    assert traffic.problems() == []
    await eventually(lambda: len(_dead(traffic)) == 3, "the dead letters")
    assert _dead(traffic) == [
        ("backfill.v1", "not_msgpack", len(KEYS)), ("dead.v1", "not_a_dead_record", len(KEYS)),
        ("readings.v1", "not_msgpack", len(KEYS)),
    ]  # fmt: skip


def _dead(traffic: Traffic) -> list[tuple[object, ...]]:
    return traffic.query(
        "SELECT topic, reason, count(*) FROM dead_letter WHERE reason <> 'counted' GROUP BY 1, 2 ORDER BY 1"
    )


async def test_redelivery_has_no_second_effect(traffic: Traffic, processors: int) -> None:
    members = await begun(traffic, processors)  # static members would stay in the group until their session ends
    await traffic.send(20)
    await traffic.all_taken()
    await stopped(members)
    for group, topic in (("processor", topics.READINGS), ("processor", topics.CONTROL), ("agents", topics.DEAD)):
        await _forget_commits(traffic, group, topic)
    traffic.query("UPDATE partition_position SET next_offset = 0 WHERE topic = 'dead.v1' RETURNING 1")
    for member in members:
        member.start()
    await traffic.send(5)
    await traffic.all_taken()
    await eventually(lambda: traffic.query(_FILED) == [(25 * len(KEYS),)], "the agent's second reading")
    assert traffic.problems() == []


_FILED = "SELECT sum(next_offset) FROM partition_position WHERE topic = 'dead.v1'"


async def _forget_commits(traffic: Traffic, group: str, topic: str) -> None:
    """Let Kafka's own book say that nothing was ever done."""
    kafka = traffic.settings.kafka
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap, group_id=topics.named(group, kafka), enable_auto_commit=False
    )
    await consumer.start()
    try:
        places = [TopicPartition(topics.named(topic, kafka), number) for number in range(traffic.partitions)]
        consumer.assign(places)
        await consumer.commit(dict.fromkeys(places, 0))
    finally:
        await consumer.stop()


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("before the transaction", marks=pytest.mark.slow),
        "inside it",
        pytest.param("after it, before Kafka's commit", marks=pytest.mark.slow),
    ],
)
async def test_a_crash_at_any_step(traffic: Traffic, step: str, processors: int) -> None:
    process, *_ = await begun(traffic, processors, static=True)
    await traffic.send(10)
    await traffic.all_taken()
    if step.startswith("after"):
        mine = [partition for partition, owner in traffic.owners().items() if owner == "m0"]
        sending = asyncio.create_task(traffic.send(60, spread_s=3))
        await _frozen_between_the_commits(traffic, process.pid, mine)
        process.kill()
        await sending
    else:
        tables = ("partition_position",) if step.startswith("before") else ("frame_log", "dead_letter")
        with traffic.locked(*tables):
            await traffic.send(10)
            await eventually(lambda: traffic.waiting() >= 2 * processors, "each loop's and each agent's wait")
            process.kill()
        await traffic.send(5)
    process.start()
    await traffic.all_taken()
    assert traffic.problems() == []


async def _frozen_between_the_commits(traffic: Traffic, pid: int, mine: list[int]) -> None:
    """Freeze the process when its effects are in the database and Kafka's book does not know of some yet."""
    async with asyncio.timeout(20):
        while True:
            if await _book_is_behind(traffic, mine):
                pause(pid)
                await asyncio.sleep(0.2)  # a COMMIT sent before the freeze may still be at work
                if await _book_is_behind(traffic, mine):
                    return
                wake(pid)
            await asyncio.sleep(0.02)


async def _book_is_behind(traffic: Traffic, mine: list[int]) -> bool:
    told = await _committed(traffic, topics.READINGS, "processor")
    stored = traffic.positions(topics.READINGS)
    return sum(told[partition] for partition in mine) < sum(stored[partition] for partition in mine)


async def _committed(traffic: Traffic, topic: str, group: str) -> dict[int, int]:
    """Partition → the offset in Kafka's own book."""
    kafka = traffic.settings.kafka
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=topics.named(group, kafka))
    await consumer.start()
    try:
        places = [TopicPartition(topics.named(topic, kafka), number) for number in range(traffic.partitions)]
        return {place.partition: await consumer.committed(place) or 0 for place in places}
    finally:
        await consumer.stop()


async def test_offsets_are_committed_once_a_second_at_most(traffic: Traffic, processors: int) -> None:
    members = await begun(traffic, processors)
    await traffic.filed_by(processors, START_S)  # an agent that gives partitions up commits at once
    await traffic.send(1)
    await traffic.all_taken()
    began = time.time_ns() // 1_000_000 + 1000
    await traffic.send(60, spread_s=6)
    await traffic.all_taken()
    ended = time.time_ns() // 1_000_000
    times = await _commit_times(traffic, began, ended)
    assert {topic.removeprefix(traffic.settings.kafka.prefix) for topic, _ in times} == {
        TOPIC_OF[kind] for kind in KINDS if kind != "history"  # the second consumer has no group
    }  # fmt: skip
    gaps = [b - a for one in times.values() for a, b in zip(one, one[1:], strict=False)]
    assert len(gaps) >= 3 * traffic.partitions
    assert min(gaps) >= 900, "milliseconds between two commits of a partition"
    assert all(member.alive() for member in members)


async def _commit_times(traffic: Traffic, began_ms: int, ended_ms: int) -> dict[tuple[str, int], list[int]]:
    """When each partition's offset was committed, from Kafka's own log of commits."""
    kafka = traffic.settings.kafka
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap, group_id=None, exclude_internal_topics=False, check_crcs=False
    )
    await consumer.start()
    times: dict[tuple[str, int], list[int]] = defaultdict(list)
    try:
        log = "__consumer_offsets"
        await consumer.topics()
        consumer.subscribe([log])
        async with asyncio.timeout(20):
            while not consumer.assignment():
                await consumer.getmany(timeout_ms=100)
        places = list(consumer.assignment())
        ends = await consumer.end_offsets(places)
        await consumer.seek_to_beginning(*places)
        async with asyncio.timeout(30):
            while any([await consumer.position(place) < ends[place] for place in places]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        if record.value is not None and began_ms <= record.timestamp <= ended_ms:
                            _note(times, record.key, record.timestamp, kafka.prefix)
    finally:
        await consumer.stop()
    return times


def _note(times: dict[tuple[str, int], list[int]], key: bytes, at_ms: int, prefix: str) -> None:
    """Take in the key of an offset commit: version, group, topic, partition."""
    if struct.unpack_from(">h", key)[0] > 1:
        return  # a group's own record
    place, names = 2, []
    for _ in range(2):
        (length,) = struct.unpack_from(">h", key, place)
        names.append(key[place + 2 : place + 2 + length].decode())
        place += 2 + length
    if names[0].startswith(prefix):
        times[names[1], struct.unpack_from(">i", key, place)[0]].append(at_ms)


async def test_a_static_member_comes_back_to_its_partitions(traffic: Traffic, processors: int) -> None:
    first, *_ = await begun(traffic, processors, static=True)
    await traffic.send(5)
    await traffic.all_taken()
    for _ in range(3):
        before = traffic.epochs()
        first.kill()
        if (took := await _restarted(first)) < SESSION_S - 2:
            break
    else:
        pytest.skip(f"a processor takes {took:.0f} s to start on this machine now, a session ends after {SESSION_S:g}")
    await traffic.send(10)
    await traffic.all_taken()
    after = traffic.epochs()
    for place, owners in before.items():
        mine = owners[-1][1] == "m0"
        assert [owner for _, owner in after[place]] == [owner for _, owner in owners] + ["m0"] * mine, place
    assert traffic.problems() == []


async def _restarted(process: Process) -> float:
    """Start it again and return the seconds until it owned its partitions."""
    assigned, began = process.log.read_text().count('"assigned"'), time.monotonic()
    process.start()
    await eventually(lambda: process.log.read_text().count('"assigned"') > assigned, "the assignment", 60)
    return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("partitions", [1, 4])
async def test_more_consumers_than_partitions(traffic: Traffic, partitions: int) -> None:
    for number in range(partitions + 1):
        traffic.processor(f"m{number}")
    await traffic.owned_by(partitions, START_S)
    await eventually(lambda: _idle(traffic) == 1, "one that idles")
    await traffic.send(10)
    await traffic.all_taken()
    assert [one.alive() for one in traffic.running] == [True] * (partitions + 1)
    assert traffic.problems() == []


def _idle(traffic: Traffic) -> int:
    return sum(one.log.read_text().rpartition('{"partitions": ')[2].startswith("[]") for one in traffic.running)


@pytest.mark.slow
async def test_a_slow_database_costs_no_member_its_place(traffic: Traffic, processors: int) -> None:
    await begun(traffic, processors)
    await traffic.send(5)
    await traffic.all_taken()
    before = traffic.epochs()
    with traffic.locked("frame_log", "dead_letter"):
        await traffic.send(10)
        await asyncio.sleep(12)  # longer than the session time-out, and than a statement may wait
        assert traffic.waiting() >= 1
    await traffic.all_taken()
    assert traffic.epochs() == before, "somebody was taken for dead"
    assert [problem for problem in traffic.problems() if "two writers" not in problem] == []  # it connected anew


@pytest.mark.slow
async def test_a_stop_finishes_what_is_in_hand(traffic: Traffic, processors: int) -> None:
    members = await begun(traffic, processors)
    await traffic.send(2)
    await traffic.all_taken()
    sending = asyncio.create_task(traffic.send(100, spread_s=4))
    await asyncio.sleep(1.5)
    began = time.monotonic()
    await stopped(members)
    took = time.monotonic() - began
    for topic, group in ((topics.READINGS, "processor"), (topics.CONTROL, "processor"), (topics.DEAD, "agents")):
        rows, told = traffic.positions(topic), await _committed(traffic, topic, group)
        assert told == {number: rows.get(number, 0) for number in told}, topic
    assert took < 10
    await sending
    for member in members:
        member.start()
    await traffic.all_taken()
    assert traffic.problems() == []


@pytest.mark.slow
async def test_a_frozen_member_writes_nothing_when_it_wakes(traffic: Traffic, processors: int) -> None:
    """The others take over; where it was the only one, another that is started in its place."""
    frozen, *others = await begun(traffic, processors)
    await traffic.send(5)
    await traffic.all_taken()
    with traffic.locked("frame_log", "dead_letter"):
        await traffic.send(5)
        await eventually(lambda: traffic.waiting() >= processors, "a batch in each")
        assigned = frozen.log.read_text().count('"assigned"')
        pause(frozen.pid)
    others = others or [traffic.processor()]
    await traffic.send(5)
    await traffic.all_taken()  # once session and transaction have timed out
    ended = traffic.query("SELECT max(id) FROM witness")
    wake(frozen.pid)
    await eventually(
        lambda: not frozen.alive() or frozen.log.read_text().count('"assigned"') > assigned,
        "noticing that time has passed",
        40,
    )
    assert traffic.query("SELECT max(id) FROM witness") == ended
    assert all(other.alive() for other in others)
    await traffic.send(5)
    await traffic.all_taken()
    assert traffic.problems() == []


@pytest.mark.slow
async def test_twenty_joins_and_kills(traffic: Traffic, processors: int) -> None:
    """Live, history, control and dead records of every patient through a storm: order kept, never two owners."""
    chance = random.Random(7)
    await begun(traffic, processors)
    sending = asyncio.create_task(traffic.send(150, spread_s=40))
    for turn in range(20):
        alive = [one for one in traffic.running if one.alive()]
        if turn % 2 == 0 or len(alive) < processors:
            traffic.processor()
        else:
            chance.choice(alive).kill()
        await asyncio.sleep(chance.uniform(0.5, 3.0))
    await sending
    await traffic.all_taken()
    epochs = traffic.epochs()
    for (topic, partition), owners in epochs.items():
        numbers = [epoch for epoch, _ in owners]
        assert numbers == list(range(1, len(numbers) + 1)), (
            f"{topic}/{partition}: an epoch was given out twice or skipped"
        )
    assert sum(map(len, epochs.values())) > 20
    assert traffic.problems() == []


async def test_the_witness_tells(traffic: Traffic) -> None:
    """What the other tests go by can fail: each kind of trouble is named."""
    for n in range(4):
        traffic.sent["live", 1] = n + 1
        traffic.query("INSERT INTO witness (kind, key, n, epoch, pid) VALUES ('live', 1, %s, 1, 10) RETURNING 1", n)
    assert traffic.problems() == []
    traffic.sent["live", 1] = 6
    for n, epoch, pid in ((3, 2, 11), (5, 1, 11)):
        traffic.query(
            "INSERT INTO witness (kind, key, n, epoch, pid) VALUES ('live', 1, %s, %s, %s) RETURNING 1", n, epoch, pid
        )
    said = " ".join(traffic.problems())
    assert "lost [4] of 6, twice [3], out of order [3]" in said
    assert "written under epoch 1 after 2" in said
    assert "two writers {10, 11}" in said or "two writers {11, 10}" in said
