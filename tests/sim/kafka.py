"""A broker in memory: logs, a consumer group with the real assignors, and the consumers of the processor's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from random import Random
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from tests.sim.loop import Actor, Gates


class LogRecord(NamedTuple):
    """What a consumer is handed, with the names aiokafka uses."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes
    timestamp: int


class Log:
    """Every topic's partitions; an appended record is never lost."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self._logs: dict[TopicPartition, list[LogRecord]] = {}

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes, at_ms: int) -> LogRecord:
        """Append one record."""
        log = self.of(TopicPartition(topic, partition))
        record = LogRecord(partition, len(log), key, value, at_ms)
        log.append(record)
        return record

    def of(self, place: TopicPartition) -> list[LogRecord]:
        """Return a partition's records."""
        return self._logs.setdefault(place, [])

    def all_of(self, topic: str) -> list[LogRecord]:
        """Return a topic's records, partition after partition."""
        return [record for place in sorted(self._logs) if place.topic == topic for record in self._logs[place]]

    def partitions_for_topic(self, topic: str) -> set[int]:
        """Return the partitions of a topic, as the assignors ask for them."""
        return set(range(self.partitions))


class Group:
    """The group's coordinator: who is a member, and which partitions each owns."""

    def __init__(self, log: Log, gates: Gates) -> None:
        self.log, self.gates = log, gates
        self.members: dict[str, SimConsumer] = {}
        self.committed: dict[TopicPartition, int] = {}
        self.joined: set[str] = set()
        self.generation = 0
        self.settled = True
        self.actor = Actor("broker")

    def rejoin(self) -> None:
        """Ask every member to join again."""
        self.generation += 1
        self.settled = False
        self.joined.clear()
        for member in self.members.values():
            member.rejoin.set()

    def joined_by(self, consumer: SimConsumer) -> None:
        """A member has given up what it had, and waits for its share."""
        self.joined.add(consumer.name)

    def leave(self, name: str) -> None:
        """A member is gone: it said so, or its session has timed out."""
        if self.members.pop(name, None) is not None:
            self.rejoin()

    def complete(self) -> bool:
        """Hand out the partitions when every member has joined; return whether that is so."""
        if self.settled or not self.members or self.joined != set(self.members):
            return False
        some = next(iter(self.members.values()))
        asked = {name: some.assignor.metadata(self.members[name].topics) for name in sorted(self.members)}
        given = some.assignor.assign(self.log, asked)
        self.settled = True
        for name, member in self.members.items():
            pairs = given[name].assignment
            member.give([TopicPartition(topic, number) for topic, numbers in pairs for number in numbers])
        return True


class SimConsumer:
    """An ``AIOKafkaConsumer``, as far as the processor's loop uses one."""

    def __init__(self, actor: Actor, group: Group, chance: Random, options: Mapping[str, Any]) -> None:
        self.actor, self._group, self._chance = actor, group, chance
        self.name = f"{actor.name}"
        self.grouped = options["group_id"] is not None
        strategy = options.get("partition_assignment_strategy", (RangePartitionAssignor,))
        self.assignor: type[RangePartitionAssignor] = strategy[0]
        self.topics: list[str] = []
        self.rejoin = asyncio.Event()
        self._reassigning = self.grouped
        self._next: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._given: asyncio.Future[list[TopicPartition]] | None = None

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Leave the group, saying so."""
        if self.grouped and not self.actor.dead:
            self._group.leave(self.name)

    def subscribe(self, names: Iterable[str], listener: Any) -> None:
        """Join the group; the listener is told of each rebalance in a task of its own, as aiokafka does."""
        self.topics = list(names)
        self._group.members[self.name] = self
        self.actor.start(self._membership(listener))
        self._group.rejoin()

    def assign(self, places: Iterable[TopicPartition]) -> None:
        """Take these partitions, without a group."""
        self._next = dict.fromkeys(sorted(places), 0)

    def unsubscribe(self) -> None:
        """Take none."""
        self._next = {}

    def assignment(self) -> frozenset[TopicPartition]:
        """Return the partitions owned."""
        return frozenset(self._next)

    def paused(self) -> frozenset[TopicPartition]:
        """Return the partitions that are not read for now."""
        return frozenset(self._paused)

    def pause(self, *places: TopicPartition) -> None:
        """Read these no more; a rebalance forgets it."""
        self._paused |= {self._owned(place) for place in places}

    def resume(self, *places: TopicPartition) -> None:
        """Read these again."""
        self._paused -= {self._owned(place) for place in places}

    def seek(self, place: TopicPartition, offset: int) -> None:
        """Read on from ``offset``."""
        self._next[self._owned(place)] = offset

    def highwater(self, place: TopicPartition) -> int | None:
        """Return the end of a partition as of the last fetch."""
        return len(self._group.log.of(place))

    async def beginning_offsets(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return where each log begins."""
        return dict.fromkeys(places, 0)

    async def end_offsets(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return where each log ends."""
        await self._group.gates.at(self.actor, "asks for the logs' ends")
        return {place: len(self._group.log.of(place)) for place in places}

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Tell the broker how far this is; for display only."""
        self._group.committed.update(offsets)
        await self._group.gates.at(self.actor, "has committed to Kafka")

    async def getmany(
        self, *only: TopicPartition, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[LogRecord]]:
        """Return some of what there is (of these partitions), each one's records in order; nothing after a while."""
        if timeout_ms == 0 and not self._has_more():
            return {}
        await self._group.gates.at(
            self.actor, "fetches", busy=self._has_more, can=lambda: not self._reassigning or self.actor.dead
        )
        places = [place for place in self._next if place not in self._paused and (not only or place in only)]
        self._chance.shuffle(places)
        room = min(max_records, self._chance.choice((1, 2, 4, 8, 30, 30)))
        fetched: dict[TopicPartition, list[LogRecord]] = {}
        for place in places:
            first = self._next[place]
            records = self._group.log.of(place)[first : first + room]
            if records:
                fetched[place] = records
                self._next[place] = records[-1].offset + 1
                room -= len(records)
            if room <= 0:
                break
        return fetched

    def give(self, places: list[TopicPartition]) -> None:
        """Receive a share of the partitions."""
        if self._given is not None and not self._given.done():
            self._given.set_result(places)

    def _has_more(self) -> bool:
        ends = ((place, len(self._group.log.of(place))) for place in self._next if place not in self._paused)
        return any(self._next[place] < end for place, end in ends)

    def _owned(self, place: TopicPartition) -> TopicPartition:
        if place not in self._next:
            msg = f"{place} is not assigned to {self.name}"
            raise ValueError(msg)
        return place

    async def _membership(self, listener: Any) -> None:
        """Give up and take partitions for ever, one rebalance after another."""
        while not self.actor.dead:  # a cancelled callback of the loop keeps its cancellation to itself
            await self.rejoin.wait()
            await self._group.gates.at(self.actor, "hears of a rebalance")
            self.rejoin.clear()
            self._reassigning = True
            await listener.on_partitions_revoked(list(self._next))
            if self.rejoin.is_set():
                continue
            self._given = asyncio.get_running_loop().create_future()
            self._group.joined_by(self)
            again = asyncio.ensure_future(self.rejoin.wait())
            try:
                await asyncio.wait((self._given, again), return_when=asyncio.FIRST_COMPLETED)
            finally:
                again.cancel()
            if not self._given.done():
                continue
            places = self._given.result()
            self._next = {place: self._group.committed.get(place, 0) for place in places}
            self._paused.clear()
            self._reassigning = False
            await listener.on_partitions_assigned(places)
