"""Time-lapse: weeks of a simulation in seconds, ending at the real present and then going on live.

Each step of simulated time every device sends what it measured; only when all of it is accepted does the clock
tick on. So no process's clock ever runs ahead of the readings.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ingest.client import Door
from ingest.clock import Clock
from ingest.frame import Tick
from simulators.link import Parcel
from simulators.scenarios import Span
from simulators.sending import Sender, until_door_knows
from simulators.series import HOUR_MS, MINUTE_MS

# (how long before the end, how long a step): long steps first, short ones towards the present.
STEPS: Final = ((12 * HOUR_MS, 6 * HOUR_MS), (2 * HOUR_MS, HOUR_MS), (0, 10 * MINUTE_MS))
ARRIVED_MS: Final = 2_000  # so close to the present is the present
LIVE_FRAME_MIN: Final = 1
LIVE_EVERY_S: Final = 20.0

TickWriter = Callable[[Tick], Awaitable[None]]
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Lapse:
    """What a time-lapse needs: who sends, how the time is told, and which doors must have heard it."""

    senders: Sequence[Sender]
    tick: TickWriter
    doors: Sequence[Door]
    clock: Clock
    progress: Progress = lambda _now_ms: None

    async def run(self, span: Span) -> int:
        """Send the whole span and what passed meanwhile; return the instant it went live, Unix ms UTC.

        Raises:
            ExceptionGroup: of what `Sender.deliver` raises.
            TimeoutError: a door does not hear the ticks.
        """
        now = span.start_ms
        for sender in self.senders:
            sender.sent_to_ms = now
        stop: int | None = self._next(now, span)
        parcels = self._parcels(stop or now)
        while stop is not None:
            await self.tick(Tick(now, horizon_ms=stop))
            async with asyncio.TaskGroup() as group:
                for door in self.doors:
                    group.create_task(until_door_knows(door, stop))
            following = self._next(stop, span)
            async with asyncio.TaskGroup() as group:
                for sender, parcel in zip(self.senders, parcels, strict=True):
                    group.create_task(sender.deliver(parcel))
                if following is not None:  # made while these are on the way
                    parcels = await asyncio.to_thread(self._parcels, following)
            now, stop = stop, following
            self.progress(now)
        await self.tick(Tick(now, live=True))
        return now

    async def live(self, stopped: asyncio.Event) -> None:
        """Send as it is measured, each device every `LIVE_EVERY_S`, spread over it, until ``stopped``.

        Raises:
            NotDelivered, DoorClosed: as `Sender.deliver`.
        """
        gap = LIVE_EVERY_S / max(1, len(self.senders))
        while not stopped.is_set():
            for sender in self.senders:
                parcel = self._parcel(sender, self.clock.now_ms(), LIVE_FRAME_MIN)
                await sender.deliver(parcel)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopped.wait(), gap)
                if stopped.is_set():
                    return

    def _next(self, at_ms: int, span: Span) -> int | None:
        end_ms = max(span.end_ms, self.clock.now_ms())
        return None if end_ms - at_ms < ARRIVED_MS else step_end(at_ms, end_ms)

    def _parcels(self, to_ms: int) -> list[Parcel]:
        return [self._parcel(sender, to_ms, None) for sender in self.senders]

    def _parcel(self, sender: Sender, to_ms: int, frame_min: int | None) -> Parcel:
        parcel = sender.source.parcel(sender.sent_to_ms, to_ms, frame_min=frame_min)
        sender.sent_to_ms = to_ms
        return parcel


def step_end(at_ms: int, end_ms: int) -> int:
    """Return where the step that begins at ``at_ms`` ends: after long strides at first, short ones at last."""
    for before_ms, stride_ms in STEPS:
        following = (at_ms // stride_ms + 1) * stride_ms
        if following <= end_ms - before_ms:  # a whole stride, or the end, which moves on, would be crept up to
            return following
    return end_ms
