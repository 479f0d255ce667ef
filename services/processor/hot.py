"""The hot row: the little about a patient that every transaction rewrites."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

import msgspec

from detectors.protocol import Priority
from services.processor.change import PatientChange

MAX_SESSIONS: Final = 32  # device sessions remembered a patient; the oldest are forgotten first
MAX_OFFSETS: Final = 16  # changes of the wearer's UTC offset remembered a patient
MAX_LATE: Final = 1000  # instants of late readings remembered a patient, until their hour is closed
MONTHLY_DAYS: Final = 400  # checkpoints go back so far: after the daily ones the first of each month
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
    settled: Priority | None = None  # the priority settled data bear out; None while provisional
    metric_id: int = 0
    unknown_since_ms: int | None = None
    late: bool = False  # opened on history: its alert is listed, and told once the patient is live again
    hushed: bool = False  # opened, or worsened, on history: to be told once the patient is live again
    evidence: dict[str, Any] | None = None  # of what is said once, settled: told again should it outlast a discharge
    worse_ms: int = 0  # when it last became worse, settled or not
    told_id: str = ""  # the alert people were told of for this episode, where late data gave it another identity


class Held(msgspec.Struct):
    """A finding that the monitoring state keeps quiet; it is told when the state ends and it is still so."""

    start_ms: int
    at_ms: int
    level: int
    evidence: dict[str, Any]


class Session(msgspec.Struct):
    """Which sequence numbers of one device session have been seen."""

    next_seq: int
    missing: list[int] = []
    touched_ms: int = 0


class Hold(msgspec.Struct):
    """The watermark waits for a missing frame: at ``at_ms``, until ``deadline_ms`` of receive time."""

    at_ms: int
    deadline_ms: int


class Hot(msgspec.Struct):
    """One patient's hot state. Times are Unix ms UTC; keys of maps are catalogue numbers unless said."""

    organisation_id: int
    settled_ms: int = 0  # the patient's watermark: minutes before it are settled
    closed_ms: int = 0  # end of the last hour closed: the kept baseline row has it, unless it is being learned anew
    newest_ms: int = 0  # newest instant, clamped by the time of receipt
    utc_offset_min: int = 0
    offsets: list[tuple[int, int]] = []
    heard_ms: int = 0  # time of receipt of the newest reading
    newest: dict[int, int] = {}
    good: dict[int, int] = {}
    late: dict[int, list[int]] = {}
    judged: dict[int, int] = {}
    last_stored: dict[str, int] = {}
    devices: list[int] = []  # that measured, by the first settled minute of each: their numbers in the baseline row
    sessions: dict[str, Session] = {}
    holds: dict[str, Hold] = {}
    episodes: list[Episode] = []
    held: dict[str, Held] = {}  # by rule
    renewed_ms: int = 0  # up to where the clock has carried new normals on, because no data came
    ended_ms: int = 0  # where the monitoring was last ended: what was found before it is over
    limits: bytes = b""  # the safety limits' state, empty when all idle
    layout: int = 0  # checksum of the limits' layout; one that is not known starts them afresh
    early: bytes = b""  # NEWS2's state behind a checksum of its layout, empty when it knows nothing
    early_ms: int = 0  # up to where NEWS2 has been judged
    weight: bytes = b""  # the weights' state likewise; judged as the safety limits, by their own mark
    states: dict[int, int] = {}
    silent: list[int] = []
    listened_ms: int = 0  # newest settled reading: silence and battery have been judged up to here
    silent_ms: int = 0  # where the last silence told began
    skewed_frames: int = 0  # consecutive frames whose device clock was off
    off_ms: int = 0  # first minute of the present stretch of not being worn; 0: worn
    worn_to_ms: int = 0  # minutes before this have been looked at for wear
    dirty_ms: int | None = None  # late data from here on await a rebuild
    dirty_n: int = 0  # how many late readings or changes have come since the last rebuild
    anew_ms: int | None = None  # what is usual is being learned anew: no hour from here on is judged by it before
    checkpoint_day: int = 0  # UTC day of the last checkpoint, days since 1970


class HotRow(msgspec.Struct, frozen=True):
    """One patient's state to keep; ``baseline`` only when an hour closed, ``checkpoint_day`` when a day did."""

    patient_id: int
    partition: int
    hot: bytes
    settled_ms: int
    dirty_ms: int | None
    baseline: bytes | None
    layout: int
    checkpoint_day: int | None


class StateRow(NamedTuple):
    """What is kept of one patient; ``state`` and ``layout`` None before the first closed hour."""

    patient_id: int
    hot: bytes
    state: bytes | None
    layout: int | None
    changes: list[PatientChange] = []  # what people changed about the patient


def mark_dirty(hot: Hot, from_ms: int, n: int = 1) -> None:
    """Say that what was made of a patient's data from an instant on no longer holds: ``n`` inputs came late."""
    hot.dirty_ms = from_ms if hot.dirty_ms is None else min(from_ms, hot.dirty_ms)
    hot.dirty_n += n


def devices_of(hot: Hot) -> set[int]:
    """Return the devices that anything is stored of."""
    return {int(series.partition(":")[2]) for series in hot.last_stored}


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
