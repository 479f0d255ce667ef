"""Somebody of the care team changes what is watched: the system's own statements, in a transaction of the API's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from psycopg import AsyncConnection

from ingest.clock import Clock, to_datetime
from services.store import changes
from services.store.changes import Wanted
from tests.sim.loop import Actor
from tests.sim.plan import Change
from tests.sim.store import Open, Server
from tests.sim.tables import EventRow, OutboxRow


class Answer:
    """A cursor with at most one row."""

    def __init__(self, row: tuple[Any, ...] | None, *, asked: bool = True) -> None:
        self._row = row
        self.description = ("column",) if asked else None

    async def fetchone(self) -> tuple[Any, ...] | None:
        """Return the row."""
        return self._row


class ApiConnection:
    """Answers the statements of a change; what it writes is seen when the transaction commits."""

    def __init__(self, server: Server, one: Open) -> None:
        self._server, self._one = server, one

    async def execute(self, query: bytes, values: Sequence[Any]) -> Answer:
        """Answer one statement.

        Raises:
            NotImplementedError: a statement this model doesn't know.
        """
        await self._server.gates.at(self._one.actor, "asks for a change")
        words, tables = " ".join(query.decode().split()), self._server.tables
        if words.startswith("SELECT organisation_id FROM patient"):
            return Answer((tables.patients[values[0]],))
        if words.startswith("SELECT coalesce(max(version), 0) FROM patient_change"):
            return Answer((sum(key == tuple(values) for key in tables.changed),))
        if words.startswith("INSERT INTO patient_change"):
            return await self._insert_change((values[1], values[2], values[3]), values[4])
        if words.startswith("INSERT INTO outbox"):
            _, partition, topic, key, record, _ = values
            self._one.outbox.append(OutboxRow(self._server.numbers(1)[0], partition, topic, key, record))
            return Answer(None, asked=False)
        if words.startswith("SELECT pg_notify"):
            return Answer(None)
        msg = f"the simulation does not know this statement: {words[:120]}"
        raise NotImplementedError(msg)

    async def _insert_change(self, key: tuple[int, str, str], version: int) -> Answer:
        """Insert unless the version exists; another's uncommitted row is waited for, as a unique index makes one."""
        server, mine = self._server, self._one
        await server.gates.at(
            mine.actor, "waits its turn", can=lambda: not any(key in o.changed for o in server.open if o is not mine)
        )
        if sum(known == key for known in server.tables.changed) >= version:
            return Answer(None)
        mine.changed.append(key)
        return Answer((server.numbers(1)[0],))


async def acknowledge(server: Server, actor: Actor, clock: Clock, alert_id: UUID) -> None:
    """Acknowledge an alert: its event gets its number before others whose transactions are quicker."""
    one = server.begin(actor, {})
    try:
        row = server.tables.alerts[alert_id]
        (number,) = server.numbers(1)
        await server.gates.at(actor, "acknowledges")
        one.events.append(
            EventRow(number, one.xid, row["patient_id"], alert_id, "acknowledged", row["priority"], False,
                     clock.now_ms(), "")
        )  # fmt: skip
        await server.gates.at(actor, "commits the acknowledgement")
        server.commit(one)
    finally:
        server.give_up(one)


async def make(server: Server, actor: Actor, clock: Clock, change: Change, partitions: int) -> None:
    """Write one change and commit."""
    one = server.begin(actor, {})
    connection = cast(AsyncConnection[Any], ApiConnection(server, one))
    effective, now = to_datetime(change.effective_ms), to_datetime(clock.now_ms())
    try:
        wanted = Wanted(change.patient, *change.about, effective, change.payload, "simulated", 7, now)
        await changes.write_async(connection, wanted, partitions)
        await server.gates.at(actor, "commits the change")
        server.commit(one)
    finally:
        server.give_up(one)
