"""Is this frame well formed and believable? Each refusal says what is allowed and the next step.

Two tiers: what makes a frame unreadable (structure, metric, unit, times) rejects all of it with `Rejected`;
values that cannot be true only mark their readings, which is `ingest.normalise`'s work.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from ingest import frame as wire
from ingest.catalogue import Metric, catalogue, nearest
from ingest.clock import to_datetime
from ingest.frame import Block, Frame
from ingest.units import Affine, accepted_units, conversion

EARLIEST_MS = 946_684_800_000  # 2000-01-01: no wearable is older, so an earlier clock was never set
FUTURE_MS = 24 * 3_600_000  # further ahead is a broken clock; smaller skews are the processor's matter
MAX_STEP_US = wire.MAX_SPAN_MS * 1000
LAST_SHOWN_MS = 253_402_300_799_999  # the year 9999, the last a datetime can show
SENT_QUALITY = (wire.GOOD, wire.QUESTIONABLE, wire.POOR_SIGNAL, wire.NOT_WORN, wire.MOTION)
SHOWN = 80  # characters of a refused value that are repeated in the answer


class Rejected(ValueError):
    """A frame is refused: ``field`` held ``value``; ``allowed`` may stand there; ``hint`` is what to do."""

    def __init__(self, field: str, value: object, allowed: str, hint: str) -> None:
        super().__init__(f"{field} = {value!r}: allowed is {allowed}; {hint}")
        self.field = field
        self.value = value if isinstance(value, int | float | bool | None) else str(value)[:SHOWN]
        self.allowed = allowed
        self.hint = hint


def refuse(field: str, value: object, allowed: str, hint: str) -> NoReturn:
    """Raise `Rejected`."""
    raise Rejected(field, value, allowed, hint)


class CheckedBlock(NamedTuple):
    """A block whose structure holds; ``raw`` and ``offsets`` are views of its bytes, shape (n,)."""

    block: Block
    metric: Metric
    to_kept: Affine
    raw: NDArray[np.float32] | NDArray[np.int16]
    offsets: NDArray[np.int32] | None
    last_ms: int


def check_frame(frame: Frame, now_ms: int) -> list[CheckedBlock]:
    """Return the frame's blocks, checked, in their order.

    Raises:
        Rejected: the frame cannot be taken.
    """
    if frame.version != wire.FRAME_VERSION:
        hint = "write the frame in this version, or ask for a newer gateway"
        refuse("version", frame.version, str(wire.FRAME_VERSION), hint)
    _check_instant("sent_ms", frame.sent_ms, now_ms)
    if not frame.blocks and frame.status is None:
        refuse("blocks", "[]", "1 to 64 blocks, or a status", "leave empty frames unsent")
    battery = frame.status.battery_percent if frame.status is not None else None
    if battery is not None and not 0 <= battery <= 100:
        refuse("status.battery_percent", battery, "0 to 100", "send percent, or null when not known")
    return [_check_block(block, f"blocks[{i}]", now_ms) for i, block in enumerate(frame.blocks)]


def suggest(name: str, known: Iterable[str]) -> str:
    """Return the hint "did you mean …?" for an unknown name, or the list of known ones."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"


def _check_block(block: Block, at: str, now_ms: int) -> CheckedBlock:
    metric = catalogue().get(block.metric)
    if metric is None:
        near = nearest(block.metric)
        hint = f"did you mean {near}?" if near else "known: " + ", ".join(catalogue())
        refuse(f"{at}.metric", block.metric, "a metric of the catalogue", hint)
    to_kept = conversion(metric, block.unit)
    if to_kept is None:
        units = ", ".join(accepted_units(metric))
        refuse(f"{at}.unit", block.unit, units, f"{metric.key} is kept in {metric.unit}; send a UCUM code")
    raw = _check_values(block, metric, at)
    _check_quality(block, len(raw), at)
    offsets, first_ms, last_ms = _check_times(block, len(raw), at)
    _check_instant(f"{at}.t0_ms", first_ms, now_ms)
    if last_ms - first_ms > wire.MAX_SPAN_MS:
        hint = "cut the block at the hour"
        refuse(f"{at}.times", f"{last_ms - first_ms} ms from first to last", "a span of 1 h at most", hint)
    if last_ms > now_ms + FUTURE_MS:
        _check_instant(f"{at}.times", last_ms, now_ms)
    return CheckedBlock(block, metric, to_kept, raw, offsets, last_ms)


def _check_values(block: Block, metric: Metric, at: str) -> NDArray[np.float32] | NDArray[np.int16]:
    dtype = wire.DTYPES.get(block.dtype)
    if dtype is None:
        refuse(f"{at}.dtype", block.dtype, ", ".join(wire.DTYPES), "little-endian float32 or int16")
    n, rest = divmod(len(block.values), dtype.itemsize)
    most = wire.MAX_SAMPLES if metric.kind == "waveform" else wire.MAX_READINGS
    if rest or not 1 <= n <= most:
        allowed = f"1 to {most} whole values of {dtype.itemsize} bytes"
        refuse(f"{at}.values", f"{len(block.values)} bytes", allowed, "cut longer runs into several blocks")
    raw: NDArray[np.float32] | NDArray[np.int16] = np.frombuffer(block.values, dtype)
    if block.dtype == "i2" and not (_moderate(block.scale) and _moderate(block.offset) and block.scale != 0):
        found = f"{block.scale}, {block.offset}"
        refuse(f"{at}.scale, offset", found, "0 or 1e-30 to 1e9 in size, scale not 0", "value = raw * scale + offset")
    return raw


def _moderate(number: float) -> bool:
    """Tell whether a float32 holds it: neither overflowing nor vanishing."""
    return number == 0 or 1e-30 <= abs(number) < 1e9


def _check_quality(block: Block, n: int, at: str) -> None:
    if block.quality is None:
        return
    if len(block.quality) != n:
        hint = "one byte a reading, or none at all when every reading is good"
        refuse(f"{at}.quality", f"{len(block.quality)} codes", f"{n} codes, as many as values", hint)
    worst = max(block.quality)
    if worst > max(SENT_QUALITY):
        hint = "0 good, 1 questionable, 2 poor signal, 3 not worn, 4 motion"
        refuse(f"{at}.quality", worst, ", ".join(map(str, SENT_QUALITY)), hint)


def _check_times(block: Block, n: int, at: str) -> tuple[NDArray[np.int32] | None, int, int]:
    if block.offsets_ms is None:
        lowest = 1 if n > 1 else 0
        if not lowest <= block.step_us <= MAX_STEP_US:
            hint = "give the step between readings, or the instants one by one"
            refuse(f"{at}.step_us", block.step_us, f"{lowest} to {MAX_STEP_US}", hint)
        return None, block.t0_ms, block.t0_ms + (n - 1) * block.step_us // 1000
    if len(block.offsets_ms) != 4 * n:
        hint = "one int32 a reading, little-endian"
        refuse(f"{at}.offsets_ms", f"{len(block.offsets_ms)} bytes", f"{4 * n} bytes", hint)
    offsets: NDArray[np.int32] = np.frombuffer(block.offsets_ms, "<i4")
    if n > 1 and (falls := np.flatnonzero(offsets[1:] < offsets[:-1])).size:
        i = int(falls[0]) + 1
        found = f"{offsets[i]} after {offsets[i - 1]}"
        refuse(f"{at}.times[{i}]", found, "ascending instants", "sort the readings of a block by time")
    return offsets, block.t0_ms + int(offsets[0]), block.t0_ms + int(offsets[-1])


def _check_instant(field: str, ms: int, now_ms: int) -> None:
    if EARLIEST_MS <= ms <= now_ms + FUTURE_MS:
        return
    shown = to_datetime(ms).isoformat() if 0 <= ms <= LAST_SHOWN_MS else f"{ms} ms"
    until = to_datetime(now_ms + FUTURE_MS).isoformat(timespec="seconds")
    hint = "set the device's clock; instants are Unix milliseconds UTC"
    refuse(field, shown, f"2000-01-01 to {until}", hint)
