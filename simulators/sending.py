"""Devices on the way to a door: who sends what, over which way, and whether the door knows what time it is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from ingest.client import DeviceClient, Door, NotDelivered
from ingest.frame import FRAME_VERSION, Frame, encode
from ingest.validate import FUTURE_MS
from ingest.verdict import Refused
from simulators.link import Parcel
from simulators.recording import Recording
from simulators.series import HOUR_MS, MINUTE_MS, blocks

PROBE_EVERY_S: Final = 0.01
PROBE_FOR_S: Final = 30.0


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
    """Return once the door's clock has reached ``now_ms``.

    It asks with an empty frame that no door ever takes: the answer names the field that was looked at first,
    which is the instant of sending as long as that lies too far ahead.

    Raises:
        TimeoutError: the door did not get there within `PROBE_FOR_S`.
    """
    question = b"\x91" + encode(Frame(FRAME_VERSION, "clock", 0, now_ms + FUTURE_MS, 0, []))
    async with asyncio.timeout(PROBE_FOR_S):
        while True:
            try:
                (verdict,) = await door.deliver(question)
            except NotDelivered as error:
                await asyncio.sleep(error.retry_after_s or PROBE_EVERY_S)
                continue
            if isinstance(verdict, Refused) and verdict.field != "sent_ms":
                return
            await asyncio.sleep(PROBE_EVERY_S)
