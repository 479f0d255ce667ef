"""The injected clock: driven by ticks, frozen, and exact conversions."""

from __future__ import annotations

from datetime import datetime

import pytest

from ingest.clock import DrivenClock, FrozenClock, SystemClock, to_datetime, to_ms


def test_a_driven_clock_is_the_smallest_tick_over_all_partitions() -> None:
    clock = DrivenClock(3)
    clock.tick(0, 5_000, live=False)
    clock.tick(1, 3_000, live=False)
    assert clock.now_ms() == 0  # one partition is still silent: nobody runs ahead
    clock.tick(2, 9_000, live=False)
    assert clock.now_ms() == 3_000
    clock.tick(1, 2_000, live=False)
    assert clock.now_ms() == 3_000  # never back


def test_a_driven_clock_goes_live_when_every_partition_says_so() -> None:
    clock = DrivenClock(2)
    clock.tick(0, 5_000, live=True)
    clock.tick(1, 5_000, live=False)
    assert clock.now_ms() == 5_000
    clock.tick(1, 6_000, live=True)
    assert clock.live
    assert abs(clock.now_ms() - SystemClock().now_ms()) < 10_000


def test_a_frozen_clock_moves_only_when_told() -> None:
    clock = FrozenClock(10)
    clock.advance(5)
    assert clock.now_ms() == 15
    clock.set(3)
    assert clock.now_ms() == 3


def test_conversions_are_exact_and_refuse_naive_times() -> None:
    for ms in (0, 1, 999, 1_760_054_400_123, 4_102_444_799_999):
        assert to_ms(to_datetime(ms)) == ms
    with pytest.raises(ValueError, match="no time zone"):
        to_ms(datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test
