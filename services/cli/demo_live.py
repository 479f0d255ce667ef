"""What is watched while a demo runs: alerts as they are raised, and how long a frame takes to be stored."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psycopg
from rich.console import Console
from rich.text import Text

from ingest.clock import SystemClock
from ingest.frame import frame_id
from services.settings import Settings
from simulators.link import Parcel, SimulatedDevice
from simulators.scenarios import at_once
from simulators.sending import Sender

POLL_S: Final = 0.2
BEHIND: Final = 500  # ids looked at again, because commits may come in another order than ids
LATENCY_FRAMES: Final = 60
LATENCY_POLL_S: Final = 0.001
LATENCY_WITHIN_S: Final = 10.0
COLOURS: Final = {"high": "bold red", "medium": "yellow", "low": "cyan"}

_EVENTS: Final = """
    SELECT e.id, p.key, e.change, e.priority, e.late, a.kind, e.at, e.sentence
    FROM alert_event e JOIN alert a ON a.id = e.alert_id JOIN patient p ON p.id = e.patient_id
    WHERE e.id > %s AND e.change IN ('raised', 'worsened') ORDER BY e.id LIMIT 500"""


class AlertPrinter:
    """Prints each alert with its sentence as it is raised."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self._conninfo = settings.postgres.conninfo("writer")
        self._console = console
        self._seen: set[int] = set()
        self._last = 0
        self.began = time.monotonic()
        self.first_s: float | None = None

    async def run(self) -> None:
        """Follow the alert events until cancelled."""
        async with await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True) as connection:
            while True:
                cursor = await connection.execute(_EVENTS, [max(0, self._last - BEHIND)])
                for event in await cursor.fetchall():
                    self._show(event)
                await asyncio.sleep(POLL_S)

    def _show(self, event: tuple[Any, ...]) -> None:
        number, patient, change, priority, late, kind, at, sentence = event
        if number in self._seen:
            return
        self._seen.add(number)
        self._last = max(self._last, number)
        if self.first_s is None:
            self.first_s = time.monotonic() - self.began
        line = Text(f"{at:%d %b %H:%M} ", "dim")
        line.append(f"{patient:4}", "bold")
        line.append(f"{priority:7}", COLOURS[priority] if kind == "clinical" else "dim")
        words = [word for word, shown in (("late finding:", late), ("worse:", change == "worsened")) if shown]
        line.append(" ".join([*words, sentence]), "" if kind == "clinical" else "dim")
        self._console.print(line, soft_wrap=True)


async def latencies_ms(settings: Settings, senders: Sequence[Sender]) -> list[float]:
    """Send single readings taken by hand, one after the other; return how long each took to be stored.

    Counted from its verdict to seeing its fate in the database.

    The clock is monotonic; the resolution is that of asking the database again, about 1 ms.

    Raises:
        TimeoutError: a frame was not processed within `LATENCY_WITHIN_S`.
    """
    found = []
    clock = SystemClock()
    query = "SELECT 1 FROM frame_log WHERE frame_id = %s"
    conninfo = settings.postgres.conninfo("writer")
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        watches = [sender for sender in senders if isinstance(sender.source, SimulatedDevice)]
        for number in range(LATENCY_FRAMES):
            sender = watches[number % len(watches)]
            assert isinstance(sender.source, SimulatedDevice)  # noqa: S101 - chosen so
            frame = sender.source.spot(clock.now_ms())
            await sender.deliver(Parcel([frame], []))
            accepted = time.monotonic()
            name = frame_id(sender.source.key, frame.session, frame.seq)
            async with asyncio.timeout(LATENCY_WITHIN_S):
                while not await (await connection.execute(query, [name], prepare=True)).fetchone():
                    await asyncio.sleep(LATENCY_POLL_S)
            found.append((time.monotonic() - accepted) * 1000)
    return found


async def follow_requests(folder: Path, senders: Sequence[Sender], console: Console) -> None:
    """Let happen what `keepwell simulate` asks for, one file each, until cancelled."""
    devices = {
        sender.source.patient.key: sender.source for sender in senders if isinstance(sender.source, SimulatedDevice)
    }
    while True:
        for file in sorted(folder.glob("*.json")):
            wanted = json.loads(file.read_text("utf-8"))
            file.unlink()
            device = devices.get(wanted["patient"])
            if device is None:
                console.print(f"{wanted['patient']} plays a recording, nothing can be added to it", style="yellow")
                continue
            device.befall(at_once(wanted["scenario"], SystemClock().now_ms()))
            console.print(f"{wanted['patient']}: {wanted['scenario']} begins", style="dim")
        await asyncio.sleep(POLL_S)


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return a percentile by the nearest rank, None without values."""
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)
