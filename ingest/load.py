"""Backpressure at a door: what it holds is bounded, and what is too much is refused before it is promised.

Three amounts are bounded: bytes of bodies, frames that wait for the broker's acknowledgement, requests. Past the
first mark of any of them (half) frames that hold waveforms are refused, past the second (all of it) every frame;
nothing is refused after it was accepted. Past the first mark a device has one request at a time, and never more
than its share of the bytes, so that one device can't shut the others out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Final

from ingest import metrics
from ingest.catalogue import by_id
from ingest.frame import StampedFrame

OPEN, NO_WAVEFORMS, CLOSED = 0, 1, 2  # what a door refuses now: nothing, waveforms, everything
FIRST_MARK: Final = 0.5
DEVICE_SHARE: Final = 8  # a device holds at most this part of the bytes
RETRY_AFTER_S: Final = {OPEN: 1, NO_WAVEFORMS: 2, CLOSED: 3}

BYTES, FRAMES, REQUESTS, FAIR_SHARE, BROKER = "bytes", "frames", "requests", "fair_share", "broker"
WAVEFORM, VITALS, UNREAD = "waveform", "vitals", "unread"


@dataclass(frozen=True)
class Budget:
    """The most a door holds at once."""

    max_bytes: int = 64 << 20
    max_frames: int = 20_000
    max_requests: int = 512


class Overloaded(Exception):
    """A request is refused whole, before it is read; ``reason`` says which bound it met."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Load:
    """What one door (``https`` or ``mqtt``) holds now."""

    def __init__(self, door: str, budget: Budget | None = None) -> None:
        self.door = door
        self.budget = budget or Budget()
        self._bytes = self._frames = self._requests = 0
        self._bytes_of: Counter[int] = Counter()
        self._requests_of: Counter[int] = Counter()
        self._in_flight = metrics.IN_FLIGHT.labels(door)
        self._waiting_bytes = metrics.WAITING_BYTES.labels(door)
        self._waiting_frames = metrics.WAITING_FRAMES.labels(door)
        metrics.SHEDDING.labels(door).set_function(lambda: self.level)

    @property
    def level(self) -> int:
        """What is refused now: OPEN, NO_WAVEFORMS or CLOSED."""
        return self._worst()[0]

    @property
    def retry_after_s(self) -> int:
        """When to send again what was refused."""
        return RETRY_AFTER_S[self.level]

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request from its arrival to its answer.

        Raises:
            Overloaded: there are as many as may be.
        """
        if self._requests >= self.budget.max_requests:
            raise self._refused(REQUESTS)
        self._requests += 1
        self._in_flight.set(self._requests)
        try:
            yield
        finally:
            self._requests -= 1
            self._in_flight.set(self._requests)

    @contextmanager
    def of_device(self, device_id: int) -> Iterator[Held]:
        """Count what a request of this device holds, until its answer.

        Raises:
            Overloaded: the device has a request here already, and the first mark is passed.
        """
        if self._requests_of[device_id] and self.level != OPEN:
            raise self._refused(FAIR_SHARE)
        held = Held(self, device_id)
        self._requests_of[device_id] += 1
        try:
            yield held
        finally:
            self._take(device_id, -held.size)
            self._requests_of[device_id] -= 1
            if not self._requests_of[device_id]:
                del self._requests_of[device_id], self._bytes_of[device_id]

    def sheds(self, frames: Sequence[StampedFrame]) -> str | None:
        """Return why a frame (as stamped) is refused now, None when it is taken; what is refused is counted."""
        level, reason = self._worst()
        waveform = holds_waveforms(frames)
        if level == OPEN or (level == NO_WAVEFORMS and not waveform):
            return None
        self.count_shed(waveform, reason)
        return reason

    def count_shed(self, waveform: bool, reason: str) -> None:
        """Count one frame that is refused for overload."""
        metrics.SHED.labels(self.door, WAVEFORM if waveform else VITALS, reason).inc()

    @contextmanager
    def waiting(self, frames: int) -> Iterator[None]:
        """Count frames that wait for the broker's acknowledgement."""
        self._wait(frames)
        try:
            yield
        finally:
            self._wait(-frames)

    def _wait(self, frames: int) -> None:
        self._frames += frames
        self._waiting_frames.set(self._frames)

    def _take(self, device_id: int, size: int) -> None:
        self._bytes += size
        self._bytes_of[device_id] += size
        self._waiting_bytes.set(self._bytes)

    def hold(self, device_id: int, size: int) -> None:
        """Count ``size`` more bytes held for a device.

        Raises:
            Overloaded: there is no room for them.
        """
        if self._bytes + size > self.budget.max_bytes:
            raise self._refused(BYTES)
        if self._bytes_of[device_id] and self._bytes_of[device_id] + size > self.budget.max_bytes // DEVICE_SHARE:
            raise self._refused(FAIR_SHARE)
        self._take(device_id, size)

    def _refused(self, reason: str) -> Overloaded:
        metrics.SHED.labels(self.door, UNREAD, reason).inc()
        return Overloaded(reason)

    def _worst(self) -> tuple[int, str]:
        budget = self.budget
        filled, reason = max(
            (self._bytes / budget.max_bytes, BYTES),
            (self._frames / budget.max_frames, FRAMES),
            ((self._requests - 1) / max(1, budget.max_requests), REQUESTS),  # the others': one alone is no load
        )
        return (CLOSED if filled >= 1 else NO_WAVEFORMS if filled >= FIRST_MARK else OPEN), reason


class Held:
    """The bytes one request holds."""

    def __init__(self, load: Load, device_id: int) -> None:
        self._load = load
        self._device_id = device_id
        self.size = 0

    def add(self, size: int) -> None:
        """Hold more; see `Load.hold`."""
        self._load.hold(self._device_id, size)
        self.size += size


def holds_waveforms(frames: Sequence[StampedFrame]) -> bool:
    """Whether a frame, as stamped for its patients, holds a waveform."""
    waveforms = _waveform_ids()
    return any(block.metric_id in waveforms for frame in frames for block in frame.blocks)


@cache
def _waveform_ids() -> frozenset[int]:
    return frozenset(number for number, metric in by_id().items() if metric.kind == "waveform")
