"""An export on its way to whoever asked: read in a snapshot of its own, sent in pieces, and nothing left open after."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

import anyio
import structlog
from starlette.responses import StreamingResponse
from starlette.types import Send

from services.api import withheld
from services.api.access import Access
from services.api.export import bundle, tables
from services.api.export.source import Source
from services.api.patients import Patient, opened
from services.api.problems import Code, Problem, invalid
from services.api.scope import Scope

AT_ONCE: Final = 2  # exports of one process: each holds a connection of the pool while it lasts
AHEAD: Final = 2  # pieces made before the client has taken them
STALLED_S: Final = 60.0  # a client that takes nothing for so long is given up
LONGEST_S: Final = 900.0  # and so is one that takes it piece by piece for ever: rights are judged at the beginning
LIMITS: Final = "SET LOCAL statement_timeout = '60s'; SET LOCAL idle_in_transaction_session_timeout = '90s'"

log = structlog.get_logger("keepwell.api.export")


class Format(NamedTuple):
    """A way to write an export."""

    write: Callable[[Source], AsyncGenerator[bytes, None]]
    media_type: str
    suffix: str


FORMATS: Final[Mapping[str, Format]] = {
    "fhir": Format(bundle.collection, "application/fhir+json", "fhir.json"),
    "csv": Format(tables.archive, "application/zip", "zip"),
}


def known(name: str) -> Format:
    """Return a format by its name.

    Raises:
        Problem: there is none.
    """
    if name not in FORMATS:
        raise invalid(name[:80], "format", " or ".join(FORMATS))
    return FORMATS[name]


class Exports:
    """The exports of one process, so many at once."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._slots = asyncio.Semaphore(AT_ONCE)

    def check(self) -> None:
        """Let one more begin.

        Raises:
            Problem: as many as may are under way.
        """
        if self._slots.locked():
            detail = f"{AT_ONCE} exports are under way; try again in a minute"
            raise Problem(Code.TOO_MANY_STREAMS, detail, retry_after_s=60)

    async def pieces(self, scope: Scope, patient: Patient, how: Format, now: datetime) -> AsyncGenerator[bytes, None]:
        """Return an export in pieces. It is made by a task of its own, so that a client that goes away interrupts the
        sending alone, and the transaction is ended in order."""
        sending, receiving = anyio.create_memory_object_stream[bytes](AHEAD)

        async def make() -> None:
            async with self._slots, sending, asyncio.timeout(LONGEST_S), self._access.snapshot(scope) as inside:
                await inside.connection.execute(LIMITS)
                gone = tuple(await withheld.classes(inside, patient.id))
                source = Source(inside.connection, patient, now, await opened(inside, patient), gone)
                async with contextlib.aclosing(how.write(source)) as written:
                    async for piece in written:
                        with anyio.fail_after(STALLED_S):
                            await sending.send(piece)

        making = asyncio.create_task(make())
        try:
            async for piece in receiving:
                yield piece
            await making
        finally:
            making.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([making])
            receiving.close()
            if not making.cancelled() and (fault := making.exception()) is not None:
                log.warning("export_cut_short", error=type(fault).__name__)


class Download(StreamingResponse):
    """A file to keep. Its pieces are closed with it, whether it was taken to the end or not."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], how: Format, name: str) -> None:
        headers = {"Content-Disposition": f'attachment; filename="{name}.{how.suffix}"', "X-Accel-Buffering": "no"}
        self._pieces = pieces
        super().__init__(pieces, headers=headers, media_type=how.media_type)

    async def stream_response(self, send: Send) -> None:
        """Send the pieces, then see that nothing is left of their making."""
        try:
            await super().stream_response(send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._pieces.aclose()
