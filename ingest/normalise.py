"""From a checked block to the one that is kept: catalogue unit, float32 vitals, int16 waveforms, quality."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from ingest import frame as wire
from ingest.catalogue import Metric
from ingest.frame import StampedBlock
from ingest.units import SAME, suspected
from ingest.validate import CheckedBlock, refuse

FLOAT32_MAX = float(np.finfo(np.float32).max)
INT16_MAX = 32_767
MAX_STEP_US = 2**31 - 1  # the database's integer
FLOAT32, INT16, INT32 = np.dtype("<f4"), np.dtype("<i2"), np.dtype("<i4")


def normalise(checked: CheckedBlock, at: str) -> StampedBlock:
    """Return the block as it is kept; ``at`` names it in a refusal, e.g. ``blocks[0]``.

    A vital becomes float32 in the catalogue's unit with whole-millisecond steps, or offsets where its
    instants are uneven. A waveform stays int16 with its scale converted; one sent as float32 is quantised to
    16 bits of its range.

    Raises:
        Rejected: a value is not a finite number.
    """
    return _waveform(checked, at) if checked.metric.kind == "waveform" else _vital(checked, at)


def _vital(checked: CheckedBlock, at: str) -> StampedBlock:
    block, metric = checked.block, checked.metric
    if block.dtype == "f4" and checked.to_kept is SAME:
        values, data = checked.raw, block.values
    else:
        values = _float32(_exact(checked), at)
        data = values.tobytes()
    quality = quality_of(values, metric, block.quality, at)
    t0_ms, step_us, offsets = _instants(checked)
    return StampedBlock(metric.id, t0_ms, step_us, "f4", data, offsets, quality)


def _waveform(checked: CheckedBlock, at: str) -> StampedBlock:
    block, metric = checked.block, checked.metric
    factor, shift = checked.to_kept
    kept = _exact(checked)
    quality = quality_of(kept, metric, block.quality, at)
    t0_ms, step_us, offsets = _waveform_instants(checked, at)
    if block.dtype == "i2":
        scale, offset = block.scale * factor, block.offset * factor + shift
        return StampedBlock(metric.id, t0_ms, step_us, "i2", block.values, offsets, quality, scale, offset)
    kept = np.clip(kept, *metric.hard)  # an impossible sample is marked; it must not cost the others precision
    low, high = float(kept.min()), float(kept.max())
    offset = (low + high) / 2
    scale = (high - low) / 2 / INT16_MAX or 1.0
    samples = np.rint((kept - offset) / scale).astype(INT16)
    return StampedBlock(metric.id, t0_ms, step_us, "i2", samples.tobytes(), offsets, quality, scale, offset)


def _exact(checked: CheckedBlock) -> NDArray[np.float64]:
    values = checked.raw.astype(np.float64)
    if checked.block.dtype == "i2":
        values = values * checked.block.scale + checked.block.offset
    factor, shift = checked.to_kept
    return values if checked.to_kept is SAME else values * factor + shift


def _float32(values: NDArray[np.float64], at: str) -> NDArray[np.float32]:
    if not (np.abs(values) <= FLOAT32_MAX).all():
        _refuse_not_a_number(values, at)
    return values.astype(FLOAT32)


def quality_of(
    values: NDArray[np.float32] | NDArray[np.float64] | NDArray[np.int16],
    metric: Metric,
    sent: bytes | None,
    at: str,
) -> bytes | None:
    """Return the codes, shape (n,), or None when all are good; values outside a limit are marked."""
    low, high = float(values.min()), float(values.max())
    if not (low >= -FLOAT32_MAX and high <= FLOAT32_MAX):  # also true for NaN, which min and max hand on
        _refuse_not_a_number(values, at)
    if metric.soft[0] <= low and high <= metric.soft[1]:
        return sent if sent is not None and any(sent) else None
    codes = np.zeros(len(values), np.uint8) if sent is None else np.frombuffer(sent, np.uint8).copy()
    trusted = (codes == wire.GOOD) | (codes == wire.MOTION)
    codes[(codes == wire.GOOD) & _outside(values, metric.soft)] = wire.IMPLAUSIBLE
    impossible = np.flatnonzero(_outside(values, metric.hard))
    if impossible.size:
        other_unit = trusted[impossible] & suspected(metric, values[impossible].astype(np.float64))
        codes[impossible] = np.where(other_unit, wire.UNIT_SUSPECTED, wire.OUT_OF_RANGE)
    return codes.tobytes() if codes.any() else None


def _outside(
    values: NDArray[np.float32] | NDArray[np.float64] | NDArray[np.int16], limits: tuple[float, float]
) -> NDArray[np.bool_]:
    return (values < limits[0]) | (values > limits[1])


def _instants(checked: CheckedBlock) -> tuple[int, int, bytes | None]:
    """Return t0, step and offsets: the first reading at t0, even instants as a step of whole milliseconds."""
    block, n = checked.block, len(checked.raw)
    if checked.offsets is None:
        if n == 1:
            return block.t0_ms, 0, None
        if block.step_us % 1000 == 0 and block.step_us <= MAX_STEP_US:
            return block.t0_ms, block.step_us, None
        offsets = (np.arange(n, dtype=np.int64) * block.step_us // 1000).astype(INT32)
        return block.t0_ms, 0, offsets.tobytes()
    first = int(checked.offsets[0])
    if n == 1:
        return block.t0_ms + first, 0, None
    step_ms = int(checked.offsets[1]) - first
    if 0 < step_ms <= MAX_STEP_US // 1000 and (np.diff(checked.offsets) == step_ms).all():
        return block.t0_ms + first, step_ms * 1000, None
    moved = checked.offsets if first == 0 else (checked.offsets - first).astype(INT32)
    return block.t0_ms + first, 0, moved.tobytes()


def _waveform_instants(checked: CheckedBlock, at: str) -> tuple[int, int, bytes | None]:
    """Return t0, step and None: a waveform is sampled evenly, sub-millisecond steps included."""
    if checked.offsets is None:
        return checked.block.t0_ms, checked.block.step_us if len(checked.raw) > 1 else 0, None
    t0_ms, step_us, offsets = _instants(checked)
    if offsets is not None:
        hint = "send step_us; start a new block after a gap"
        refuse(f"{at}.offsets_ms", "uneven instants", f"an even step for {checked.metric.key}", hint)
    return t0_ms, step_us, None


def _refuse_not_a_number(values: NDArray[np.float32] | NDArray[np.float64] | NDArray[np.int16], at: str) -> NoReturn:
    i = int(np.flatnonzero(~(np.abs(values) <= FLOAT32_MAX))[0])
    hint = "leave a missing value out and mark a doubtful one in quality"
    refuse(f"{at}.values[{i}]", str(values[i]), "a finite float32", hint)
