"""The sealer: each second it has the database seal the audit's new rows into the chain.

It runs in every API process; the database lets one at a time seal (an advisory lock) and tells the others how the chain
stands. It chooses nothing: the function takes no data. On a connection of its own, so that a pool full of requests does
not hold it up; when the database is away it tries again a second later, for ever, and the lag grows in the metrics.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import psycopg
import structlog

from services import metrics
from services.store import checkpoints
from services.store.checkpoints import Checkpoint

EVERY_S: Final = 1.0
MOST: Final = 2000  # rows of one block
ROUNDS: Final = 25  # blocks without a pause
CHECKPOINT_S: Final = 3600.0
_SEAL: Final = "SELECT sealed, waited_s, chain, newest, sealed_at, total, hash FROM seal_audit(%s)"

log = structlog.get_logger("keepwell.api.sealer")


class Sealer:
    """Seals, and writes a checkpoint each hour; made once for each app."""

    def __init__(self, conninfo: str, file: Path) -> None:
        self._conninfo, self._file = conninfo, file
        self._task: asyncio.Task[None] | None = None
        self._waited_s, self._looked = 0.0, time.monotonic()
        self._checkpointed: float | None = None
        self._newest: Checkpoint | None = None

    async def start(self) -> None:
        """Begin to seal."""
        self._task = asyncio.create_task(self._run(), name="sealer")

    async def stop(self) -> None:
        """Stop; what is not sealed waits for the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def lag_s(self) -> float:
        """How long the oldest row had waited when last looked at; where nothing could be looked at, longer."""
        since = time.monotonic() - self._looked
        return self._waited_s + (since if since > 5 * EVERY_S else 0.0)

    async def _run(self) -> None:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True) as connection:
                    await connection.execute("SET statement_timeout = '30s'")
                    while True:
                        await self.seal(connection)
                        await self._checkpoint()
                        await asyncio.sleep(EVERY_S)
            except (psycopg.Error, OSError) as error:
                log.warning("not_sealed", error=str(error).strip())
            await asyncio.sleep(EVERY_S)

    async def seal(self, connection: psycopg.AsyncConnection) -> None:
        """Seal what there is, a bounded number of blocks."""
        longest = 0.0
        for _ in range(ROUNDS):
            row = await (await connection.execute(_SEAL, [MOST])).fetchone()
            assert row is not None  # noqa: S101 - the function returns one row
            sealed, waited_s, chain, newest, sealed_at, total, head = row
            self._newest = Checkpoint(chain, newest, head, total, sealed_at)
            longest = max(longest, waited_s)
            metrics.AUDIT_SEALED.inc(sealed)
            if sealed < MOST:
                break
        self._waited_s, self._looked = longest, time.monotonic()

    async def _checkpoint(self) -> None:
        """Write down where the chain stands, at the start and then each hour; a full disk stops no sealing."""
        due = self._checkpointed is None or time.monotonic() - self._checkpointed >= CHECKPOINT_S
        if not due or self._newest is None or self._newest.number == 0:
            return
        try:
            await asyncio.to_thread(checkpoints.append, self._file, self._newest)
        except OSError as error:
            metrics.AUDIT_CHECKPOINT_FAILURES.inc()
            log.warning("no_checkpoint", error=str(error))
        self._checkpointed = time.monotonic()
