"""The documents of trends, the worklist, frames, changes, programmes and the audit; see `services.api.documents`."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from services.api.documents import Alert, Brief, Metric, Priority, Rule, Who, strict

Column = list[float | None]


@strict
class Span(TypedDict):
    """A stretch of time."""

    from_ms: int
    to_ms: int


@strict
class Source(TypedDict):
    """Where a stretch of a trend was read from."""

    source: str
    from_ms: int
    to_ms: int
    points_read: int


@strict
class Worn(TypedDict):
    """Which device a stretch of a trend comes from."""

    from_ms: int
    to_ms: int
    preferred: str | None
    others: list[str]


@strict
class Band(TypedDict):
    """What was usual for this person in a stretch and context."""

    from_ms: int
    to_ms: int
    context: str
    center: float
    spread: float
    low: float
    high: float
    days: int


Trend = TypedDict(
        "Trend",
        {
            "patient": Brief, "time_zone": str, "metric": Metric, "from": str, "to": str, "source": str,
            "sources": list[Source], "truncated": bool, "devices": list[Worn], "readings": int, "lowest": float | None,
            "highest": float | None, "times_ms": list[int], "low": Column, "high": Column, "mean": Column,
            "n": list[int], "gaps": list[Span], "band": list[Band], "band_spreads": float, "alerts": list[Alert],
        },
        total=False,
    )  # fmt: skip
strict(Trend)


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
    """What is usual for this person now."""

    center: float
    spread: float
    context: str


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


@strict
class Change(TypedDict, total=False):
    """One change that people made about a patient; what it says goes by its kind."""

    id: str
    patient: str
    kind: str
    state: str
    until: str | None
    metric: str
    device: str
    assigned: bool
    device_class: str
    profile: dict[str, Any]
    layer: str
    rules: dict[str, Any]
    life_event: str
    words: str
    day: str
    withdrawn: bool
    version: int
    effective_at: str
    applied_from: str
    reason: str
    by: Who | None
    recorded_at: str


@strict
class Effect(TypedDict):
    """What an event may do to a metric; a ``size``, in the metric's unit, is taken as expected."""

    metric: str
    side: Literal["fall", "rise"] | None
    size: float | None
    unit: str


@strict
class LifeEvent(TypedDict, total=False):
    """A medicine begun, ended or changed, or what else happened to a patient, as it was last put right."""

    id: str
    patient: str
    event: str
    medication: str | None
    words: str
    day: str
    until: str
    effects: list[Effect]
    note: str
    withdrawn: bool
    version: int
    by: Who | None
    recorded_at: str


@strict
class Suppressed(TypedDict, total=False):
    """A finding that a monitoring state kept quiet."""

    rule: str
    priority: Priority
    monitoring: str
    started_at: str
    found_at: str
    sentence: str


@strict
class Profile(TypedDict):
    """A patient's profile as it stands, who set it, and what it was."""

    profile: dict[str, Any]
    version: int
    limits_individualised: bool
    limits_note: str
    set: Change | None
    history: list[Change]


@strict
class Limits(TypedDict):
    """Each rule as it holds for a patient."""

    version: int
    rules: list[Rule]
    history: list[Change]


@strict
class OldLimits(TypedDict):
    """The organisation's limits as they were set once."""

    version: int
    rules: dict[str, Any]
    effective_at: str
    reason: str
    by: Who | None
    recorded_at: str


@strict
class OrganisationLimits(TypedDict):
    """The organisation's limits; after a change, how many patients were told."""

    version: int
    rules: dict[str, Any]
    history: list[OldLimits]
    patients_told: NotRequired[int]


@strict
class Missing(TypedDict):
    """What a programme lacks before it can be activated."""

    field: str
    needed: str


@strict
class OldProgramme(TypedDict):
    """A programme as it was once."""

    version: int
    state: str
    programme: dict[str, Any]
    reason: str
    by: Who | None
    recorded_at: str


@strict
class Programme(TypedDict):
    """A programme: in a list with how many patients are in each state, alone with what it was."""

    key: str
    state: str
    version: int
    programme: dict[str, Any]
    missing: Missing | None
    patients: NotRequired[dict[str, int]]
    history: NotRequired[list[OldProgramme]]


Step = TypedDict(
        "Step",
        {
            "from": str | None, "to": str, "at": str, "facts": dict[str, Any], "reason": str, "by": Who | None,
            "recorded_at": str,
        },
    )  # fmt: skip
strict(Step)


@strict
class Enrolment(TypedDict):
    """How far a patient has come in a programme, and what may come next."""

    programme: str
    state: str
    since: str
    version: int
    next: list[str]
    history: list[Step]


@strict
class AccessDay(TypedDict):
    """Who did what with a patient's data on a day, in words for the patient."""

    day: str
    first_at: str
    last_at: str
    who: str
    role: str | None
    action: str
    purpose: str
    outcome: Literal["allowed", "refused", "failed"]
    times: int
    sentence: str


@strict
class AuditRow(TypedDict):
    """One row of the audit."""

    id: str
    at: str
    actor: Literal["person", "service", "command"]
    person: Who | None
    name: str | None
    role: str | None
    action: str
    patients: list[str]
    purpose: str
    reason: str | None
    address: str | None
    agent: str | None
    outcome: Literal["allowed", "refused", "failed"]
    request_id: str | None
    detail: dict[str, Any]


@strict
class Session(TypedDict):
    """Where somebody is signed in."""

    id: str
    signed_in_at: str
    last_used_at: str
    ends_at: str
    browser: str
    this_one: bool
