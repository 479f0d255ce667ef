"""What the processor is handed and what it hands back: plain values, no Kafka and no Faust."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from detectors.protocol import Priority
from services.control import ControlMessage
from services.processor.change import PatientChange
from services.processor.readings import Table
from services.reasons import DeadReason


class Record(NamedTuple):
    """One Kafka record; ``topic`` without the prefix."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes


class DeadRecord(NamedTuple):
    """A record that can't be processed, with its reason as a code and in words."""

    record: Record
    reason: DeadReason
    detail: str


class ControlRecord(NamedTuple):
    """A record of ``control.v1`` that is kept: what people changed about a patient."""

    record: Record
    message: ControlMessage

    @property
    def change(self) -> PatientChange:
        """Return it as the processor remembers it."""
        m = self.message
        return PatientChange(m.effective_ms, m.change_id, m.kind, m.subject, m.payload, m.person_id)


Change = Literal["raised", "settled", "worsened", "withdrawn", "unknown", "known", "resolved", "revised"]


@dataclass(slots=True)
class AlertRow:
    """One alert as it stands after the batch; times in Unix ms UTC."""

    id: UUID
    organisation_id: int
    patient_id: int
    rule: str
    rule_version: int
    kind: Literal["clinical", "technical"]
    priority: Priority
    state: Literal["active", "resolved", "withdrawn"]
    provisional: bool
    late: bool
    started_ms: int
    found_ms: int
    raised_ms: int
    last_evidence_ms: int
    unknown_since_ms: int | None
    resolved_ms: int | None
    sentence: str
    patient_sentence: str
    evidence: dict[str, Any]


@dataclass(slots=True)
class AlertChange:
    """What happened to an open alert besides being raised; applied to its row. None leaves a column as it is."""

    id: UUID
    change: Change
    at_ms: int
    priority: Priority | None = None
    sentence: str | None = None
    patient_sentence: str | None = None
    evidence: dict[str, Any] | None = None


class KnownAlert(NamedTuple):
    """An alert as it is stored."""

    row: AlertRow
    revised_by: UUID | None


class AlertRevision(NamedTuple):
    """How an alert stands after a rebuild."""

    row: AlertRow
    revised_by: UUID | None  # the same episode as all data show it, where that is another alert
    void: bool  # it became worse: an acknowledgement no longer covers it


class AlertEvent(NamedTuple):
    """One line of the append-only history."""

    alert_id: UUID
    organisation_id: int
    patient_id: int
    change: Change
    priority: Priority
    late: bool
    at_ms: int
    sentence: str
    person_id: int | None = None


class Suppressed(NamedTuple):
    """A finding that the monitoring state kept quiet."""

    organisation_id: int
    patient_id: int
    rule: str
    start_ms: int
    at_ms: int
    priority: Priority
    monitoring: str
    sentence: str


class FrameFate(NamedTuple):
    """What became of one frame's readings."""

    frame_id: str
    organisation_id: int
    patient_id: int
    device_id: int
    received_ms: int
    stored: int
    duplicate: int
    conflict: int
    quarantined: int
    late: int
    t_first_ms: int | None
    t_last_ms: int | None
    deliveries: int = 1
    erased: int = 0
    corrected: int = 0


class Waveform(NamedTuple):
    """One waveform block, int16 samples read as ``sample * scale + offset``, one each ``step_us`` from ``t0_us`` on.

    Times are Unix microseconds; ``scale`` and ``offset`` as float32 holds them, as the database does.
    """

    patient_id: int
    metric_id: int
    device_id: int
    t0_us: int
    step_us: int
    scale: float
    offset: float
    sample: NDArray[np.int16]
    quality: NDArray[np.uint8] | None = None

    @property
    def key(self) -> tuple[int, int, int]:
        """Return patient, metric and device."""
        return self.patient_id, self.metric_id, self.device_id

    @property
    def t_us(self) -> NDArray[np.int64]:
        """Return the samples' instants, shape (n,)."""
        return self.t0_us + np.arange(len(self.sample), dtype=np.int64) * self.step_us

    @property
    def last_us(self) -> int:
        """Return the last sample's instant."""
        return self.t0_us + (len(self.sample) - 1) * self.step_us

    @property
    def values(self) -> NDArray[np.float64]:
        """Return the samples in the metric's unit, shape (n,)."""
        return self.sample.astype(np.float64) * self.scale + self.offset


class SampleConflict(NamedTuple):
    """A sample whose instant is stored with another value: kept beside."""

    patient_id: int
    metric_id: int
    device_id: int
    t_us: int
    value: float
    frame: int  # index into the batch's frames


class Superseded(NamedTuple):
    """A value that a higher revision replaced; ``frame``: index of the frame that replaced it."""

    patient_id: int
    metric_id: int
    device_id: int
    t_ms: int
    value: float
    revision: int
    frame: int


@dataclass(slots=True)
class Corrections:
    """What higher revisions change about readings that are stored or stored by this batch."""

    rewritten: Table = field(default_factory=Table.empty)  # stored readings with their new value and quality
    superseded: list[Superseded] = field(default_factory=list)
    revisions: list[tuple[int, int, int, int, int]] = field(
        default_factory=list
    )  # patient, metric, device, ms, its own
    settled: list[tuple[int, int, int, int, float]] = field(
        default_factory=list
    )  # values that are no conflict any more


class RollupRows(NamedTuple):
    """Buckets to store, replaced where they exist; columns of shape (N,)."""

    patient: NDArray[np.int32]
    metric: NDArray[np.int16]
    bucket_s: int
    t0_ms: NDArray[np.int64]
    n: NDArray[np.int32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    mean: NDArray[np.float64]
    q10: NDArray[np.float32]
    q90: NDArray[np.float32]
    devices: NDArray[np.int32]  # (N, K) who has readings in the bucket, the preferred source first; 0: nobody


class Remade(NamedTuple):
    """From where on what was kept of a patient is replaced by what the effects hold."""

    patient_id: int
    suppressed_from_ms: int
    bands_from_ms: int
    days_from: date
    checkpoints_from: date
    checkpoints: list[tuple[Any, ...]]  # patient, day, hot, state, layout


@dataclass(slots=True)
class Effects:
    """Everything one batch changes, written in one transaction."""

    recorded_ms: int
    positions: dict[tuple[str, int], int] = field(default_factory=dict)  # (topic, partition) → next offset
    stored: Table = field(default_factory=Table.empty)
    conflicts: Table = field(default_factory=Table.empty)
    corrections: Corrections = field(default_factory=Corrections)
    quarantined: Table = field(default_factory=Table.empty)
    waveforms: list[Waveform] = field(default_factory=list)
    sample_conflicts: list[SampleConflict] = field(default_factory=list)
    fates: list[FrameFate] = field(default_factory=list)
    dead: list[DeadRecord] = field(default_factory=list)
    control: list[ControlRecord] = field(default_factory=list)
    suppressed: list[Suppressed] = field(default_factory=list)
    erased: list[int] = field(default_factory=list)  # patients of whom nothing may remain
    rollups: list[RollupRows] = field(default_factory=list)
    bands: list[tuple[Any, ...]] = field(default_factory=list)
    days: list[tuple[Any, ...]] = field(default_factory=list)
    states: list[tuple[Any, ...]] = field(default_factory=list)  # patient, metric, state, cause, since_ms
    last_values: list[tuple[int, int, float, int]] = field(default_factory=list)  # patient, metric, value, t_ms
    alerts: list[AlertRow] = field(default_factory=list)
    changes: list[AlertChange] = field(default_factory=list)
    revisions: list[AlertRevision] = field(default_factory=list)
    events: list[AlertEvent] = field(default_factory=list)
    remade: list[Remade] = field(default_factory=list)
    silences: list[tuple[int, int]] = field(default_factory=list)  # patient, last reading ms
    touched: set[int] = field(default_factory=set)  # slots whose hot row changed
    closed: dict[int, tuple[int, bytes]] = field(default_factory=dict)  # slot → (end of hour, baseline row at it)
