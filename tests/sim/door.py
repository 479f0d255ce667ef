"""The devices and the doors: requests over a lossy link, sent again until each frame has its verdict."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import msgspec
from aiokafka import TopicPartition

from ingest import parse
from ingest.client import array_of
from ingest.clock import Clock
from ingest.frame import StampedFrame, Tick, encode
from ingest.intake import Intake
from ingest.partition import partition_of, record_key
from ingest.publish import BrokerUnavailable, is_history
from ingest.verdict import Accepted
from services import topics
from services.settings_sections import ProcessorSettings
from tests.sim.kafka import Log
from tests.sim.loop import Actor, Gates
from tests.sim.plan import Delivery, Due, Junk, Plan
from tests.sim.stories import Sent

HISTORY_MS = ProcessorSettings().history_after_s * 1000
TRIES = 3  # after so many faults the link holds: everything gets its verdict within seconds
_TICK = msgspec.msgpack.encode(Tick(0))
Identity = tuple[int, str, int]  # device, session, sequence number


class SimPublisher:
    """Where a door leaves its frames: the log, an acknowledgement at a time."""

    ready = True

    def __init__(self, log: Log, gates: Gates, actor: Actor, clock: Clock) -> None:
        self._log, self._gates, self._actor, self._clock = log, gates, actor, clock

    async def publish(self, frames: Sequence[StampedFrame]) -> None:
        """Append the frames; the door may die before, between and after."""
        for frame in frames:
            await self._gates.at(self._actor, "appends")
            topic = topics.BACKFILL if is_history(frame, HISTORY_MS) else topics.READINGS
            place = TopicPartition(topic, partition_of(frame.patient_id, self._log.partitions))
            key = record_key(frame.patient_id)
            self._log.append(place.topic, place.partition, key, encode(frame), self._clock.now_ms())
        await self._gates.at(self._actor, "has appended")


class Doors:
    """Every device's requests, and the book of what was accepted."""

    def __init__(self, plan: Plan, log: Log, gates: Gates, clock: Clock, chance: Random) -> None:
        self._plan, self._log, self._gates, self._clock, self._chance = plan, log, gates, clock, chance
        self._waiting: list[tuple[int, int, Due]] = []
        self._count = 0
        everything: list[Due] = [*plan.deliveries, *plan.junk, *plan.changes]
        for one in everything:
            self._push(one)
        self.in_flight: dict[Actor, Delivery] = {}
        self.accepted: dict[Identity, Sent] = {}
        self.refused: dict[Identity, Sent] = {}
        self.junk: list[tuple[int, int, bytes]] = []  # partition, offset, bytes
        self.ack_first = False  # a planted bug switches this on

    @property
    def next_ms(self) -> int | None:
        """Return when the next request is due."""
        return self._waiting[0][0] if self._waiting else None

    def take(self) -> Due:
        """Return what is due next."""
        return heapq.heappop(self._waiting)[2]

    def litter(self, junk: Junk) -> None:
        """Write a record that is no frame of a known patient, or a tick for every processor."""
        if junk.kind == "tick":
            for partition in range(self._log.partitions):
                self._log.append(topics.CONTROL, partition, None, _TICK, self._clock.now_ms())
            return
        unknown = StampedFrame(1, "d99~s~0", 1, 99, 99, "s", 0, junk.at_ms, junk.at_ms, 0, [])
        patient = self._plan.patients[0]
        nul = StampedFrame(1, "d1~\x00~0", 1, patient, 1, "\x00", 0, junk.at_ms, junk.at_ms, 0, [])
        key, value = {
            "noise": (record_key(patient), self._chance.randbytes(20)),
            "unknown": (record_key(99), encode(unknown)),
            "nul": (record_key(patient), encode(nul)),
        }[junk.kind]
        partition = partition_of(99 if junk.kind == "unknown" else patient, self._log.partitions)
        record = self._log.append(topics.READINGS, partition, key, value, self._clock.now_ms())
        self.junk.append((partition, record.offset, value))

    def request(self, delivery: Delivery) -> Actor:
        """Begin one request at a door."""
        door = Actor(f"door for d{delivery.device}")
        self.in_flight[door] = delivery
        door.start(self._request(door, delivery))
        return door

    def lost(self, door: Actor) -> None:
        """The door has died, or its answer was lost: the device will send again what has no verdict."""
        delivery = self.in_flight.pop(door, None)
        if delivery is None:
            return
        left = tuple(f for f in delivery.frames if self._identity(delivery, f) not in self.accepted | self.refused)
        if left:
            at = self._clock.now_ms() + 1000
            self._push(replace(delivery, at_ms=at, frames=left, tries=delivery.tries + 1))

    async def _request(self, door: Actor, delivery: Delivery) -> None:
        publisher = SimPublisher(self._log, self._gates, door, self._clock)
        intake = Intake(publisher, self._clock)
        raws: list[msgspec.Raw] = parse.split(array_of([frame.body for frame in delivery.frames]), "msgpack")
        verdicts, stamped = intake.judge(raws, "msgpack", self._plan.devices[delivery.device])
        if self.ack_first:
            self._book(delivery, verdicts)
        try:
            await intake.publish(stamped)
            await self._gates.at(door, "answers")
        except BrokerUnavailable:
            self.lost(door)
            return
        self._book(delivery, verdicts)
        self.in_flight.pop(door, None)

    def _book(self, delivery: Delivery, verdicts: Sequence[object]) -> None:
        for frame, verdict in zip(delivery.frames, verdicts, strict=True):
            book = self.accepted if isinstance(verdict, Accepted) else self.refused
            book[self._identity(delivery, frame)] = frame

    @staticmethod
    def _identity(delivery: Delivery, frame: Sent) -> Identity:
        return delivery.device, frame.session, frame.seq

    def _push(self, one: Due) -> None:
        self._count += 1
        heapq.heappush(self._waiting, (one.at_ms, self._count, one))
