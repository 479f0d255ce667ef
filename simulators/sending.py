"""Devices on the way to a door: who sends what, over which way, and whether the door knows what time it is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from ingest.client import DeviceClient, Door, NotDelivered
from ingest.frame import FRAME_VERSION, Frame, encode
from ingest.validate import EARLIEST_MS, FUTURE_MS
from ingest.verdict import Refused
from simulators.link import Parcel
from simulators.recording import Recording
from simulators.series import HOUR_MS, MINUTE_MS, blocks

PROBE_EVERY_S: Final = 0.01
PROBE_FOR_S: Final = 30.0
ANSWER_S: Final = 0.5


class Source(Protocol):
    """A device that has something to send."""

    key: str

    def parcel(self, from_ms: int, to_ms: int, *, frame_min: int | None = None) -> Parcel:
        """Return what is sent at ``to_ms`` of what was measured since ``from_ms``; spans must adjoin."""
        ...


class RecordedDevice:
    """A device that plays a recording."""

    def __init__(self, key: str, recording: Recording) -> None:
        self.key = key
        self._recording = recording
        self._seq = 0

    def parcel(self, from_ms: int, to_ms: int, *, frame_min: int | None = None) -> Parcel:
        """Return the frames of ``from_ms`` <= t < ``to_ms``, cut at whole hours or as asked."""
        length = (frame_min or HOUR_MS // MINUTE_MS) * MINUTE_MS
        frames = []
        at = from_ms
        while at < to_ms:
            stop = min(to_ms, (at // length + 1) * length)
            readings = {
                metric: stream.part(np.flatnonzero((stream.t_ms >= at) & (stream.t_ms < stop)))
                for metric, stream in self._recording.streams.items()
            }
            packed = blocks({metric: part for metric, part in readings.items() if len(part.t_ms)})
            if packed:
                frames.append(Frame(FRAME_VERSION, "recording", self._seq, to_ms, 0, packed))
                self._seq += 1
            at = stop
        return Parcel(frames, [])


@dataclass(slots=True)
class Sender:
    """A source with its client; ``way`` is ``https`` or ``mqtt``."""

    source: Source
    client: DeviceClient
    way: str
    sent_to_ms: int = 0  # everything measured before this has been sent

    async def deliver(self, parcel: Parcel) -> None:
        """Send until everything has its verdict.

        Raises:
            NotDelivered: no verdict in time.
            DoorClosed: the door refuses this device.
        """
        if parcel.frames:
            await self.client.send(parcel.frames)
        for body in parcel.broken:
            await self.client.send_body(body)


async def until_door_knows(door: Door, now_ms: int) -> None:
    """Return once the door's clock stands at ``now_ms``, as a time-lapse told it.

    It asks with two empty frames that no door ever takes, sent at the last instant that is not too far ahead,
    and just after it: the answers name the field that was looked at first, which tells them apart.

    Raises:
        TimeoutError: the door did not get there within `PROBE_FOR_S`.
    """
    empty = [Frame(FRAME_VERSION, "clock", 0, now_ms + FUTURE_MS + ahead, 0, []) for ahead in (0, 1)]
    async with asyncio.timeout(PROBE_FOR_S):
        while await _refused_fields(door, encode(empty)) != ["blocks", "sent_ms"]:
            await asyncio.sleep(PROBE_EVERY_S)


async def until_door_answers(door: Door) -> None:
    """Return once the door answers at all.

    Raises:
        TimeoutError: it did not within `PROBE_FOR_S`.
    """
    nothing = encode([Frame(FRAME_VERSION, "clock", 0, EARLIEST_MS, 0, [])])
    async with asyncio.timeout(PROBE_FOR_S):
        while True:
            try:  # a question to a door that is not open yet may get no answer at all
                await asyncio.wait_for(_refused_fields(door, nothing), ANSWER_S)
            except TimeoutError:
                continue
            return


async def _refused_fields(door: Door, body: bytes) -> list[str]:
    while True:
        try:
            return [verdict.field for verdict in await door.deliver(body) if isinstance(verdict, Refused)]
        except NotDelivered as error:
            await asyncio.sleep(error.retry_after_s or 10 * PROBE_EVERY_S)
