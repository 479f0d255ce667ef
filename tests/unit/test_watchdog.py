"""A stalled process ends itself; one that waits, was stopped, or slept does not."""

from __future__ import annotations

import time

from services.watchdog import EXIT_STALLED, Watchdog

TICK_S = 0.02


def run(since_beat: float, stuck: float | None, for_s: float = 1.0, stalled_s: float = 0.2) -> list[int]:
    codes: list[int] = []
    work = None if stuck is None else (lambda: stuck)
    dog = Watchdog(lambda: since_beat, stalled_s, work, end=codes.append, tick_s=TICK_S)
    dog.start()
    until = time.monotonic() + for_s
    while not codes and time.monotonic() < until:
        time.sleep(TICK_S)
    dog.stop()
    return codes


def test_a_loop_that_does_not_turn_ends_the_process() -> None:
    assert run(since_beat=30, stuck=None) == [EXIT_STALLED]


def test_records_that_wait_without_progress_end_the_process() -> None:
    assert run(since_beat=0, stuck=5) == [EXIT_STALLED]


def test_a_process_that_works_or_waits_is_left_alone() -> None:
    assert run(since_beat=0.1, stuck=0) == []


def test_time_the_watchdog_did_not_see_does_not_count() -> None:
    """After SIGCONT or a sleeping machine the beat looks old at first; the loop turns before it is believed."""
    woken = time.monotonic()
    codes: list[int] = []
    dog = Watchdog(lambda: 3600 if time.monotonic() - woken < 0.1 else 0, 0.2, end=codes.append, tick_s=TICK_S)
    dog.start()
    time.sleep(0.5)
    dog.stop()
    assert codes == []


def test_zero_seconds_switch_it_off() -> None:
    assert run(since_beat=3600, stuck=None, for_s=0.3, stalled_s=0) == []
