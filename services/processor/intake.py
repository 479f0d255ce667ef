"""Records to readings: decode, sort out what is dead, flatten the frames into one table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
import numpy as np

from ingest.catalogue import by_id
from ingest.frame import (
    MAX_SAMPLES,
    MAX_SPAN_MS,
    QUARANTINED,
    StampedBlock,
    StampedFrame,
    Tick,
    UnknownVersion,
    block_quality,
    block_times_ms,
    block_values,
    decode_stamped,
)
from services import topics
from services.control import KINDS, ControlMessage
from services.monitoring import STATES
from services.processor.readings import Table
from services.processor.records import ControlRecord, DeadRecord, Record, Waveform
from services.reasons import DeadReason

MAX_DETAIL: Final = 300  # characters of an error kept with a dead record
EARLIEST_MS: Final = 946_684_800_000  # 2000-01-01: the doors refuse anything before


_control_decoder = msgspec.msgpack.Decoder(Tick | ControlMessage)


@dataclass(slots=True)
class Intake:
    """A batch, decoded. ``patient`` ids stand in ``readings.slot`` until the core gives them places."""

    frames: list[StampedFrame] = field(default_factory=list)
    readings: Table = field(default_factory=Table.empty)
    waveforms: list[tuple[int, Waveform]] = field(default_factory=list)  # (frame index, block)
    dead: list[DeadRecord] = field(default_factory=list)
    control: list[ControlRecord] = field(default_factory=list)


def take_in(records: list[Record]) -> Intake:
    """Decode every record; whatever can't be decoded is dead with its reason, never an exception."""
    intake = Intake()
    parts: list[Table] = []
    for record in records:
        try:
            if record.topic == topics.CONTROL:
                _take_control(record, intake)
            else:
                _take_frame(record, intake, parts)
        except (msgspec.DecodeError, ValueError, KeyError, OverflowError) as error:
            intake.dead.append(DeadRecord(record, _reason(error), str(error)[:MAX_DETAIL]))
    intake.readings = Table.concatenate(parts)
    return intake


class Unfit(ValueError):
    """A record can't be taken in, for a reason of its own."""

    def __init__(self, reason: DeadReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _reason(error: Exception) -> DeadReason:
    if isinstance(error, Unfit):
        return error.reason
    if isinstance(error, UnknownVersion):
        return DeadReason.UNKNOWN_VERSION
    if isinstance(error, msgspec.ValidationError):
        return DeadReason.WRONG_SHAPE
    if isinstance(error, msgspec.DecodeError):
        return DeadReason.NOT_MSGPACK
    return DeadReason.IMPOSSIBLE_CONTENT


def _take_control(record: Record, intake: Intake) -> None:
    message = _control_decoder.decode(record.value)
    if isinstance(message, ControlMessage):
        if message.kind not in KINDS:
            msg = f"kind {message.kind!r} is not one of {', '.join(KINDS)}; the writer is newer than this processor"
            raise ValueError(msg)
        if message.kind == "monitoring" and message.payload["state"] not in STATES:
            msg = f"monitoring state {message.payload['state']!r} is not one of {', '.join(STATES)}"
            raise ValueError(msg)
        intake.control.append(ControlRecord(record, message))


def _take_frame(record: Record, intake: Intake, parts: list[Table]) -> None:
    frame = decode_stamped(record.value)
    if record.key != b"%d" % frame.patient_id:
        raise Unfit(DeadReason.WRONG_KEY, f"record key {record.key!r} is not patient {frame.patient_id}")
    index = len(intake.frames)
    blocks = [_read_block(block, frame, index) for block in frame.blocks]
    intake.frames.append(frame)
    for block in blocks:
        if isinstance(block, Table):
            parts.append(block)
        else:
            intake.waveforms.append((index, block))


def _read_block(block: StampedBlock, frame: StampedFrame, index: int) -> Table | Waveform:
    metric = by_id().get(block.metric_id)
    if metric is None:
        raise Unfit(DeadReason.UNKNOWN_METRIC, f"metric {block.metric_id} is not in the catalogue")
    if metric.kind == "waveform":
        return _waveform(block, frame)
    values = block_values(block).astype(np.float32)
    n = len(values)
    times = block_times_ms(block, n)
    quality = block_quality(block, n)
    if not n or len(times) != n or len(quality) != n:
        msg = f"block of {metric.key} has {n} values, {len(times)} instants and {len(quality)} qualities"
        raise ValueError(msg)
    if times[0] < EARLIEST_MS or times[-1] - times[0] > MAX_SPAN_MS or np.any(np.diff(times) < 0):
        msg = f"block of {metric.key} is before 2000, spans more than an hour or goes backwards"
        raise ValueError(msg)
    return Table(
        np.full(n, frame.patient_id, np.intp),
        np.full(n, frame.device_id, np.int32),
        np.full(n, metric.id, np.int16),
        times,
        values,
        quality,
        np.full(n, index, np.int32),
    )


def _waveform(block: StampedBlock, frame: StampedFrame) -> Waveform:
    sample = np.frombuffer(block.values, "<i2").astype(np.int16)
    n = len(sample)
    quality = None if block.quality is None else np.frombuffer(block.quality, np.uint8)
    if not 1 <= n <= MAX_SAMPLES or block.dtype != "i2" or (quality is not None and len(quality) != n):
        msg = f"waveform block of {n} samples ({block.dtype}); 1 to {MAX_SAMPLES} of int16 are allowed, a quality each"
        raise ValueError(msg)
    span_us = (n - 1) * block.step_us
    if block.t0_ms < EARLIEST_MS or not n - 1 <= span_us <= MAX_SPAN_MS * 1000:
        msg = (
            f"waveform block at {block.t0_ms} ms, step {block.step_us} µs: before 2000, standing still or over an hour"
        )
        raise ValueError(msg)
    scale, offset = float(np.float32(block.scale)), float(np.float32(block.offset))
    if not scale or not np.isfinite([scale, offset]).all():
        msg = f"waveform block with scale {block.scale} and offset {block.offset}: a float32 holds neither 0 nor these"
        raise ValueError(msg)
    return Waveform(
        frame.patient_id, block.metric_id, frame.device_id, block.t0_ms * 1000, block.step_us,
        scale, offset, sample, quality,
    )  # fmt: skip


def leave_out(taken: Intake, patients: set[int]) -> None:
    """Take the frames of these patients out, in place."""
    kept = [i for i, frame in enumerate(taken.frames) if frame.patient_id not in patients]
    renumber = np.full(len(taken.frames), -1, np.int32)
    renumber[kept] = np.arange(len(kept))
    readings = taken.readings[renumber[taken.readings.frame] >= 0]
    taken.readings = replace(readings, frame=renumber[readings.frame])
    taken.waveforms = [(int(renumber[i]), waveform) for i, waveform in taken.waveforms if renumber[i] >= 0]
    taken.frames = [taken.frames[i] for i in kept]


def split_quarantined(table: Table) -> tuple[Table, Table]:
    """Return (readings, quarantined): values the doors found impossible never become readings."""
    bad = table.quality >= QUARANTINED
    return table[~bad], table[bad]
