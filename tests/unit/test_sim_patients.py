"""Synthetic patients: the same seed gives the same person, however their days are asked for."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from ingest.catalogue import catalogue
from simulators.effects import Effect
from simulators.link import SimulatedDevice, Trouble
from simulators.patients import Patient
from simulators.profile import draw_profile
from simulators.series import DAY_MS, HOUR_MS, MINUTE_MS, Readings, Series

START_MS = 1_793_491_200_000  # 2026-11-01T00:00:00Z

GOLDEN_COUNTS = {
    "heart_rate": 1376,
    "steps": 1399,
    "spo2": 104,
    "respiratory_rate": 141,
    "hrv_rmssd": 95,
    "skin_temperature": 95,
    "wear": 144,
    "battery": 48,
}
GOLDEN_TIMES = [1793491227000, 1793491287000, 1793491347000, 1793491407000]
GOLDEN_RATES = [55.0, 56.0, 56.0, 55.0, 56.0, 57.0, 56.0, 53.0]


def digest(readings: Readings) -> str:
    found = hashlib.sha256()
    for metric in sorted(readings):
        one = readings[metric]
        found.update(metric.encode() + one.t_ms.tobytes() + one.value.tobytes() + one.quality.tobytes())
    return found.hexdigest()[:16]


def patient(index: int = 3, seed: int = 11, *effects: Effect, patch: bool | None = None) -> Patient:
    return Patient(draw_profile(seed, index, patch=patch), effects)


def test_a_seed_gives_the_same_day_on_every_machine() -> None:
    """A change here changes every published run of a seed: change the number only on purpose."""
    day = patient().readings(START_MS, START_MS + DAY_MS)
    assert {metric: len(one.t_ms) for metric, one in day.items()} == GOLDEN_COUNTS
    hour = patient().readings(START_MS, START_MS + HOUR_MS)["heart_rate"]
    assert hour.t_ms[:4].tolist() == GOLDEN_TIMES
    assert hour.value[:8].tolist() == GOLDEN_RATES


def test_another_seed_or_patient_is_another_person() -> None:
    days = [patient(index, seed).readings(START_MS, START_MS + DAY_MS) for index, seed in ((3, 11), (4, 11), (3, 12))]
    assert len({digest(day) for day in days}) == 3


@pytest.mark.parametrize("metric", ["heart_rate", "steps", "spo2", "respiratory_rate", "hrv_rmssd", "skin_temperature"])
def test_everything_measured_is_plausible(metric: str) -> None:
    low, high = catalogue()[metric].soft
    for index in range(1, 9):
        value = patient(index).readings(START_MS, START_MS + 7 * DAY_MS)[metric].value
        assert low <= float(value.min())
        assert float(value.max()) <= high


def test_nights_are_calm_and_not_all_alike() -> None:
    """Resting heart rates of nights differ by about 1 to 3 beats a minute, as real ones do."""
    spreads = []
    for index in range(1, 7):
        rate = patient(index).readings(START_MS, START_MS + 28 * DAY_MS)["heart_rate"]
        lows = [np.percentile(rate.between(start, start + DAY_MS).value, 10) for start in range(START_MS, START_MS + 27 * DAY_MS, DAY_MS)]  # fmt: skip
        spreads.append(float(np.std(lows)))
        assert float(np.percentile(rate.value, 99.5)) - float(np.median(rate.value)) > 20  # days have effort in them
    assert 0.8 < float(np.median(spreads)) < 3.5


def test_instants_ascend_and_are_unique() -> None:
    for index in range(1, 7):
        for one in patient(index, patch=True).readings(START_MS, START_MS + 3 * DAY_MS).values():
            assert (np.diff(one.t_ms) > 0).all()


def within(one: Series, effect: Effect) -> Series:
    return one.between(effect.start_ms, effect.end_ms)


def test_each_effect_does_what_its_name_says() -> None:
    night = Effect("desaturation", START_MS + DAY_MS, START_MS + DAY_MS + 30 * MINUTE_MS, 83)
    low = within(patient(3, 11, night).readings(START_MS, START_MS + 2 * DAY_MS)["spo2"], night)
    assert len(low.value) >= 5
    assert float(low.value.max()) < 90

    racing = Effect("tachycardia", START_MS + DAY_MS, START_MS + DAY_MS + 40 * MINUTE_MS, 160)
    day = patient(3, 11, racing).readings(START_MS, START_MS + 2 * DAY_MS)
    assert float(within(day["heart_rate"], racing).value.min()) > 140
    assert float(within(day["steps"], racing).value.sum()) == 0

    fever = Effect("fever", START_MS + DAY_MS, START_MS + DAY_MS + 12 * HOUR_MS, 39.5)
    warm = within(
        patient(3, 11, fever, patch=True).readings(START_MS, START_MS + 2 * DAY_MS)["body_temperature"], fever
    )
    assert 39.2 < float(warm.value.max()) < 39.8

    off = Effect("not_worn", START_MS + DAY_MS, START_MS + DAY_MS + 8 * HOUR_MS)
    day = patient(3, 11, off).readings(off.start_ms, off.end_ms)
    assert "heart_rate" not in day
    assert float(day["wear"].value.max()) == 0


def test_infection_raises_nights_gradually() -> None:
    ill = Effect("infection", START_MS + 5 * DAY_MS, START_MS + 12 * DAY_MS, 9)
    well, sick = patient(), patient(3, 11, ill)
    span = (START_MS, START_MS + 14 * DAY_MS)
    before, after = well.readings(*span)["heart_rate"], sick.readings(*span)["heart_rate"]
    rise = [
        float(np.median(after.between(t, t + DAY_MS).value)) - float(np.median(before.between(t, t + DAY_MS).value))
        for t in range(*span, DAY_MS)
    ]
    assert max(map(abs, rise[:5])) < 1
    assert 0 < rise[5] < rise[8]
    assert 5 < max(rise[7:10]) < 12
    assert abs(rise[13]) < 1


def test_a_device_sends_all_it_measured_once_where_nothing_is_wrong() -> None:
    device = SimulatedDevice(patient())
    frames = [
        frame for hour in range(0, 48, 6)
        for frame in device.parcel(START_MS + hour * HOUR_MS, START_MS + (hour + 6) * HOUR_MS).frames
    ]  # fmt: skip
    measured = patient().readings(START_MS, START_MS + 2 * DAY_MS)
    sent = sum(len(block.values) // (2 if block.dtype == "i2" else 4) for frame in frames for block in frame.blocks)
    assert sent == sum(len(one.t_ms) for one in measured.values())
    assert [frame.seq for frame in frames] == list(range(len(frames)))


def test_troubles_on_the_way() -> None:
    window = (START_MS + 6 * HOUR_MS, START_MS + 12 * HOUR_MS)
    steps = [(START_MS + hour * HOUR_MS, START_MS + (hour + 6) * HOUR_MS) for hour in range(0, 24, 6)]

    def parcels(trouble: Trouble) -> list[list[int]]:
        device = SimulatedDevice(patient(), (trouble,))
        return [[frame.seq for frame in device.parcel(*step, frame_min=60).frames] for step in steps]

    calm = [list(range(6 * i, 6 * i + 6)) for i in range(4)]
    assert parcels(Trouble("off", START_MS - 1, START_MS)) == calm
    assert parcels(Trouble("off", *window)) == [calm[0], [], calm[1], calm[2]]
    held = parcels(Trouble("held", *window))
    assert held == [calm[0], [], calm[2], calm[3] + calm[1]]  # the newest first, the rest at the next occasion
    again = parcels(Trouble("resent", *window))
    assert again[:2] == calm[:2]
    assert len(again[2]) > 6


def test_swapped_frames_stay_within_the_reordering_bound() -> None:
    device = SimulatedDevice(patient(), (Trouble("swapped", START_MS, START_MS + 12 * HOUR_MS),))
    frames = device.parcel(START_MS, START_MS + 12 * HOUR_MS).frames
    newest = swaps = 0
    for frame in frames:
        first = min(block.t0_ms for block in frame.blocks)
        assert first > newest - 120_000
        swaps += first < newest
        newest = max(newest, first)
    assert swaps > 200
