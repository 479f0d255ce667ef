"""The wire: what a device sends (a frame) and what the gateway puts on Kafka (a stamped frame).

Both are msgspec structs, msgpack ``array_like``, a schema version first. Values travel as little-endian
bytes with a dtype code, times as Unix milliseconds UTC, steps in microseconds. A frame's identity is
(device, session, seq); the device never names a patient.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

FRAME_VERSION: Final = 1
STAMPED_VERSION: Final = 1
CONTENT_TYPE: Final = "application/vnd.keepwell.frame+msgpack"

MAX_REQUEST_BYTES: Final = 1 << 20
MAX_FRAMES: Final = 100
MAX_BLOCKS: Final = 64
MAX_READINGS: Final = 3_600  # a block spans an hour at most: one a second
MAX_SAMPLES: Final = 900  # a waveform block stays under ~1.9 kB, out of TOAST
MAX_SPAN_MS: Final = 3_600_000

GOOD, QUESTIONABLE, POOR_SIGNAL, NOT_WORN, MOTION = 0, 1, 2, 3, 4  # what a device may say of a reading
IMPLAUSIBLE: Final = 5  # set by the door: a good reading outside the soft range; safety limits still count it
QUARANTINED: Final = 200  # codes from here on never become readings
OUT_OF_RANGE: Final = 200
UNIT_SUSPECTED: Final = 201  # out of range, and plausible in a unit this metric is usually confused with

DTYPES: Final[dict[str, np.dtype[Any]]] = {"f4": np.dtype("<f4"), "i2": np.dtype("<i2")}

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}\Z")]
NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
Seq = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Revision = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class Block(msgspec.Struct, array_like=True, frozen=True):
    """Consecutive readings of one metric: ``n`` values, evenly spaced by ``step_us`` or at ``offsets_ms``.

    ``values``: little-endian ``f4``, or ``i2`` read as ``raw * scale + offset``. ``offsets_ms``: int32
    little-endian from ``t0_ms``, ascending. ``quality``: one byte a reading, None when all are good.
    """

    metric: str
    unit: str
    t0_ms: int
    step_us: int
    dtype: str
    values: bytes
    offsets_ms: bytes | None = None
    quality: bytes | None = None
    scale: float = 1.0
    offset: float = 0.0


class DeviceStatus(msgspec.Struct, array_like=True, frozen=True):
    """What a device says of itself with a frame; None where it doesn't know."""

    battery_percent: float | None = None
    charging: bool | None = None
    worn: bool | None = None


class Frame(msgspec.Struct, array_like=True, frozen=True):
    """What a device sends at once.

    ``revision``: 0, or how often the device has corrected these readings: at an instant it already sent, the value of
    a higher revision replaces that of a lower one. Left out at the end it is 0, so older frames read as they did.
    """

    version: int
    session: Name
    seq: Seq
    sent_ms: int
    utc_offset_min: Annotated[int, msgspec.Meta(ge=-1080, le=1080)]
    blocks: Annotated[list[Block], msgspec.Meta(max_length=MAX_BLOCKS)]
    status: DeviceStatus | None = None
    revision: Revision = 0


class StampedBlock(msgspec.Struct, array_like=True, frozen=True):
    """A block in the catalogue's unit, metric by number; vitals are always ``f4``."""

    metric_id: int
    t0_ms: int
    step_us: int
    dtype: str
    values: bytes
    offsets_ms: bytes | None = None
    quality: bytes | None = None
    scale: float = 1.0
    offset: float = 0.0


class StampedFrame(msgspec.Struct, array_like=True, frozen=True):
    """One Kafka record of ``readings.v1``: a frame with patient, organisation and time of receipt stamped on."""

    version: int
    frame_id: str
    organisation_id: int
    patient_id: int
    device_id: int
    session: str
    seq: int
    sent_ms: int
    received_ms: int
    utc_offset_min: int
    blocks: list[StampedBlock]
    status: DeviceStatus | None = None
    revision: Revision = 0


class Tick(msgspec.Struct, tag="tick", frozen=True):
    """A time-lapse says what time it is; written to every control partition.

    ``now_ms``: everything up to here has been sent. ``horizon_ms``: the end of the step that is sent next, which
    doors stamp as the time of receipt; None: ``now_ms``. ``live``: from now on the host's clock counts.
    """

    now_ms: int
    live: bool = False
    horizon_ms: int | None = None


_stamped_decoder = msgspec.msgpack.Decoder(StampedFrame)
_frames_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])
_frame_decoder = msgspec.msgpack.Decoder(Frame)
_encoder = msgspec.msgpack.Encoder()


def encode(value: Frame | StampedFrame | list[Frame]) -> bytes:
    """Return the msgpack bytes of a frame, or of the list of frames a msgpack request body is."""
    return _encoder.encode(value)


class UnknownVersion(ValueError):
    """A stamped frame of a schema version this code doesn't know."""


def decode_stamped(data: bytes) -> StampedFrame:
    """Return the stamped frame in a Kafka record.

    Raises:
        msgspec.DecodeError: not msgpack, or not of this shape (``ValidationError`` is one).
        UnknownVersion: a schema version this code doesn't know.
    """
    frame = _stamped_decoder.decode(data)
    if frame.version != STAMPED_VERSION:
        msg = f"stamped frame version {frame.version} is not known (known: {STAMPED_VERSION}); upgrade the processor"
        raise UnknownVersion(msg)
    return frame


def decode_frames(data: bytes) -> list[msgspec.Raw]:
    """Split a msgpack request body into its frames, undecoded, so that each gets its own verdict.

    Raises:
        msgspec.DecodeError: the body isn't a msgpack array.
    """
    return _frames_decoder.decode(data)


def decode_frame(data: bytes | msgspec.Raw) -> Frame:
    """Return one frame.

    Raises:
        msgspec.DecodeError: not msgpack, or not of this shape (``ValidationError`` is one).
    """
    return _frame_decoder.decode(data)


def block_values(block: Block | StampedBlock) -> NDArray[np.float64]:
    """Return a block's values, scale and offset applied, shape (n,).

    Raises:
        KeyError: the dtype code isn't one of DTYPES.
        ValueError: the bytes aren't a whole number of values.
    """
    raw = np.frombuffer(block.values, DTYPES[block.dtype])
    values = raw.astype(np.float64)
    return values * block.scale + block.offset if block.dtype == "i2" else values


def block_times_ms(block: Block | StampedBlock, n: int) -> NDArray[np.int64]:
    """Return the instants of a block's ``n`` readings in Unix ms, shape (n,)."""
    if block.offsets_ms is not None:
        return block.t0_ms + np.frombuffer(block.offsets_ms, "<i4").astype(np.int64)
    return block.t0_ms + np.arange(n, dtype=np.int64) * block.step_us // 1000


def last_ms(block: Block | StampedBlock) -> int:
    """Return the instant of a block's last reading or sample, Unix ms.

    >>> last_ms(StampedBlock(1, 1_000, 500_000, "f4", bytes(12)))
    2000
    """
    if block.offsets_ms is not None:
        return block.t0_ms + int(np.frombuffer(block.offsets_ms, "<i4")[-1])
    return block.t0_ms + (len(block.values) // DTYPES[block.dtype].itemsize - 1) * block.step_us // 1000


def block_quality(block: Block | StampedBlock, n: int) -> NDArray[np.uint8]:
    """Return the quality codes of a block's ``n`` readings, shape (n,), all GOOD where none were sent."""
    if block.quality is None:
        return np.zeros(n, np.uint8)
    return np.frombuffer(block.quality, np.uint8)


def frame_id(device: str, session: str, seq: int) -> str:
    """Return a frame's public id: its identity, readable, e.g. ``watch-7~2026-11-22a~41``."""
    return f"{device}~{session}~{seq}"
