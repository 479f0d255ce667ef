"""What a door refuses when it has too much to do: waveforms before vitals, never one device for all others."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from ingest.catalogue import catalogue
from ingest.frame import STAMPED_VERSION, StampedBlock, StampedFrame
from ingest.load import CLOSED, DEVICE_REQUESTS, NO_WAVEFORMS, OPEN, Budget, Load, Overloaded
from ingest.metrics import SHED

BUDGET = Budget(max_bytes=8_000, max_frames=100, max_requests=10)


def stamped(metric: str) -> list[StampedFrame]:
    block = StampedBlock(catalogue()[metric].id, 0, 0, "f4", np.float32(70).tobytes())
    return [StampedFrame(STAMPED_VERSION, "d~s~1", 1, 1, 1, "s", 1, 0, 0, 0, [block])]


def waveform() -> list[StampedFrame]:
    return stamped(next(key for key, metric in catalogue().items() if metric.kind == "waveform"))


def vitals() -> list[StampedFrame]:
    return stamped("heart_rate")


def shed(holds: str, reason: str) -> float:
    return float(SHED.labels("test", holds, reason)._value.get())


@pytest.mark.parametrize(
    ("frames", "level", "takes_waveforms", "takes_vitals"),
    [(49, OPEN, True, True), (50, NO_WAVEFORMS, False, True), (100, CLOSED, False, False)],
)
def test_waveforms_are_shed_before_vitals(frames: int, level: int, takes_waveforms: bool, takes_vitals: bool) -> None:
    load = Load("test", BUDGET)
    with load.waiting(vitals() * frames):
        assert load.level == level
        assert (load.sheds(waveform()) is None) == takes_waveforms
        assert (load.sheds(vitals()) is None) == takes_vitals
    assert load.level == OPEN
    assert load.sheds(waveform()) is None


def test_what_is_shed_is_counted_by_what_it_holds_and_why() -> None:
    load = Load("test", BUDGET)
    before = shed("waveform", "frames"), shed("vitals", "frames")
    with load.waiting(vitals() * 100):
        load.sheds(waveform())
        load.sheds(vitals())
        load.sheds(vitals())
    assert (shed("waveform", "frames"), shed("vitals", "frames")) == (before[0] + 1, before[1] + 2)


def test_bytes_are_bounded_and_given_back() -> None:
    load = Load("test", BUDGET)
    with contextlib.ExitStack() as held:
        for device in range(8):
            held.enter_context(load.of_device(device)).add(1_000)
        assert load.level == CLOSED
        with load.of_device(99) as late, pytest.raises(Overloaded, match="bytes"):
            late.add(1)
    assert load.level == OPEN
    with load.of_device(99) as now:
        now.add(8_000)


def test_one_device_cannot_fill_the_door() -> None:
    load = Load("test", BUDGET)
    with load.of_device(7) as first:
        first.add(1_000)
        with load.of_device(7) as second, pytest.raises(Overloaded, match="fair_share"):
            second.add(1)
        with load.of_device(8) as other:
            other.add(1_000)


def test_past_the_first_mark_a_device_has_few_requests_at_a_time() -> None:
    load = Load("test", BUDGET)
    with contextlib.ExitStack() as held:
        for _ in range(DEVICE_REQUESTS):
            held.enter_context(load.of_device(7))
        with load.of_device(7):
            pass
        with load.waiting(vitals() * 60):
            with pytest.raises(Overloaded, match="fair_share"), load.of_device(7):
                pass
            with load.of_device(8):
                pass


def ecg_frame(samples: int) -> list[StampedFrame]:
    block = StampedBlock(catalogue()["ecg"].id, 0, 4_000, "i2", bytes(2 * samples))
    return [StampedFrame(STAMPED_VERSION, "d~s~1", 1, 1, 1, "s", 1, 0, 0, 0, [block])]


def test_slow_acknowledgements_leave_waveforms_less_and_less_room_and_good_ones_give_it_back() -> None:
    now = 100.0
    load = Load("test", Budget(), lambda: now)
    piece = ecg_frame(10_000)  # 20 kB

    def room() -> int:
        """How many more pieces would be taken now."""
        taken = 0
        while load.sheds(piece, taken * 20_000) is None:
            taken += 1
        return taken

    at_first = room()
    for _ in range(5):
        with load.waiting(piece):
            now += 3
            assert load.sheds(vitals()) is None
            assert load.level == NO_WAVEFORMS
    assert load.level == OPEN
    assert 0 < room() < at_first / 2
    with load.waiting(vitals()):
        assert load.sheds(ecg_frame(400_000)) is None  # one alone is always taken: it tells when it is quick again
    for _ in range(400):
        with load.waiting(piece):
            now += 0.01
    assert room() > 5 * at_first


def test_what_waited_together_halves_the_window_once() -> None:
    now = 100.0
    load = Load("test", Budget(), lambda: now)
    with load.waiting(ecg_frame(10)), load.waiting(ecg_frame(10)), load.waiting(ecg_frame(10)):
        now += 3
    assert load.sheds(ecg_frame(20_000), 80_000) is None  # 128 KiB are left of 256
    assert load.sheds(ecg_frame(20_000), 120_000) == "slow"


def test_requests_are_bounded_and_one_alone_is_no_load() -> None:
    load = Load("test", Budget(max_requests=1))
    with load.request():
        assert load.level == OPEN
        with pytest.raises(Overloaded, match="requests"), load.request():
            pass
    with load.request():
        pass
