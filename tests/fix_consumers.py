"""Traffic for the contract every consumer keeps, and a witness of what each made true, in which order, as whose owner.

Three consumers run in each processor: ``live`` (the group's loop), ``history`` (the second consumer, which follows it)
and ``filing`` (the Faust agent); ``control`` shares the live loop. The witness is a trigger in the database: it writes
down each effect with the epoch and the connection it was written under, and changes nothing.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from ingest.frame import encode
from ingest.partition import partition_of, record_key
from services import control, topics
from services.settings import Settings
from tests.databases import drop_database
from tests.fix_doors import Process, migrated_settings
from tests.fix_faults import TEN_YEARS_S, eventually
from tests.fix_processor import MINUTE, T0, block, stamped
from tests.fix_stack import LiveStack

KEYS: Final = tuple(range(1, 9))  # patients; the agent's keys are the same numbers
TOPIC_OF: Final = {
    "live": topics.READINGS, "history": topics.BACKFILL, "filing": topics.DEAD, "control": topics.CONTROL,
}  # fmt: skip
KINDS: Final = tuple(TOPIC_OF)

WITNESS: Final = """
    CREATE TABLE witness (id bigint GENERATED ALWAYS AS IDENTITY, kind text, key int, n int, epoch bigint, pid int);
    CREATE TABLE place (key int PRIMARY KEY, partition int);
    CREATE FUNCTION saw() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
    DECLARE what text; k int; number int; t text;
    BEGIN
        IF TG_TABLE_NAME = 'frame_log' THEN
            what := split_part(NEW.frame_id, '~', 2); k := NEW.patient_id; number := split_part(NEW.frame_id, '~', 3)::int;
        ELSIF TG_TABLE_NAME = 'control_event' THEN
            what := 'control'; k := NEW.patient_id; number := NEW.change_id % 100000;
        ELSIF NEW.reason <> 'counted' THEN RETURN NULL;
        ELSE
            what := 'filing'; k := convert_from(NEW.record_key, 'utf8')::int; number := convert_from(NEW.record, 'utf8')::int;
        END IF;
        t := CASE what WHEN 'live' THEN 'readings.v1' WHEN 'history' THEN 'backfill.v1' WHEN 'control' THEN 'control.v1' END;
        INSERT INTO witness (kind, key, n, epoch, pid)
        SELECT what, k, number, (SELECT epoch FROM partition_position p WHERE p.topic = t
                                 AND p.partition = (SELECT q.partition FROM place q WHERE q.key = k)), pg_backend_pid();
        RETURN NULL;
    END $$;
    CREATE TRIGGER saw AFTER INSERT OR UPDATE ON frame_log FOR EACH ROW EXECUTE FUNCTION saw();
    CREATE TRIGGER saw AFTER INSERT ON control_event FOR EACH ROW EXECUTE FUNCTION saw();
    CREATE TRIGGER saw AFTER INSERT ON dead_letter FOR EACH ROW EXECUTE FUNCTION saw();
    INSERT INTO organisation (key, name) VALUES ('o', 'One');
    INSERT INTO patient (organisation_id, key, name, enrolled_at)
        SELECT 1, 'p' || i, 'P' || i, '2025-01-01Z' FROM generate_series(1, 8) i;
    INSERT INTO device (organisation_id, key, created_at) SELECT 1, 'd' || i, '2025-01-01Z' FROM generate_series(1, 8) i;
"""


@dataclass
class Traffic:
    """A system of a few partitions, what was put on its topics, and what came of it."""

    settings: Settings
    folder: Path
    sent: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    running: list[Process] = field(default_factory=list)

    @property
    def partitions(self) -> int:
        """How many partitions each topic has."""
        return self.settings.kafka.partitions

    def prepare(self) -> None:
        """Set up the witness, the patients and where each lives."""
        with psycopg.connect(self.settings.postgres.conninfo("admin")) as admin:
            admin.execute(WITNESS.encode())
            for key in KEYS:
                admin.execute("INSERT INTO place VALUES (%s, %s)", [key, partition_of(key, self.partitions)])

    def processor(self, name: str = "", *, start: bool = True) -> Process:
        """One more processor; one with a name is a static member."""
        words = ["processor", "--instance-id", name] if name else ["processor"]
        process = Process(self.settings, words, self.folder / f"{name or len(self.running)}.log")
        self.running.append(process)
        if start:
            process.start()
        return process

    def stop_all(self) -> None:
        """End every processor, also a frozen one."""
        for process in self.running:
            if process.alive():
                os.kill(process.pid, signal.SIGCONT)
                process.kill()

    # -- what goes in ----------------------------------------------------------------------------------------

    async def send(self, each: int, kinds: tuple[str, ...] = KINDS, *, spread_s: float = 0) -> None:
        """Append the next ``each`` records of every key and kind, in order of each key."""
        producer = AIOKafkaProducer(bootstrap_servers=self.settings.kafka.bootstrap, acks="all")
        await producer.start()
        try:
            for _ in range(each):
                sends = []
                for kind in kinds:
                    for key in KEYS:
                        n = self.sent[kind, key]
                        self.sent[kind, key] = n + 1
                        sends.append(await self._append(producer, kind, record_key(key), _record(kind, key, n), key))
                await asyncio.gather(*sends)
                await asyncio.sleep(spread_s / each)
        finally:
            await producer.stop()

    async def junk(self, kinds: tuple[str, ...]) -> None:
        """Append one record a partition that nobody can read."""
        producer = AIOKafkaProducer(bootstrap_servers=self.settings.kafka.bootstrap, acks="all")
        await producer.start()
        try:
            for kind in kinds:
                for key in KEYS:
                    await (await self._append(producer, kind, record_key(key), b"\xc1 junk", key))
        finally:
            await producer.stop()

    async def _append(self, producer: AIOKafkaProducer, kind: str, key: bytes, value: bytes, number: int) -> Any:
        topic = topics.named(TOPIC_OF[kind], self.settings.kafka)
        return await producer.send(topic, value, key=key, partition=partition_of(number, self.partitions))

    # -- what came of it -------------------------------------------------------------------------------------

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows as the schema's owner sees them."""
        with psycopg.connect(self.settings.postgres.conninfo("admin")) as admin:
            return admin.execute(statement.encode(), values or None).fetchall()

    async def all_taken(self, timeout_s: float = 120) -> None:
        """Wait until each record has had an effect."""
        wanted = sum(self.sent.values())
        count = "SELECT count(DISTINCT (kind, key, n)) FROM witness"
        try:
            await eventually(lambda: self.query(count)[0][0] >= wanted, "all effects", timeout_s)
        except AssertionError as error:
            raise AssertionError(
                [str(error), *self.problems(), *[one.log.read_text()[-800:] for one in self.running]]
            ) from error

    def problems(self) -> list[str]:
        """What is wrong: lost, twice, out of order, or written by two owners of one epoch."""
        seen: dict[tuple[str, int], list[int]] = defaultdict(list)
        writers: dict[tuple[str, int, int], set[int]] = defaultdict(set)
        last: dict[tuple[str, int], int] = {}
        wrong = []
        place = {key: partition_of(key, self.partitions) for key in KEYS}
        for kind, key, n, epoch, pid in self.query("SELECT kind, key, n, epoch, pid FROM witness ORDER BY id"):
            seen[kind, key].append(n)
            if kind != "filing":
                where = kind, place[key]
                writers[*where, epoch].add(pid)
                if epoch < last.get(where, 0):
                    wrong.append(f"{kind} {key}: {n} written under epoch {epoch} after {last[where]}")
                last[where] = epoch
        for (kind, key), count in self.sent.items():
            if seen[kind, key] != list(range(count)):
                wrong.append(f"{kind} {key}: {_amiss(seen[kind, key], count)}")
        wrong += [f"{where}: two writers {pids}" for where, pids in writers.items() if len(pids) > 1]
        return wrong

    def epochs(self) -> dict[tuple[str, int], list[tuple[int, str]]]:
        """Place → (epoch, owner) in the order they were raised."""
        found: dict[tuple[str, int], list[tuple[int, str]]] = defaultdict(list)
        rows = self.query("SELECT topic, partition, epoch, owner FROM partition_owner_log ORDER BY 1, 2, 3")
        for topic, partition, epoch, owner in rows:
            found[topic, partition].append((epoch, owner))
        return dict(found)

    def owners(self) -> dict[int, str]:
        """Partition of ``readings.v1`` → its owner now."""
        return {place[1]: owners[-1][1] for place, owners in self.epochs().items() if place[0] == topics.READINGS}

    def positions(self, topic: str) -> dict[int, int]:
        """Partition → next offset in the database."""
        return dict(self.query("SELECT partition, next_offset FROM partition_position WHERE topic = %s", topic))

    async def owned_by(self, processors: int, timeout_s: float) -> None:
        """Wait until each partition has an owner, so many of them together."""

        def owned() -> bool:
            now = self.owners()
            return len(now) == self.partitions and len(set(now.values())) == processors

        await eventually(owned, f"{processors} owners", timeout_s)

    async def filed_by(self, processors: int, timeout_s: float) -> None:
        """Wait until so many agents share ``dead.v1`` and their group is at rest."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.kafka.bootstrap)
        await admin.start()
        try:
            async with asyncio.timeout(timeout_s):
                while await self._filing_group(admin) != ("Stable", processors):
                    await asyncio.sleep(0.2)
        finally:
            await admin.close()

    async def _filing_group(self, admin: AIOKafkaAdminClient) -> tuple[str, int]:
        [answer] = await admin.describe_consumer_groups([topics.named("agents", self.settings.kafka)])
        group = answer.to_object()["groups"][0]
        return group["state"], len(group["members"])

    @contextmanager
    def locked(self, *tables: str) -> Iterator[None]:
        """Hold whoever writes to these tables."""
        with psycopg.connect(self.settings.postgres.conninfo("admin")) as holder:
            holder.execute("SET idle_in_transaction_session_timeout = 0")
            for table in tables:
                holder.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE".encode())
            yield
            holder.rollback()

    def waiting(self) -> int:
        """How many of the processors' connections wait for a lock."""
        return int(
            self.query(
                """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND wait_event_type = 'Lock' AND application_name = 'keepwell-writer'"""
            )[0][0]
        )


def _record(kind: str, key: int, n: int) -> bytes:
    if kind == "filing":
        record = base64.b64encode(str(n).encode()).decode()
        return json.dumps({"reason": "counted", "record": record, "key": str(key)}).encode()
    if kind == "control":
        payload = {"state": "active", "until_ms": None}
        return control.encode(
            control.ControlMessage(key * 100_000 + n, 1, key, "monitoring", "", n + 1, T0 + n * MINUTE, payload)
        )
    start = T0 + n * MINUTE + (MINUTE // 2 if kind == "history" else 0)
    frame = stamped(
        key, n, [block("heart_rate", start, [60 + n % 7])], session=kind, received_ms=T0 + 86_400_000 + n * MINUTE
    )
    return encode(frame)


def _amiss(seen: list[int], count: int) -> str:
    lost = sorted(set(range(count)) - set(seen))
    twice = sorted({n for n in seen if seen.count(n) > 1})
    order = [n for before, n in zip(seen, seen[1:], strict=False) if n <= before]
    return f"lost {lost[:5]} of {count}, twice {twice[:5]}, out of order {order[:5]}"


@pytest.fixture
def partitions() -> int:
    """How many partitions each topic has; a test may choose."""
    return 4


@pytest.fixture
def traffic(stack: LiveStack, tmp_path: Path, partitions: int) -> Iterator[Traffic]:
    """A system of its own; no processor runs yet."""
    base = stack.settings
    few = base.model_copy(
        update={
            "kafka": base.kafka.model_copy(update={"partitions": partitions}),
            "processor": base.processor.model_copy(
                update={"silence_s": TEN_YEARS_S, "history_after_s": TEN_YEARS_S, "max_records": 50}
            ),
        }
    )
    settings = migrated_settings(LiveStack(stack.home, few, stack.local))
    made = Traffic(settings, tmp_path)
    made.prepare()
    try:
        yield made
    finally:
        made.stop_all()
        drop_database(settings)
