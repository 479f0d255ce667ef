"""Rate limit: a token bucket a device, counted in frames."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MAX_BUCKETS = 50_000  # a forgotten bucket is a full one, and only the longest unused are forgotten


class RateLimit:
    """Lets each device send ``per_second`` frames on average and ``burst`` at once.

    ``monotonic`` gives seconds and is there for tests.
    """

    def __init__(self, per_second: float, burst: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._monotonic = monotonic
        self._buckets: OrderedDict[int, tuple[float, float]] = OrderedDict()

    def take(self, device_id: int, frames: int) -> float:
        """Take ``frames`` from the device's bucket; return 0, or the seconds to wait and nothing taken.

        A request larger than the burst is let through when the bucket is full: it can never be fuller.
        """
        now = self._monotonic()
        left, since = self._buckets.get(device_id, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_second)
        needed = min(frames, self._burst)
        if left < needed:
            self._keep(device_id, left, now)
            return (needed - left) / self._per_second
        self._keep(device_id, left - frames, now)
        return 0.0

    def _keep(self, device_id: int, left: float, now: float) -> None:
        self._buckets[device_id] = (left, now)
        self._buckets.move_to_end(device_id)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
