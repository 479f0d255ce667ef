"""Whatever is sent: it is taken whole and unchanged, or refused with a reason; nothing else happens."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import frame as wire
from ingest import parse
from ingest.assign import Assignment, Device, stamp
from ingest.catalogue import catalogue
from ingest.frame import Block, Frame, block_quality, block_times_ms, block_values, decode_frame, encode
from ingest.units import accepted_units, conversion
from ingest.validate import Rejected

NOW = 1_795_348_800_000
VITALS = sorted(key for key, metric in catalogue().items() if metric.kind != "waveform")
floats = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6)


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    metric = catalogue()[draw(st.sampled_from(VITALS))]
    values = np.array(draw(st.lists(floats, min_size=1, max_size=40)), "<f4")
    t0_ms = NOW - draw(st.integers(0, 10**9))
    quality = draw(
        st.none() | st.binary(min_size=len(values), max_size=len(values)).map(lambda b: bytes(x % 5 for x in b))
    )
    unit = draw(st.sampled_from(accepted_units(metric)))
    if draw(st.booleans()):
        steps = draw(st.lists(st.integers(0, 50_000), min_size=len(values), max_size=len(values)))
        offsets = np.cumsum(steps).astype("<i4").tobytes()
        return Block(metric.key, unit, t0_ms, 0, "f4", values.tobytes(), offsets, quality)
    step_us = draw(st.integers(1, 80_000_000))
    return Block(metric.key, unit, t0_ms, step_us, "f4", values.tobytes(), None, quality)


@st.composite
def devices(draw: st.DrawFn) -> Device:
    cuts = sorted(set(draw(st.lists(st.integers(NOW - 10**9, NOW + 10**7), max_size=3))))
    edges = [0, *cuts, 2**62]
    return Device(
        5, "w", 1, tuple(Assignment(i + 1, a, b) for i, (a, b) in enumerate(zip(edges, edges[1:], strict=False)))
    )


@given(st.lists(blocks(), min_size=1, max_size=5), devices())
def test_every_reading_is_stamped_once_with_its_instant_value_and_patient(sent: list[Block], device: Device) -> None:
    frame = Frame(1, "s", 7, NOW, 0, sent)
    parts = stamp(frame, device, NOW)
    assert len({part.frame_id for part in parts}) == len(parts) == len({part.patient_id for part in parts})
    wanted, got = [], []
    for block in sent:
        metric = catalogue()[block.metric]
        affine = conversion(metric, block.unit)
        assert affine is not None
        values = block_values(block)
        if block.unit != metric.unit:
            values = (values * affine.factor + affine.offset).astype(np.float32).astype(np.float64)
        for t, value in zip(block_times_ms(block, len(values)), values, strict=True):
            (owner,) = (a.patient_id for a in device.assignments if a.from_ms <= t < a.to_ms)
            wanted.append((metric.id, owner, int(t), float(value)))
    for part in parts:
        for kept in part.blocks:
            values = block_values(kept)
            times = block_times_ms(kept, len(values))
            assert times[0] == kept.t0_ms
            assert kept.step_us % 1000 == 0
            codes = block_quality(kept, len(values))
            low, high = next(metric.hard for metric in catalogue().values() if metric.id == kept.metric_id)
            assert ((codes >= wire.QUARANTINED) == ((values < low) | (values > high))).all()
            got += [(kept.metric_id, part.patient_id, int(t), float(v)) for t, v in zip(times, values, strict=True)]
    assert sorted(got) == sorted(wanted)


@given(st.lists(blocks(), max_size=3), st.integers(0, 2**53 - 1), st.integers(-1080, 1080))
def test_the_wire_gives_back_what_it_was_given(sent: list[Block], seq: int, offset: int) -> None:
    frame = Frame(1, "s-1:x", seq, NOW, offset, sent)
    assert decode_frame(encode(frame)) == frame


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(max_size=9), inner, max_size=9),
    max_leaves=40,
)


@given(st.lists(anything, min_size=1, max_size=4))
def test_any_msgpack_is_stamped_or_rejected(sent: list[object]) -> None:
    device = Device(5, "w", 1, (Assignment(1, 0, 2**62),))
    for raw in parse.split(msgspec.msgpack.encode(sent), "msgpack"):
        with pytest.raises(Rejected) as caught:
            stamp(parse.parse(raw, "msgpack", NOW), device, NOW)
        assert caught.value.field
        parse.identity(raw, "msgpack")


near_frame = st.fixed_dictionaries(
    {"session": st.text(max_size=4) | anything, "seq": st.integers(-1, 2**54) | anything},
    optional={
        "sent": anything,
        "utc_offset_min": anything,
        "status": anything,
        "blocks": anything
        | st.lists(
            st.fixed_dictionaries(
                {
                    "metric": st.sampled_from([*VITALS, "x"]),
                    "values": anything | st.lists(st.floats() | anything, max_size=3),
                },
                optional={"t0": st.integers(0, 2**63 - 1), "step_s": anything, "times": anything, "unit": anything},
            ),
            max_size=3,
        ),
    },
)


def without_bytes(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [without_bytes(one) for one in value]
    if isinstance(value, dict):
        return {key: without_bytes(one) for key, one in value.items()}
    return value


@given(near_frame)
def test_any_json_is_stamped_or_rejected(sent: dict[str, object]) -> None:
    device = Device(5, "w", 1, (Assignment(1, 0, 2**62),))
    (raw,) = parse.split(msgspec.json.encode({"frames": [without_bytes(sent)]}), "json")
    try:
        stamp(parse.parse(raw, "json", NOW), device, NOW)
    except Rejected as error:
        reason = error.field and error.allowed and error.hint
        assert reason, str(error)  # noqa: PT017 - being taken is fine too


@given(st.binary(max_size=200), st.sampled_from(["json", "msgpack"]))
def test_any_bytes_are_split_or_unreadable(body: bytes, form: parse.Form) -> None:
    try:
        parse.split(body, form)
    except (parse.Unreadable, parse.TooMany) as error:
        assert str(error)  # noqa: PT017 - being split is fine too
