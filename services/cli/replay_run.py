"""Where replays live: a database and topics that are kept, so that a second replay finds the first."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import psycopg
from aiokafka.admin import AIOKafkaAdminClient
from psycopg import sql

from services import topics
from services.cli.demo_run import Run
from services.cli.supervise import RunError
from services.settings import load

BOOK: Final = ".book"
STUCK_S: Final = 300.0
WINDOW: Final = 400  # frames that may wait for the processor: beyond it the devices wait
PART: Final = ".part.book"  # a book of a replay that is not finished


@dataclass(frozen=True)
class ReplayRun(Run):
    """The database ``keepwell_NAME``, the topics ``NAME.…`` and a gateway on a port of its own."""

    gateway_port: int = 0

    @classmethod
    def open(cls, home: Path, name: str) -> ReplayRun:
        """Return the run of this name in the stack at ``home``; nothing is made yet."""
        port = _free_port()
        flags = _own(name, port) | {"stack.home": home}
        return cls(name, home.absolute(), load(flags).settings, port)

    @property
    def folder(self) -> Path:
        """Books and logs."""
        return self.home / "replays" / self.name

    @property
    def environment(self) -> dict[str, str]:
        """What its processes are told."""
        own = _own(self.name, self.gateway_port)
        told = {f"KEEPWELL_{key.replace('.', '__').upper()}": str(value) for key, value in own.items()}
        return told | {
            "KEEPWELL_STACK__HOME": str(self.home),
            "KEEPWELL_CLOCK__SOURCE": "system",
            "FAUST_DATADIR": str(self.folder / "faust"),
        }

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the run for one replay at a time.

        Raises:
            RunError: another replay has it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                msg = f"another replay is running in {self.folder}; wait for its end, or choose another --name"
                raise RunError(msg) from error
            yield

    def books(self) -> list[Path]:
        """Return the devices' books of every replay that this database has seen."""
        return sorted(self.folder.glob(f"*{BOOK}"))

    def begin_book(self, identity: str) -> Path:
        """Return where the replay of this content keeps its book; what an unfinished one left is forgotten.

        It will send the same frames again, so its book will hold everything the unfinished one held.
        """
        path = self.folder / f"{identity}{PART}"
        _remove(path)
        return path

    def finish_book(self, part: Path) -> Path:
        """Put a finished book in the place of the one of an earlier replay of the same content; return where."""
        path = part.with_name(part.name.removesuffix(PART) + BOOK)
        _remove(path)
        part.rename(path)
        return path


def _remove(book: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        book.with_name(book.name + suffix).unlink(missing_ok=True)


def _own(name: str, port: int) -> dict[str, str | int]:
    return {
        "kafka.prefix": f"{name}.",
        "postgres.database": f"keepwell_{name.replace('-', '_')}",
        "gateway.port": port,
        # one device sends months at once here, which in real life would be a fault
        "gateway.frames_per_second": 100_000,
        "gateway.burst": 100_000,
        # hours full of readings: a batch of them must stay well within the time a transaction may wait for us
        "processor.max_records": WINDOW,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Window:
    """Keeps the devices no further ahead of the processor than `WINDOW` frames: ``async with Window(run)``.

    So each of the processor's batches holds the same days of everybody, and nothing piles up.
    """

    def __init__(self, run: ReplayRun) -> None:
        self._conninfo = run.settings.postgres.conninfo("writer")
        self._before = 0
        self._connection: psycopg.AsyncConnection | None = None

    async def __aenter__(self) -> Self:
        self._connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
        self._before = await self._processed()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def room(self, sent: int) -> None:
        """Return once no more than `WINDOW` of the ``sent`` frames wait.

        Raises:
            RunError: the processor got nowhere within `STUCK_S`.
        """
        until = time.monotonic() + STUCK_S
        while sent - (await self._processed() - self._before) > WINDOW:
            if time.monotonic() > until:
                msg = f"the processor has not made room for {STUCK_S:g} s; see its log"
                raise RunError(msg)
            await asyncio.sleep(0.02)

    async def _processed(self) -> int:
        assert self._connection is not None  # noqa: S101 - opened on entry
        query = "SELECT coalesce(sum(next_offset), 0)::bigint FROM partition_position WHERE topic = ANY(%s)"
        row = await (await self._connection.execute(query, [[topics.READINGS, topics.BACKFILL]])).fetchone()
        return int(row[0]) if row else 0


async def erase(run: ReplayRun) -> None:
    """Drop the run's database, topics and books; it begins afresh."""
    settings = run.settings
    with psycopg.connect(settings.postgres.conninfo("admin", "postgres"), autocommit=True) as connection:
        name = sql.Identifier(settings.postgres.database)
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap, request_timeout_ms=15_000)
    await admin.start()
    try:
        own = [topic for topic in await admin.list_topics() if topic.startswith(settings.kafka.prefix)]
        if own:
            await admin.delete_topics(own, timeout_ms=15_000)
    finally:
        await admin.close()
    for book in run.books():
        _remove(book)
