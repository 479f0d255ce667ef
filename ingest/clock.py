"""The one clock every process is handed: real, frozen, or driven by the ticks of a time-lapse.

Wall clock is used for silence, deadlines and "received at" stamps only; what happened is judged in event time.
Latency is never measured with it (use ``time.monotonic``).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the present as Unix milliseconds UTC."""

    def now_ms(self) -> int:
        """Return the present in Unix milliseconds; never blocks, never goes back by more than the host's clock."""
        ...


class SystemClock:
    """The host's own clock."""

    def now_ms(self) -> int:
        """Return the host's time."""
        return time.time_ns() // 1_000_000


class FrozenClock:
    """A clock that moves only when told to, for tests and simulation."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Return the instant it was last set to."""
        return self._now_ms

    def set(self, now_ms: int) -> None:
        """Move to ``now_ms``, forwards or backwards."""
        self._now_ms = now_ms

    def advance(self, ms: int) -> None:
        """Move by ``ms``."""
        self._now_ms += ms


class DrivenClock:
    """The clock of a time-lapse: the smallest tick seen over all control partitions.

    Until each partition has shown a tick it stands at the last value known (0 at first, which judges nothing
    as silent). Once every partition has said "live" it follows the host's clock.

    A tick carries two instants: ``now_ms``, up to which everything has been sent (what silence is judged by),
    and ``horizon_ms``, the end of the step being sent (what a door stamps as time of receipt).
    """

    def __init__(self, partitions: int) -> None:
        self._ticks: list[int | None] = [None] * partitions
        self._live = [False] * partitions
        self._system = SystemClock()

    def tick(self, partition: int, now_ms: int, *, live: bool) -> None:
        """Take one tick of one control partition; a smaller one than before is ignored."""
        previous = self._ticks[partition]
        if previous is None or now_ms >= previous:
            self._ticks[partition] = now_ms
            self._live[partition] = live

    @property
    def live(self) -> bool:
        """Whether the time-lapse has ended and the host's clock counts."""
        return all(self._live)

    def now_ms(self) -> int:
        """Return the smallest tick, or the host's time once live."""
        if self.live:
            return self._system.now_ms()
        known = [tick for tick in self._ticks if tick is not None]
        return min(known) if len(known) == len(self._ticks) else 0


def to_datetime(ms: int) -> datetime:
    """Return an aware UTC datetime for Unix milliseconds, exact to the millisecond."""
    seconds, rest = divmod(ms, 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000)


def to_ms(moment: datetime) -> int:
    """Return Unix milliseconds of an aware datetime.

    Raises:
        ValueError: the datetime has no zone.
    """
    if moment.tzinfo is None:
        msg = f"{moment.isoformat()} has no time zone; write it with an offset, e.g. {moment.isoformat()}Z"
        raise ValueError(msg)
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * 1000 + moment.microsecond // 1000
