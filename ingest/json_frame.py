"""The readable form of a frame: JSON with metric keys, RFC 3339 times and plain numbers.

    {"frames": [{"session": "2026-11-22", "seq": 1, "utc_offset_min": 60, "blocks": [
        {"metric": "heart_rate", "t0": "2026-11-22T12:00:00Z", "step_s": 60, "values": [72, 74, 71]}]}]}

``revision`` (0 where it is left out) replaces what the device sent before with a lower one.
``unit`` may be left out (the catalogue's), ``times`` may stand for ``t0`` and ``step_s``, and every time may
be given in Unix milliseconds instead. Numbers are strict: neither strings nor booleans are values.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest import frame as wire
from ingest.catalogue import catalogue
from ingest.clock import to_ms
from ingest.frame import Block, DeviceStatus, Frame, Name, Revision, Seq
from ingest.validate import refuse

Moment = Annotated[datetime, msgspec.Meta(tz=True)] | int
FLOAT32_MAX = float(np.finfo(np.float32).max)


class JsonBlock(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Consecutive readings of one metric."""

    metric: str
    values: Annotated[list[float], msgspec.Meta(min_length=1, max_length=wire.MAX_READINGS)]
    unit: str | None = None
    times: list[Moment] | None = None
    t0: Moment | None = None
    step_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] | None = None
    quality: list[Annotated[int, msgspec.Meta(ge=0, le=255)]] | None = None


class JsonStatus(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a device says of itself."""

    battery_percent: float | None = None
    charging: bool | None = None
    worn: bool | None = None


class JsonFrame(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a device sends at once."""

    session: Name
    seq: Seq
    sent: Moment | None = None
    utc_offset_min: Annotated[int, msgspec.Meta(ge=-1080, le=1080)] = 0
    blocks: Annotated[list[JsonBlock], msgspec.Meta(max_length=wire.MAX_BLOCKS)] = []
    status: JsonStatus | None = None
    revision: Revision = 0


def from_json(frame: JsonFrame, now_ms: int) -> Frame:
    """Return the frame in the wire's own form; ``now_ms`` stands in for ``sent`` where it is left out.

    Raises:
        Rejected: times missing, contradictory or too far apart, or a value beyond float32.
    """
    status = frame.status
    return Frame(
        wire.FRAME_VERSION,
        frame.session,
        frame.seq,
        now_ms if frame.sent is None else _ms(frame.sent),
        frame.utc_offset_min,
        [_block(block, f"blocks[{i}]") for i, block in enumerate(frame.blocks)],
        DeviceStatus(status.battery_percent, status.charging, status.worn) if status is not None else None,
        frame.revision,
    )


def _block(block: JsonBlock, at: str) -> Block:
    t0_ms, step_us, offsets = _instants(block, at)
    metric = catalogue().get(block.metric)
    unit = block.unit if block.unit is not None else metric.unit if metric is not None else ""
    quality = None if block.quality is None else bytes(block.quality)
    return Block(block.metric, unit, t0_ms, step_us, "f4", _values(block, at).tobytes(), offsets, quality)


def _values(block: JsonBlock, at: str) -> NDArray[np.float32]:
    values = np.array(block.values, np.float64)
    beyond = np.flatnonzero(np.abs(values) > FLOAT32_MAX)
    if beyond.size:
        i = int(beyond[0])
        refuse(f"{at}.values[{i}]", block.values[i], "a finite float32", "send the value in the metric's unit")
    return values.astype("<f4")


def _instants(block: JsonBlock, at: str) -> tuple[int, int, bytes | None]:
    n = len(block.values)
    if block.times is None:
        if block.t0 is None or (n > 1 and block.step_s is None):
            hint = "give every reading's instant, or the first one and the step"
            refuse(f"{at}.times", None, "times, or t0 with step_s", hint)
        return _ms(block.t0), round(block.step_s * 1e6) if block.step_s is not None else 0, None
    if block.t0 is not None or block.step_s is not None:
        refuse(f"{at}.t0", "beside times", "times, or t0 with step_s", "leave one of the two out")
    if len(block.times) != n:
        hint = "every value needs its instant"
        refuse(f"{at}.times", f"{len(block.times)} times", f"{n}, as many as values", hint)
    times = [_ms(moment) for moment in block.times]
    for i, ms in enumerate(times):
        if abs(ms - times[0]) > wire.MAX_SPAN_MS:
            refuse(f"{at}.times[{i}]", str(block.times[i]), "a span of 1 h at most", "cut the block at the hour")
    return times[0], 0, (np.array(times, np.int64) - times[0]).astype("<i4").tobytes()


def _ms(moment: datetime | int) -> int:
    return moment if isinstance(moment, int) else to_ms(moment)
