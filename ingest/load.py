"""Backpressure at a door: what it holds is bounded, and what is too much is refused before it is promised.

Three amounts are bounded: bytes of bodies, frames that wait for the broker's acknowledgement, requests. Past the
first mark of any of them (half) frames that hold waveforms are refused, past the second (all of it) every frame is;
nothing is refused after it was accepted. Past the first mark a device has few requests at a time, and never more
than its share of the bytes, so that one device can't shut the others out.

The waveforms that wait for an acknowledgement have a window besides, so that vitals don't stand in a queue behind them:
it is halved when an acknowledgement took long, and grows by what was acknowledged in good time, as TCP's does.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Final

from ingest import metrics
from ingest.catalogue import by_id
from ingest.frame import StampedFrame

OPEN, NO_WAVEFORMS, CLOSED = 0, 1, 2  # what a door refuses now: nothing, waveforms, everything
FIRST_MARK: Final = 0.5
SLOW_S: Final = 1.0  # an acknowledgement normally takes milliseconds, and is given up after 10 s
FIRST_WINDOW, LEAST_WINDOW = 256 << 10, 64 << 10  # bytes of waveforms
DEVICE_SHARE: Final = 8  # a device holds at most this part of the bytes
DEVICE_REQUESTS: Final = 4  # and past the first mark has at most so many requests here
RETRY_AFTER_S: Final = {OPEN: 1, NO_WAVEFORMS: 2, CLOSED: 3}

BYTES, FRAMES, REQUESTS, SLOW, FAIR_SHARE, BROKER = "bytes", "frames", "requests", "slow", "fair_share", "broker"
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

    def __init__(
        self, door: str, budget: Budget | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.door = door
        self.budget = budget or Budget()
        self._bytes = self._frames = self._requests = 0
        self._monotonic = monotonic
        self._began: dict[object, float] = {}  # what waits for an acknowledgement → since when, oldest first
        self._waveforms = 0  # bytes of them that wait
        self._window = float(min(FIRST_WINDOW, self._widest))
        self._halved_at = -math.inf
        self._bytes_of: Counter[int] = Counter()
        self._requests_of: Counter[int] = Counter()
        self._in_flight = metrics.IN_FLIGHT.labels(door)
        self._waiting_bytes = metrics.WAITING_BYTES.labels(door)
        self._waiting_frames = metrics.WAITING_FRAMES.labels(door)
        metrics.SHEDDING.labels(door).set_function(lambda: self.level)

    @property
    def level(self) -> int:
        """What is refused now: OPEN, NO_WAVEFORMS or CLOSED."""
        level = self._worst()[0]
        return NO_WAVEFORMS if level == OPEN and self._waveforms and self._has_no_room(0, 1) else level

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
            Overloaded: the device has `DEVICE_REQUESTS` here already, and the first mark is passed.
        """
        if self._requests_of[device_id] >= DEVICE_REQUESTS and self.level != OPEN:
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

    def sheds(self, frames: Sequence[StampedFrame], beside: int = 0) -> str | None:
        """Return why a frame (as stamped) is refused now, None when it is taken; what is refused is counted.

        ``beside``: bytes of waveforms that were taken of the same request just before.
        """
        level, reason = self._worst()
        waveform = waveform_bytes(frames)
        if level == OPEN and waveform and self._has_no_room(beside, waveform):
            level, reason = NO_WAVEFORMS, SLOW
        if level == OPEN or (level == NO_WAVEFORMS and not waveform):
            return None
        self.count_shed(bool(waveform), reason)
        return reason

    def _has_no_room(self, beside: int, more: int) -> bool:
        """Whether the window is full, or somebody has waited for long already. One alone is always taken, to learn."""
        waiting = self._waveforms + beside
        oldest = next(iter(self._began.values()), math.inf)
        return waiting > 0 and (waiting + more > self._window or self._monotonic() - oldest > SLOW_S)

    def count_shed(self, waveform: bool, reason: str) -> None:
        """Count one frame that is refused for overload."""
        metrics.SHED.labels(self.door, WAVEFORM if waveform else VITALS, reason).inc()

    @contextmanager
    def waiting(self, frames: Sequence[StampedFrame]) -> Iterator[None]:
        """Count frames that wait for the broker's acknowledgement, and learn from how long it takes."""
        one, began, waveforms = object(), self._monotonic(), waveform_bytes(frames)
        self._began[one] = began
        self._wait(len(frames), waveforms)
        try:
            yield
        finally:
            del self._began[one]
            self._wait(-len(frames), -waveforms)
            self._adapt(began, waveforms)

    @property
    def _widest(self) -> float:
        return self.budget.max_bytes * FIRST_MARK

    def _adapt(self, began: float, waveforms: int) -> None:
        """Halve the window for a slow acknowledgement, once for all that waited at that time; else let it grow."""
        now = self._monotonic()
        if now - began <= SLOW_S:
            self._window = min(self._widest, self._window + waveforms)
        elif began > self._halved_at:
            self._halved_at = now
            self._window = max(LEAST_WINDOW, self._window / 2)

    def _wait(self, frames: int, waveforms: int) -> None:
        self._waveforms += waveforms
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


def waveform_bytes(frames: Sequence[StampedFrame]) -> int:
    """Return the bytes of the waveforms in frames, 0 where they hold none."""
    waveforms = _waveform_ids()
    return sum(len(block.values) for frame in frames for block in frame.blocks if block.metric_id in waveforms)


@cache
def _waveform_ids() -> frozenset[int]:
    return frozenset(number for number, metric in by_id().items() if metric.kind == "waveform")
