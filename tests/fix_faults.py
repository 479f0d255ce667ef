"""Means to disturb a whole running system: its processes, a stream into it, and what Kafka and the database hold."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from ingest.catalogue import catalogue
from ingest.client import Credentials, DeviceClient
from ingest.doors import HttpDoors, MqttDoor
from ingest.frame import FRAME_VERSION, Block, Frame, StampedBlock, StampedFrame
from ingest.ledger import Ledger
from services import topics
from services.settings import Settings
from tests.cast import HOUR, OFFSET_MIN, Person, strips
from tests.databases import drop_database
from tests.fix_doors import Doors, Process, is_ready, migrated_settings
from tests.fix_processor import stamped
from tests.fix_stack import LiveStack

T0 = 1_760_054_400_000  # 2025-10-10T00:00:00Z
TEN_YEARS_S = 315_360_000
START_S = 90  # four programs start on two cores, beside whatever else runs there
UNITS = {
    "heart_rate": "/min", "steps": "{steps}", "spo2": "%", "respiratory_rate": "/min", "skin_temperature": "Cel",
    "body_temperature": "Cel", "battery": "%",
}  # fmt: skip


SETTLED_ALERTS = """SELECT p.key, a.rule, a.priority, a.kind, a.state, a.started_at, a.found_at, a.resolved_at, a.late,
                           a.id::text, a.sentence
                    FROM alert a JOIN patient p ON p.id = a.patient_id
                    WHERE a.state <> 'withdrawn' AND NOT a.provisional AND a.revised_by IS NULL AND a.rule <> ALL(%s)
                    ORDER BY 1, 2, 6"""


def frames_of(person: Person, days: int, hours: int = 1, t0: int = T0) -> list[Frame]:
    """A person's story as frames of so many hours in one session, their stamps fixed in advance; an empty one is not sent."""
    spans = [range(first, first + hours) for first in range(0, days * 24, hours)]
    told = [
        (span.stop, blocks) for span in spans if (blocks := [b for hour in span for b in _blocks(person, hour, t0)])
    ]
    return [
        Frame(FRAME_VERSION, "story", seq, t0 + end * HOUR, OFFSET_MIN, blocks)
        for seq, (end, blocks) in enumerate(told)
    ]


def _blocks(person: Person, hour: int, t0: int) -> list[Block]:
    return [
        Block(
            s.metric, UNITS[s.metric], s.t0_ms, s.step_ms * 1000 if len(s.values) > 1 else 0, "f4",
            s.values.astype("<f4").tobytes(), quality=s.quality,
        )
        for s in strips(person, t0, hour)
    ]  # fmt: skip


def stamped_story(patient: int, person: Person, days: int) -> list[StampedFrame]:
    """The same as the gateway would put it on Kafka for a patient by number, received as each hour ends."""
    made: list[StampedFrame] = []
    for hour in range(days * 24):
        blocks = [
            StampedBlock(
                catalogue()[s.metric].id, s.t0_ms, s.step_ms * 1000 if len(s.values) > 1 else 0, "f4",
                s.values.astype("<f4").tobytes(), quality=s.quality,
            )
            for s in strips(person, T0, hour)
        ]  # fmt: skip
        if blocks:
            made.append(stamped(patient, len(made), blocks, received_ms=T0 + (hour + 1) * HOUR))
    return made


class System:
    """Gateway, bridge and processor on a database and topics of their own; the test is their supervisor.

    ``through`` changes what the processes are told, e.g. the servers' addresses to those of proxies.
    """

    def __init__(
        self,
        stack: LiveStack,
        base: Settings,
        folder: Path,
        name: str,
        through: Callable[[Settings], Settings] | None = None,
        max_records: int = 100,
    ) -> None:
        # Silence is judged by the wall clock, the only input two runs cannot share: it is put out of reach. And
        # the stories are of last year: told as if live.
        patient = base.processor.model_copy(
            update={"silence_s": TEN_YEARS_S, "history_after_s": TEN_YEARS_S, "max_records": max_records}
        )
        self.settings: Settings = base.model_copy(update={"processor": patient})
        self.told = through(self.settings) if through else self.settings
        self.doors = Doors(stack, self.settings)
        self.restarts = 0
        self._folder = folder
        self.gateway = Process(self.told, ["gateway"], folder / f"{name}-gateway.log")
        self.bridge = Process(self.told, ["bridge"], folder / f"{name}-bridge.log")
        # static membership: a quick restart keeps its partitions, no session time-out has to pass
        self.processor = Process(
            self.told, ["processor", "--instance-id", f"{name}-1"], folder / f"{name}-processor.log"
        )

    def __enter__(self) -> Self:
        for process in (self.gateway, self.bridge, self.processor):
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self.gateway, self.bridge, self.processor):
            if process.alive():
                process.kill()

    def another(self, name: str, *, fixed: bool = True) -> Process:
        """One more processor, not running yet; a ``fixed`` member keeps its partitions through a quick restart."""
        words = ["processor", "--instance-id", name] if fixed else ["processor"]
        return Process(self.told, words, self._folder / f"{name}.log")

    @property
    def url(self) -> str:
        """The gateway's address."""
        return f"https://127.0.0.1:{self.settings.gateway.port}"

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows as the schema's owner sees them; a server that is just coming back is waited for."""
        until = time.monotonic() + 20
        while True:
            try:
                with psycopg.connect(self.settings.postgres.conninfo("admin")) as connection:
                    return connection.execute(statement.encode(), values or None).fetchall()
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def stored_positions(self, topic: str = topics.READINGS) -> dict[int, int]:
        """Partition of a topic → next offset in the database."""
        rows = self.query("SELECT partition, next_offset FROM partition_position WHERE topic = %s", topic)
        return {int(partition): int(offset) for partition, offset in rows}

    def take_partitions(self) -> None:
        """Raise every epoch in the database, as a new owner of the partitions does."""
        with psycopg.connect(self.settings.postgres.conninfo("admin")) as connection:
            connection.execute("UPDATE partition_position SET epoch = epoch + 1")

    async def ends(self, topic: str = topics.READINGS) -> dict[int, int]:
        """Partition of a topic → where the log ends."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.settings.kafka.bootstrap, group_id=None)
        await consumer.start()
        try:
            found = await consumer.end_offsets(self.places(topic))
        finally:
            await consumer.stop()
        return {place.partition: int(end) for place, end in found.items()}

    def places(self, topic: str = topics.READINGS) -> list[TopicPartition]:
        """The partitions of a topic."""
        name = topics.named(topic, self.settings.kafka)
        return [TopicPartition(name, number) for number in range(self.settings.kafka.partitions)]

    async def caught_up(self) -> bool:
        """Whether all readings, live and history, are in the database."""
        for topic in (topics.READINGS, topics.BACKFILL):
            stored = self.stored_positions(topic)
            if any(stored.get(partition, 0) < end for partition, end in (await self.ends(topic)).items()):
                return False
        return True

    async def ready(self) -> None:
        """Wait until the doors are open and the processor has its partitions."""
        await eventually(lambda: is_ready(self.url, self.settings), "the gateway's readiness", START_S)
        await eventually(lambda: "carrying" in self.bridge.log.read_text(), "the bridge's start", START_S)
        await eventually(
            lambda: len(self.stored_positions()) == self.settings.kafka.partitions,
            "the processor's assignment",
            START_S,
        )

    async def drained(self, timeout_s: float = 60, *, by: Process | None = None) -> None:
        """Wait until the processor (or the one given) has caught up, bringing it back if it stopped loudly."""
        until = time.monotonic() + timeout_s
        process = by or self.processor
        while not await self.caught_up():
            if not process.alive():
                self.restarts += 1
                process.start()
            assert time.monotonic() < until, f"not drained: {self.stored_positions()} of {await self.ends()}"
            await asyncio.sleep(0.1)


class Group:
    """What Kafka's own book says of a group."""

    def __init__(self, system: System) -> None:
        self._settings = system.settings.kafka
        self._places = system.places()
        self._admin = AIOKafkaAdminClient(bootstrap_servers=self._settings.bootstrap, request_timeout_ms=5000)

    async def __aenter__(self) -> Self:
        await self._admin.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._admin.close()

    async def committed(self) -> dict[int, int]:
        """Partition of ``readings.v1`` → committed offset, 0 where none is."""
        found = await self._admin.list_consumer_group_offsets(topics.named("processor", self._settings))
        return {place.partition: max(found[place].offset, 0) if place in found else 0 for place in self._places}

    async def members(self) -> int:
        """How many processors share the partitions, 0 while they are being given out."""
        (answer,) = await self._admin.describe_consumer_groups([topics.named("processor", self._settings)])
        (group,) = answer.to_object()["groups"]
        return len(group["members"]) if group["state"] == "Stable" else 0


@dataclass
class Stream:
    """Devices that send their frames in order, each part only once it is released, until all is accepted."""

    system: System
    frames: dict[str, list[Frame]]
    over_mqtt: set[str]
    book: Path
    parts: int
    chunk: int = 8
    patients: dict[str, str] = field(
        default_factory=dict
    )  # whose device it is, where the frames' key is not the patient's
    url: str = ""  # where the gateway is reached, when not directly
    mqtt_port: int = 0
    accepted_at: dict[str, list[float]] = field(default_factory=dict)  # monotonic, frame by frame
    _credentials: list[Credentials] = field(default_factory=list)
    _done: dict[str, int] = field(default_factory=dict)
    _released: int = 0
    _more: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __aenter__(self) -> Self:
        pairs = [(self.patients.get(key, key), f"{key}-watch") for key in self.frames]
        self._credentials = self.system.doors.enrol(*pairs, since_days=20_000)
        self._stack = AsyncExitStack()
        self._ledger = self._stack.enter_context(Ledger(self.book))
        self._https = await self._stack.enter_async_context(
            HttpDoors(self.url or self.system.url, self.system.settings.tls.ca_file)
        )
        self._tasks = [
            asyncio.create_task(self._send(key, credentials))
            for key, credentials in zip(self.frames, self._credentials, strict=True)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    async def release(self) -> None:
        """Let every device send its next part."""
        async with self._more:
            self._released += 1
            self._more.notify_all()

    async def all_released(self) -> None:
        """Let every device send the rest and wait until all of it is accepted."""
        while self._released < self.parts:
            await self.release()
        async with asyncio.timeout(90):
            await asyncio.gather(*self._tasks)

    @property
    def released(self) -> int:
        """Parts released so far."""
        return self._released

    @property
    def on_their_way(self) -> int:
        """Frames released and not accepted yet."""
        bounds = (len(frames) * min(self._released, self.parts) // self.parts for frames in self.frames.values())
        return sum(bounds) - self.accepted

    @property
    def accepted(self) -> int:
        """Frames accepted so far."""
        return sum(self._done.values())

    def counts(self) -> dict[str, int]:
        """Frames by their state in the devices' book."""
        return self._ledger.counts()

    async def _send(self, key: str, credentials: Credentials) -> None:
        async with AsyncExitStack() as stack:
            door: Any = self._https.door(credentials)
            if key in self.over_mqtt:
                mqtt = self.system.settings.mqtt
                port = self.mqtt_port or mqtt.port
                door = await stack.enter_async_context(MqttDoor(mqtt.host, port, credentials, mqtt.ca_file))
            client = DeviceClient(credentials.device, door, self._ledger, "story", give_up_after_s=120)
            frames = self.frames[key]
            for part in range(self.parts):
                async with self._more:
                    await self._more.wait_for(lambda part=part: self._released > part)  # type: ignore[misc]
                stop = len(frames) * (part + 1) // self.parts
                while (start := self._done.get(key, 0)) < stop:
                    verdicts = await client.send(frames[start : min(stop, start + self.chunk)])
                    self._done[key] = start + len(verdicts)
                    self.accepted_at.setdefault(key, []).extend([time.monotonic()] * len(verdicts))


def pause(pid: int) -> None:
    """Freeze a process."""
    os.kill(pid, signal.SIGSTOP)


def wake(pid: int) -> None:
    """Let a frozen process go on."""
    os.kill(pid, signal.SIGCONT)


async def ended(process: Process, timeout_s: float) -> int:
    """Wait for the end of a process and return its exit code."""
    await eventually(lambda: not process.alive(), "the end of the process", timeout_s)
    assert process._running is not None
    return int(process._running.returncode)


@asynccontextmanager
async def held_in_a_transaction(system: System, stream: Stream, processors: int = 1) -> AsyncIterator[None]:
    """Hold so many processors at work on a batch: inside the block they wait for a lock, half of it written.

    The stream's next part gives them work.
    """
    waiting = """SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
                 AND application_name = 'keepwell-writer'"""
    async with await psycopg.AsyncConnection.connect(system.settings.postgres.conninfo("admin")) as holder:
        await holder.execute("LOCK TABLE frame_log IN EXCLUSIVE MODE")
        await stream.release()
        await eventually(lambda: len(system.query(waiting)) == processors, "a batch being written")
        yield
        await holder.rollback()
    await eventually(lambda: not system.query(waiting), "the end of the wait")


async def eventually(check: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
    """Poll ``check`` until it holds, while other tasks go on."""
    until = time.monotonic() + timeout_s
    while not await asyncio.to_thread(check):
        assert time.monotonic() < until, f"{what} did not happen within {timeout_s:g} s"
        await asyncio.sleep(0.05)


def behind(committed: dict[int, int], stored: dict[int, int]) -> dict[int, tuple[int, int]]:
    """The partitions whose effects are committed while Kafka's book is behind: (committed, stored) offsets."""
    return {p: (committed[p], stored[p]) for p in stored if committed[p] < stored[p]}


def alerts(system: System, leave_out: Sequence[str] = ()) -> list[tuple[Any, ...]]:
    """Every settled alert that stands, with the patient's key in place of the number."""
    return system.query(SETTLED_ALERTS, list(leave_out))


@pytest.fixture
def calm(stack: LiveStack, tmp_path: Path) -> Iterator[System]:
    """A system of its own that nobody disturbs, not running yet."""
    yield from _system(stack, tmp_path, "calm")


@pytest.fixture
def faulty(stack: LiveStack, tmp_path: Path) -> Iterator[System]:
    """A system of its own to be disturbed, not running yet."""
    yield from _system(stack, tmp_path, "faulty")


def _system(stack: LiveStack, folder: Path, name: str) -> Iterator[System]:
    system = System(stack, migrated_settings(stack), folder, name)
    yield system
    drop_database(system.settings)
