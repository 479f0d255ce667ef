"""What leaves the database: the outbox relay into the log, and the stream's reader of alert events.

Both run the system's own code (`OutboxRelay._send_some`, `services.api.events.after`) on a connection that answers
the statements they send, clause by clause: what a statement no longer asks for, it no longer gets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any, Final, cast

from aiokafka import AIOKafkaProducer
from psycopg import AsyncConnection

from ingest.clock import Clock, to_datetime
from ingest.partition import partition_of
from services.api import events
from services.api.events import Cursor
from services.processor.relay import OutboxRelay
from services.processor.worker import Worker
from services.settings import Settings
from tests.sim.kafka import Log
from tests.sim.loop import Actor, Gates
from tests.sim.store import Server
from tests.sim.tables import OutboxRow

ORDERED: Final = "ORDER BY id"
SAFE: Final = "stream_horizon()"


class Answer:
    """A cursor with its rows."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    async def fetchall(self) -> list[Any]:
        """Return the rows."""
        return self._rows


class Connection:
    """Answers the statements of the relay and of the stream."""

    def __init__(self, server: Server, actor: Actor, chance: Random) -> None:
        self._server, self._actor, self._chance = server, actor, chance

    def cursor(self, **_: object) -> Connection:
        """Return itself: rows are made as they are asked for."""
        return self

    async def execute(self, query: str, values: Sequence[Any] = (), *, prepare: bool | None = None) -> Answer:
        """Answer one statement; there is no plan to ``prepare``.

        Raises:
            NotImplementedError: a statement this model doesn't know.
        """
        await self._server.gates.at(self._actor, "asks the database")
        words = " ".join(query.split())
        if words.startswith("SELECT id, topic, record_key, record FROM outbox"):
            return Answer([(row.id, row.topic, row.key, row.value) for row in self._unsent(words, *values)])
        if words.startswith(("DELETE FROM outbox WHERE id = ANY(%s) AND is_deceased(", "SELECT deceased_among(")):
            return Answer([])  # nobody dies in the simulation
        if words.startswith("UPDATE outbox SET sent_at"):
            done = set(values[1])
            for row in self._server.tables.outbox:
                row.sent = row.sent or row.id in done
            return Answer([])
        if "FROM alert_events_for(" in words:
            return Answer(self._events(words, *values))
        msg = f"the simulation does not know this statement: {words[:120]}"
        raise NotImplementedError(msg)

    def _unsent(self, words: str, partitions: list[int], limit: int) -> list[OutboxRow]:
        rows = [row for row in self._server.tables.outbox if not row.sent and row.partition in partitions]
        if ORDERED in words:
            rows.sort(key=lambda row: row.id)
        else:
            self._chance.shuffle(rows)
        return rows[:limit]

    def _events(self, words: str, persons: list[int], xid: str, after: int, limit: int) -> list[dict[str, Any]]:
        tables = self._server.tables
        below = self._server.xmin if SAFE in words else self._server.next_xid
        found = [row for row in tables.events if (row.xid, row.id) > (int(xid), after) and row.xid < below]
        return [
            {
                "xid": str(row.xid), "id": row.id, "patient_id": row.patient_id, "alert_id": row.alert_id,
                "change": row.change, "priority": row.priority, "late": row.late, "at": to_datetime(row.at_ms),
                "sentence": row.sentence, "rule": "", "kind": "clinical", "provisional": False, "patient_key": "",
                "seen_by": persons,
            }
            for row in sorted(found, key=lambda row: (row.xid, row.id))[:limit]
        ]  # fmt: skip


class Producer:
    """Appends what the relay sends."""

    def __init__(self, log: Log, gates: Gates, actor: Actor, clock: Clock) -> None:
        self._log, self._gates, self._actor, self._clock = log, gates, actor, clock

    async def send(self, topic: str, value: bytes, key: bytes | None) -> asyncio.Future[None]:
        """Append one record; the process may die before and after."""
        await self._gates.at(self._actor, "relays")
        partition = 0 if key is None else partition_of(int(key), self._log.partitions)
        self._log.append(topic, partition, key, value, self._clock.now_ms())
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


async def relay(
    settings: Settings, clock: Clock, worker: Worker, server: Server, log: Log, actor: Actor, chance: Random
) -> None:
    """Relay for ever what the worker's partitions leave in the outbox."""
    outbox = OutboxRelay(settings, clock, worker)
    connection = cast(AsyncConnection, Connection(server, actor, chance))
    producer = cast(AIOKafkaProducer, Producer(log, server.gates, actor, clock))

    def waiting() -> bool:
        return any(not row.sent and row.partition in worker.partitions for row in server.tables.outbox)

    while True:
        await server.gates.at(actor, "looks into the outbox", busy=waiting)
        await outbox._send_some(connection, producer)


class Stream(Actor):
    """One open stream of alert events, from the first one on."""

    def __init__(self, server: Server, chance: Random) -> None:
        super().__init__("reader")
        self._server = server
        self._connection = cast(AsyncConnection[Any], Connection(server, self, chance))
        self.seen: list[int] = []
        self._at = Cursor(0, 0)

    async def run(self) -> None:
        """Read for ever."""
        while True:
            await self._server.gates.at(self, "polls", busy=self._behind)
            for event in await events.after(self._connection, self._at, [1]):
                self.seen.append(event.cursor.id)
                self._at = event.cursor

    def _behind(self) -> bool:
        last = max(((row.xid, row.id) for row in self._server.tables.events), default=(0, 0))
        return last > self._at and last[0] < self._server.xmin
