"""The processor's one connection: fenced transactions, made again when it was lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

import psycopg
import structlog
from numpy import int32
from numpy.typing import NDArray

from ingest.clock import to_datetime
from services.processor.hot import HotRow
from services.processor.records import Effects
from services.store import fence, writer
from services.store.reader import Reader

# Bounds on what a frozen writer can hold up, and on what a frozen server can: a batch takes well under a second.
# PostgreSQL holds to none of them while it waits for the rows of a COPY: who is frozen there keeps the fence and all
# its locks for as long as its machine answers. So whoever connects anew, as everybody does who waited for such a lock
# in vain, ends the writers' sessions that have waited for their client so long.
LIMITS: Final = (
    "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '30s'; SET statement_timeout = '50s'"
)

FROZEN_S: Final = 30.0
END_FROZEN: Final = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()
      AND state = 'active' AND wait_event = 'ClientRead' AND query LIKE 'COPY stage_%%'
      AND query_start < clock_timestamp() - make_interval(secs => %s)"""

log = structlog.get_logger("keepwell.store")


class Transaction(Reader):
    """What one transaction can read and write; it commits when its block ends, or not at all."""

    async def write(self, effects: Effects, hot: list[HotRow], patient_of: NDArray[int32]) -> None:
        """Write a batch's effects, positions included."""
        await writer.write(self._connection, effects, hot, patient_of)


class Session:
    """The database as the processor's worker needs it."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: psycopg.AsyncConnection | None = None
        self._aside: psycopg.AsyncConnection | None = None

    async def connect(self) -> bool:
        """Connect where there is no connection, ending writers frozen inside a COPY; return whether it is a new one.

        Raises:
            psycopg.OperationalError: the database can't be reached.
        """
        if self._connection is not None and not self._connection.closed:
            return False
        self._connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
        await self._connection.execute(LIMITS)
        ended = await self._connection.execute(END_FROZEN, [FROZEN_S])
        if ended.rowcount:
            log.warning("frozen_writers_ended", sessions=ended.rowcount, longer_than_s=FROZEN_S)
        return True

    async def take_over(
        self, partitions: Iterable[tuple[str, int]], owner: str, at_ms: int
    ) -> dict[tuple[str, int], tuple[int, int]]:
        """Raise the epoch of each (topic, partition); return (next offset, epoch) of each."""
        return await fence.take_over(self._live(), partitions, owner, to_datetime(at_ms))

    async def positions(self) -> dict[tuple[str, int], int]:
        """Return the next offset of every (topic, partition) that anybody ever owned."""
        cursor = await self._live().execute("SELECT topic, partition, next_offset FROM partition_position")
        return {(topic, partition): offset for topic, partition, offset in await cursor.fetchall()}

    @asynccontextmanager
    async def transaction(self, epochs: dict[tuple[str, int], int]) -> AsyncIterator[Transaction]:
        """Open a transaction that holds the fence.

        Raises:
            FencedError: one of the partitions has a newer owner.
        """
        connection = self._live()
        async with connection.transaction():
            await fence.check(connection, epochs)
            yield Transaction(connection)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Reader]:
        """Open a transaction that only reads, on a second connection: no batch waits for it.

        Raises:
            psycopg.OperationalError: the database can't be reached.
        """
        if self._aside is None or self._aside.closed:
            self._aside = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
            await self._aside.execute(LIMITS)
        async with self._aside.transaction():
            yield Reader(self._aside)

    async def close(self) -> None:
        """Drop the connections; what was not committed has not happened."""
        connections = (self._connection, self._aside)
        self._connection = self._aside = None
        for connection in connections:
            if connection is not None:
                await connection.close()

    def _live(self) -> psycopg.AsyncConnection:
        if self._connection is None:
            msg = "the connection was dropped"
            raise psycopg.OperationalError(msg)
        return self._connection
