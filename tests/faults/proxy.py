"""A TCP proxy between a process and a server, to cut, hold, delay and throttle what runs through it.

What is held is not read any more, as when a network drops packets: TCP repeats them once the way is open again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Self

from tests.faults import segments
from tests.fix_doors import free_port

PIECE: Final = 64 * 1024
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close sends RST
Edit = Callable[[bytes], bytes]


@dataclass
class Way:
    """One direction: closed or open, and how slow."""

    delay_s: float = 0.0
    bytes_per_s: float = 0.0  # 0: as fast as it goes
    cut_chance: float = 0.0  # of each piece: the connection is reset in the middle of it
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    def hold(self) -> None:
        """Let nothing through until `free`."""
        self.open.clear()

    def free(self) -> None:
        """Let it through again, what waited first."""
        self.open.set()


class Proxy:
    """``async with Proxy(port) as proxy``: connects ``proxy.port`` to a server on loopback."""

    def __init__(self, target: int, seed: int = 0) -> None:
        self.target = target
        self.port = free_port()
        self.up, self.down = Way(), Way()
        self.connections = 0  # ever made
        self._loss = 0.0  # of the segments that arrive from either end
        self._rng = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def accept(self) -> None:
        """Take connections (again)."""
        self._server = await asyncio.start_server(self._joined, "127.0.0.1", self.port)

    async def refuse(self) -> None:
        """Refuse new connections and reset the open ones: the server is gone."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.reset()
        await asyncio.sleep(0)

    def hold(self) -> None:
        """Let nothing through either way: connections stay open and silent."""
        self.up.hold()
        self.down.hold()

    def free(self) -> None:
        """Let everything through again."""
        self.up.free()
        self.down.free()

    def reset(self) -> int:
        """Reset every open connection and return how many there were."""
        count = len(self._open) // 2
        for writer in list(self._open):
            _reset(writer)
        return count

    def lose(self, chance: float) -> None:
        """Lose each TCP segment that either end sends by this chance, on open connections and new ones; 0: none."""
        self._loss = chance
        for writer in self._open:
            _lose(writer, chance)

    def sent_again(self) -> int:
        """Return how many segments the proxy had to send again on its open connections."""
        return sum(segments.sent_again(_socket(writer)) for writer in self._open if not writer.is_closing())

    def edits(self) -> tuple[Edit, Edit] | None:
        """Return what changes the bytes of one new connection, up and down; None: they pass as they are."""
        return None

    def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            there, onward = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _reset(writer)
            return
        if self._server is None:  # refused meanwhile: a way that is left open would be no outage
            _reset(writer)
            _reset(onward)
            return
        self._open |= {writer, onward}
        for one in (writer, onward):
            _lose(one, self._loss)
        edit = self.edits() or (None, None)
        try:
            pumps = [
                asyncio.create_task(self._pump(reader, onward, self.up, edit[0])),
                asyncio.create_task(self._pump(there, writer, self.down, edit[1])),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self._open -= {writer, onward}
            for one in (writer, onward):
                one.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way, edit: Edit | None
    ) -> None:
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)  # full: nothing more is read
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(self._send(late, writer, way))
            with contextlib.suppress(OSError):
                while True:
                    await way.open.wait()
                    data = await reader.read(PIECE)
                    await way.open.wait()  # what came while it was being closed waits too
                    if not data:
                        break
                    if edit is not None:
                        data = edit(data)
                    await late.put((time.monotonic() + way.delay_s, data))
            await late.put((0.0, b""))
            await sender

    async def _send(self, late: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, way: Way) -> None:
        while True:
            due, data = await late.get()
            if not due:
                return
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if way.bytes_per_s:
                await asyncio.sleep(len(data) / way.bytes_per_s)
            try:
                if way.cut_chance and data and self._rng.random() < way.cut_chance:
                    writer.write(data[: self._rng.randrange(len(data))])
                    await writer.drain()
                    _reset(writer)
                    return
                writer.write(data)
                await writer.drain()
            except OSError:
                return


def _socket(writer: asyncio.StreamWriter) -> Any:
    return writer.get_extra_info("socket")


def _lose(writer: asyncio.StreamWriter, chance: float) -> None:
    with contextlib.suppress(OSError):  # it is being closed
        segments.lose(_socket(writer), chance)


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        _socket(writer).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
