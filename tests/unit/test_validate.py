"""What a frame must be: each refusal names field, value, what is allowed and the next step."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from ingest import frame as wire
from ingest.assign import Assignment, Device, stamp
from ingest.catalogue import catalogue
from ingest.frame import (
    Block,
    DeviceStatus,
    Frame,
    StampedBlock,
    StampedFrame,
    block_quality,
    block_times_ms,
    block_values,
)
from ingest.units import conversion
from ingest.validate import Rejected

NOW = 1_795_348_800_000  # 2026-11-22T12:00:00Z
MINUTE = 60_000_000
FOREVER = 2**62


def block(metric: str = "heart_rate", values: Any = (72, 73, 74), **changes: Any) -> Block:
    fields: dict[str, Any] = {
        "metric": metric,
        "unit": catalogue()[metric].unit if metric in catalogue() else "/min",
        "t0_ms": NOW - 3_600_000,
        "step_us": MINUTE,
        "dtype": "f4",
        "values": values if isinstance(values, bytes) else np.array(values, "<f4").tobytes(),
    }
    return Block(**fields | changes)


def frame(*blocks: Block, **changes: Any) -> Frame:
    fields: dict[str, Any] = {
        "version": 1, "session": "s", "seq": 1, "sent_ms": NOW, "utc_offset_min": 0, "blocks": list(blocks),
    }  # fmt: skip
    return Frame(**fields | changes)


def device(*assignments: Assignment) -> Device:
    return Device(5, "watch-1", 2, assignments or (Assignment(9, 0, FOREVER),))


def kept(*blocks: Block) -> list[StampedBlock]:
    (stamped,) = stamp(frame(*blocks), device(), NOW)
    return stamped.blocks


def values_of(stamped: StampedBlock) -> list[float]:
    return [round(float(value), 4) for value in block_values(stamped)]


def offsets(*ms: int) -> bytes:
    return np.array(ms, "<i4").tobytes()


def test_a_good_frame_is_stamped() -> None:
    (stamped,) = stamp(frame(block()), device(), NOW)
    assert stamped.frame_id == "watch-1~s~1"
    assert (stamped.patient_id, stamped.device_id, stamped.organisation_id) == (9, 5, 2)
    assert stamped.received_ms == NOW
    assert values_of(stamped.blocks[0]) == [72, 73, 74]
    assert stamped.blocks[0].quality is None


REFUSED = [
    ({"metric": "hart_rate"}, "blocks[0].metric", "heart_rate"),
    ({"metric": "zzz"}, "blocks[0].metric", "glucose"),
    ({"unit": "bpm"}, "blocks[0].unit", "/min"),
    ({"dtype": "f8"}, "blocks[0].dtype", "float32"),
    ({"values": b"\x00" * 7}, "blocks[0].values", "several blocks"),
    ({"values": b""}, "blocks[0].values", "several blocks"),
    ({"values": b"\x00" * 4 * 3601, "step_us": 1000}, "blocks[0].values", "several blocks"),
    ({"values": np.array([1, np.nan], "<f4").tobytes()}, "blocks[0].values[1]", "quality"),
    ({"values": np.array([np.inf], "<f4").tobytes()}, "blocks[0].values[0]", "quality"),
    ({"values": np.array([-np.inf, 70], "<f4").tobytes()}, "blocks[0].values[0]", "quality"),
    ({"step_us": 0}, "blocks[0].step_us", "step"),
    ({"step_us": -5}, "blocks[0].step_us", "step"),
    ({"step_us": 1_900_000_000}, "blocks[0].times", "hour"),
    ({"offsets_ms": offsets(0, 1)}, "blocks[0].offsets_ms", "int32"),
    ({"offsets_ms": offsets(0, 5000, 4999)}, "blocks[0].times[2]", "sort"),
    ({"offsets_ms": offsets(0, 1, 3_600_001)}, "blocks[0].times", "hour"),
    ({"quality": b"\x00"}, "blocks[0].quality", "reading"),
    ({"quality": b"\x00\x00\x09"}, "blocks[0].quality", "0 good"),
    ({"quality": b"\x00\x00\xc8"}, "blocks[0].quality", "0 good"),
    ({"t0_ms": 0}, "blocks[0].t0_ms", "clock"),
    ({"t0_ms": 946_684_799_999}, "blocks[0].t0_ms", "clock"),
    ({"t0_ms": NOW + 24 * 3_600_000 + 1}, "blocks[0].t0_ms", "clock"),
    ({"t0_ms": NOW + 24 * 3_600_000 - 1}, "blocks[0].times", "clock"),
    ({"t0_ms": 2**62}, "blocks[0].t0_ms", "clock"),
    ({"dtype": "i2", "values": b"\x00\x00", "scale": float("nan")}, "blocks[0].scale, offset", "raw"),
    ({"dtype": "i2", "values": b"\x00\x00", "scale": 0.0}, "blocks[0].scale, offset", "raw"),
]


@pytest.mark.parametrize(("changes", "field", "hint"), REFUSED)
def test_what_cannot_be_read_is_refused_with_its_reason(changes: dict[str, Any], field: str, hint: str) -> None:
    wrong = msgspec.structs.replace(block(), **changes)
    with pytest.raises(Rejected) as caught:
        stamp(frame(wrong), device(), NOW)
    assert caught.value.field == field
    assert hint in caught.value.hint
    assert caught.value.allowed


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"version": 2}, "version"),
        ({"sent_ms": 5}, "sent_ms"),
        ({"blocks": []}, "blocks"),
        ({"status": DeviceStatus(battery_percent=101.0)}, "status.battery_percent"),
        ({"status": DeviceStatus(battery_percent=float("nan"))}, "status.battery_percent"),
    ],
)
def test_what_is_wrong_with_the_frame_itself(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Rejected) as caught:
        stamp(msgspec.structs.replace(frame(block()), **changes), device(), NOW)
    assert caught.value.field == field


def test_the_edges_that_are_allowed() -> None:
    oldest = block(values=[72], t0_ms=946_684_800_000)
    newest = block(values=[72], t0_ms=NOW + 24 * 3_600_000)
    hour = block(values=[72, 73], offsets_ms=offsets(0, 3_600_000))
    twice = block(values=[72, 73], offsets_ms=offsets(0, 0))
    assert len(kept(oldest, newest, hour, twice)) == 4


def test_units_are_converted_to_the_catalogue() -> None:
    (fahrenheit,) = kept(block("body_temperature", [98.6], unit="[degF]"))
    (pressure,) = kept(block("systolic_pressure", [16.0], unit="kPa"))
    (saturation,) = kept(block("spo2", [0.97], unit="1"))
    assert values_of(fahrenheit) == [37.0]
    assert values_of(pressure) == [120.0099]
    assert values_of(saturation) == [97.0]


def test_impossible_values_are_marked_and_unlikely_ones_implausible() -> None:
    """An unlikely value stays one for the safety limits: a heart rate of 25 is what they are for."""
    (stamped,) = kept(block(values=[72, 25, 301, 72], quality=bytes([0, 0, 0, 2])))
    assert list(block_quality(stamped, 4)) == [wire.GOOD, wire.IMPLAUSIBLE, wire.OUT_OF_RANGE, wire.POOR_SIGNAL]


@pytest.mark.parametrize(
    ("metric", "value", "unit", "code"),
    [
        ("body_temperature", 98.6, "Cel", wire.UNIT_SUSPECTED),  # Fahrenheit sent as Celsius
        ("body_temperature", 37.0, "[degF]", wire.UNIT_SUSPECTED),  # and the other way round
        ("body_temperature", 60.0, "Cel", wire.OUT_OF_RANGE),
        ("glucose", 5.5, "mg/dL", wire.UNIT_SUSPECTED),
        ("glucose", 99.0, "mmol/L", wire.UNIT_SUSPECTED),
        ("glucose", 21.0, "mg/dL", wire.IMPLAUSIBLE),  # inside the hard range it is taken at its word
        ("glucose", 0.5, "mg/dL", wire.OUT_OF_RANGE),
        ("spo2", 0.97, "%", wire.UNIT_SUSPECTED),
        ("spo2", 30.0, "%", wire.OUT_OF_RANGE),
        ("systolic_pressure", 16.0, "mm[Hg]", wire.UNIT_SUSPECTED),
        ("weight", 450.0, "kg", wire.UNIT_SUSPECTED),
        ("weight", 70_000.0, "kg", wire.UNIT_SUSPECTED),
        ("heart_rate", 1.2, "/min", wire.UNIT_SUSPECTED),
        ("heart_rate", 900.0, "/min", wire.OUT_OF_RANGE),
    ],
)
def test_a_wrong_unit_is_suspected_and_never_converted(metric: str, value: float, unit: str, code: int) -> None:
    (stamped,) = kept(block(metric, [value], unit=unit))
    assert list(block_quality(stamped, 1)) == [code]
    to_kept = conversion(catalogue()[metric], unit)
    assert to_kept is not None
    assert values_of(stamped) == [pytest.approx(value * to_kept.factor + to_kept.offset, rel=1e-5)]


def test_a_doubted_value_is_not_taken_for_a_wrong_unit() -> None:
    (stamped,) = kept(block("spo2", [0.97], quality=bytes([wire.NOT_WORN])))
    assert list(block_quality(stamped, 1)) == [wire.OUT_OF_RANGE]


def test_quality_of_all_good_is_left_out() -> None:
    assert kept(block(quality=b"\x00\x00\x00"))[0].quality is None


def test_vitals_sent_as_int16_become_float32() -> None:
    sent = block("body_temperature", dtype="i2", values=np.array([365, 370], "<i2").tobytes(), scale=0.1)
    (stamped,) = kept(sent)
    assert (stamped.dtype, stamped.scale, stamped.offset) == ("f4", 1.0, 0.0)
    assert values_of(stamped) == [36.5, 37.0]


def test_instants_are_steps_when_even_and_offsets_when_not() -> None:
    (even,) = kept(block(offsets_ms=offsets(500, 1500, 2500)))
    assert (even.t0_ms, even.step_us, even.offsets_ms) == (NOW - 3_600_000 + 500, 1_000_000, None)
    (uneven,) = kept(block(offsets_ms=offsets(500, 1500, 2600)))
    assert (uneven.t0_ms, uneven.step_us, uneven.offsets_ms) == (NOW - 3_600_000 + 500, 0, offsets(0, 1000, 2100))
    (broken,) = kept(block(step_us=333_333))
    assert (broken.step_us, broken.offsets_ms) == (0, offsets(0, 333, 666))
    (single,) = kept(block(values=[72], step_us=7))
    assert (single.step_us, single.offsets_ms) == (0, None)


def test_waveforms_stay_int16_and_take_their_unit_into_the_scale() -> None:
    raw = np.array([-100, 0, 100], "<i2").tobytes()
    (ecg,) = kept(block("ecg", dtype="i2", values=raw, step_us=3_333, unit="uV", scale=2.5))
    assert (ecg.dtype, ecg.values, ecg.step_us) == ("i2", raw, 3_333)
    assert values_of(ecg) == [-0.25, 0, 0.25]


def test_waveforms_sent_as_float32_are_quantised() -> None:
    sent = np.sin(np.arange(500) / 10)
    (ecg,) = kept(block("ecg", sent, step_us=4_000))
    assert ecg.dtype == "i2"
    assert np.abs(block_values(ecg) - sent).max() < 2.0 / 65_534
    (flat,) = kept(block("ecg", [0.5, 0.5], step_us=4_000))
    assert values_of(flat) == [0.5, 0.5]


def test_an_impossible_sample_costs_the_others_no_precision() -> None:
    (ecg,) = kept(block("ecg", [0.001, 1e30, 0.002], step_us=4_000))
    assert list(block_quality(ecg, 3)) == [wire.GOOD, wire.OUT_OF_RANGE, wire.GOOD]
    assert np.allclose(block_values(ecg)[[0, 2]], [0.001, 0.002], atol=5e-4)


def test_a_frame_is_split_where_the_device_changed_hands() -> None:
    change = NOW - 3_600_000 + 60_000
    hands = device(Assignment(9, 0, change), Assignment(10, change, FOREVER))
    quality = bytes([0, 0, 2])
    parts = stamp(frame(block(quality=quality), status=DeviceStatus(worn=True)), hands, NOW)
    assert [(part.patient_id, part.frame_id) for part in parts] == [(9, "watch-1~s~1"), (10, "watch-1~s~1~2")]
    assert [values_of(part.blocks[0]) for part in parts] == [[72], [73, 74]]
    assert [part.blocks[0].t0_ms for part in parts] == [NOW - 3_600_000, change]
    assert [part.blocks[0].quality for part in parts] == [None, bytes([0, 2])]
    assert [part.status for part in parts] == [None, DeviceStatus(worn=True)]


@pytest.mark.parametrize(
    "assignments",
    [
        (Assignment(9, NOW, FOREVER),),
        (Assignment(9, 0, NOW - 3_600_000 + 60_000),),
        (Assignment(9, 0, NOW - 3_600_000 + 60_000), Assignment(9, NOW - 3_600_000 + 60_001, FOREVER)),
    ],
)
def test_readings_while_nobody_wore_the_device_are_refused(assignments: tuple[Assignment, ...]) -> None:
    with pytest.raises(Rejected, match="assign watch-1 to a patient") as caught:
        stamp(frame(block()), device(*assignments), NOW)
    assert caught.value.field.startswith("blocks[0].times[")


def test_a_status_alone_is_a_frame() -> None:
    (stamped,) = stamp(frame(status=DeviceStatus(battery_percent=5)), device(), NOW)
    assert stamped.blocks == []
    assert stamped.status == DeviceStatus(battery_percent=5)


def test_a_frame_too_large_for_a_record_is_refused() -> None:
    big = block(values=np.full(3600, 72), step_us=1_000_000, offsets_ms=offsets(*np.arange(3600) ** 2 // 3600))
    with pytest.raises(Rejected, match="fewer blocks"):
        stamp(frame(*[big] * 64), device(), NOW)


def test_split_blocks_hold_every_reading_once() -> None:
    change = NOW - 3_600_000 + 1_500
    hands = device(Assignment(9, 0, change), Assignment(10, change, FOREVER))
    sent = block(offsets_ms=offsets(0, 1000, 2600))
    parts: list[StampedFrame] = stamp(frame(sent), hands, NOW)
    instants = [int(t) for part in parts for b in part.blocks for t in block_times_ms(b, len(b.values) // 4)]
    assert instants == [int(t) for t in block_times_ms(sent, 3)]
