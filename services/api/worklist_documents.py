"""The documents of the worklist and of what became of frames; see `services.api.documents`."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from services.api.documents import Brief, Metric, Priority, strict


@strict
class Flag(TypedDict):
    """An alert as a worklist row shows it."""

    id: str
    rule: str
    title: str
    kind: Literal["clinical", "technical"]
    priority: Priority
    provisional: bool
    late: bool
    acknowledged: bool
    unknown_since: str | None
    etag: str
    link: str


@strict
class RowIncident(TypedDict):
    """The incident of the alert that a worklist row shows."""

    id: str
    unacknowledged: list[str]
    link: str


@strict
class Value(TypedDict):
    """A metric's last value."""

    value: float | None
    at: str


@strict
class Baseline(TypedDict):
    """What is usual for this person now; until it is ``learned``, mostly what is of people."""

    center: float
    spread: float
    context: str
    days: int
    learned: bool


@strict
class Data(TypedDict):
    """The worst data state, and how many metrics are in each."""

    state: str
    cause: str | None
    metric: str | None
    title: str | None
    counts: dict[str, int]


@strict
class Spark(TypedDict):
    """The last day in small, by the hour."""

    from_ms: int
    to_ms: int
    times_ms: list[int]
    low: list[float]
    mean: list[float]
    high: list[float]


@strict
class WorklistRow(TypedDict, total=False):
    """One patient on the worklist."""

    patient: Brief
    time_zone: str
    monitoring: str
    attention: Literal["unacknowledged", "late", "acknowledged", "technical", "unknown", "none"]
    priority: Priority | None
    alert: Flag | None
    open_alerts: int
    incident: RowIncident | None
    others: list[Flag]
    sentence: str
    since: str
    age_s: int
    metric: Metric
    value: Value | None
    stale: bool
    baseline: Baseline | None
    data: Data
    last_heard: str | None
    spark: Spark


@strict
class Worklist(TypedDict):
    """A page of the worklist."""

    at: str
    summary: dict[str, int]
    items: list[WorklistRow]
    next: str | None
    withheld_by_consent: NotRequired[int]


@strict
class Quarantined(TypedDict):
    """A value of a frame that could not be true."""

    metric: str
    at: str
    value: float
    reason: str
    meaning: str


@strict
class FrameLinks(TypedDict):
    """Where a frame's readings can be seen."""

    patient: str
    screen: str
    trends: dict[str, str]


@strict
class Frame(TypedDict, total=False):
    """What became of a frame."""

    frame_id: str
    patient: str
    device: str
    received_at: str
    processed_at: str
    deliveries: int
    stored: int
    late: int
    duplicate: int
    conflict: int
    quarantined: int
    corrected: int
    erased: int
    first_at: str | None
    last_at: str | None
    quarantined_readings: list[Quarantined]
    links: FrameLinks
