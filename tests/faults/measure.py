"""What is measured from outside while a row runs: memory, open files, and how long an alert takes to be seen."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from ingest.clock import to_ms
from services.processor.reconcile import SAFETY
from tests.cast import HOUR
from tests.faults.load import HOURS_A_FRAME, Load
from tests.faults.watch import Seen
from tests.fix_doors import Process

SAMPLE_S: Final = 0.5


class _WhileItRuns(ABC):
    """Something sampled beside a block; what stops it early is raised at the block's end, so no figure is half a one."""

    _task: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    async def _go_on(self) -> None:
        while True:
            await self._sample()
            await asyncio.sleep(SAMPLE_S)

    @abstractmethod
    async def _sample(self) -> None: ...


class Memory(_WhileItRuns):
    """The most resident memory any of the processes had while the block ran."""

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = processes
        self.most_mb = 0.0

    async def _sample(self) -> None:
        for process in self._processes:
            if process.alive():
                self.most_mb = max(self.most_mb, resident_mb(process.pid))


class Standstill(_WhileItRuns):
    """The longest time in which no frame was processed while some accepted one waited and the block ran."""

    def __init__(self, processed: Callable[[], Awaitable[int]], accepted: Callable[[], int]) -> None:
        self._processed, self._accepted = processed, accepted
        self._last, self._since = -1, time.monotonic()
        self.longest_s = 0.0

    async def _sample(self) -> None:
        count = await self._processed()
        if count != self._last or count >= self._accepted():
            self._last, self._since = count, time.monotonic()
        self.longest_s = max(self.longest_s, time.monotonic() - self._since)


def resident_mb(pid: int) -> float:
    """Return a process's resident memory in MB, 0 when it has ended."""
    with contextlib.suppress(OSError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return 0.0


def open_files(pid: int) -> int:
    """Return how many files and sockets a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def alert_latencies(load: Load, seen: Sequence[Seen]) -> list[float]:
    """Seconds from the verdict on the frame that shows it to each safety alert on the watcher's stream.

    Only safety alerts are raised on arrival; an adaptive one waits for its minute or day on purpose.
    """
    found = []
    for one in seen:
        if one.data["change"] != "raised" or one.data["rule"] not in SAFETY:
            continue
        key = one.data["patient"]
        at_ms = to_ms(datetime.fromisoformat(one.data["at"]))
        frames = load.frames.get(key, [])
        index = next((i for i, f in enumerate(frames) if f.sent_ms - HOURS_A_FRAME * HOUR <= at_ms < f.sent_ms), None)
        times = load.accepted_at.get(key, [])
        if index is not None and index < len(times):
            found.append(one.at - times[index])
    return found
