"""The hot row: the little about a patient that every transaction rewrites."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from detectors.protocol import Priority

MAX_SESSIONS: Final = 32  # device sessions remembered a patient; the oldest are forgotten first
MAX_MISSING: Final = 64  # missing sequence numbers remembered a session


class Episode(msgspec.Struct):
    """An alert that is open, as far as the processor must remember it between batches."""

    alert_id: str
    rule: str
    kind: Literal["clinical", "technical"]
    start_ms: int
    found_ms: int
    priority: Priority
    provisional: bool
    metric_id: int = 0
    unknown_since_ms: int | None = None


class Session(msgspec.Struct):
    """Which sequence numbers of one device session have been seen."""

    next_seq: int
    missing: list[int] = []  # noqa: RUF012 - msgspec copies defaults
    touched_ms: int = 0


class Hold(msgspec.Struct):
    """The watermark waits for a missing frame: at ``at_ms``, until ``deadline_ms`` of receive time."""

    at_ms: int
    deadline_ms: int


class Hot(msgspec.Struct):
    """One patient's hot state. Times are Unix ms UTC; keys of maps are catalogue numbers unless said."""

    organisation_id: int
    settled_ms: int = 0  # the patient's watermark: the adaptive path has seen everything before it
    newest_ms: int = 0  # newest instant, clamped by the time of receipt
    utc_offset_min: int = 0
    heard_ms: int = 0  # newest time of receipt
    newest: dict[int, int] = {}  # noqa: RUF012 - metric → newest instant
    judged: dict[int, int] = {}  # noqa: RUF012 - metric → safety limits have seen everything before it, finally
    last_stored: dict[str, int] = {}  # noqa: RUF012 - "metric:device" → last stored instant
    sessions: dict[str, Session] = {}  # noqa: RUF012 - "device:session" →
    holds: dict[str, Hold] = {}  # noqa: RUF012 - "device:session" → waiting for a missing frame
    episodes: list[Episode] = []  # noqa: RUF012 - open alerts
    limits: bytes = b""  # the safety limits' state, empty when all idle
    skewed_frames: int = 0  # consecutive frames whose device clock was off
    not_worn_minutes: int = 0  # consecutive settled minutes not worn, since not_worn_ms
    not_worn_ms: int = 0
    dirty_ms: int | None = None  # late data from here on await a rebuild
    checkpoint_day: int = 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Hot)


def encode(hot: Hot) -> bytes:
    """Return the bytes kept in ``patient_state.hot``."""
    return _encoder.encode(hot)


def decode(data: bytes) -> Hot:
    """Return the hot state from its bytes.

    Raises:
        msgspec.ValidationError: the bytes are of another shape; the database is newer than this code.
    """
    return _decoder.decode(data)
