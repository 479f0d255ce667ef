"""The documents of trends, changes, profiles, limits, the audit and sessions; see `services.api.documents`."""

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
    """What was usual for this person in a stretch and context; until it is ``learned``, mostly what is of people."""

    from_ms: int
    to_ms: int
    context: str
    center: float
    spread: float
    low: float
    high: float
    days: int
    learned: bool


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
class RecordedEffect(TypedDict):
    """What a version of an event said of a metric; ``days``: for how many, null: as long as the event stands."""

    metric: str
    side: Literal["fall", "rise"] | None
    size: float | None
    unit: str
    grows_over_days: int | None
    days: int | None
    stated_by: str | None


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
    effects: list[RecordedEffect]
    version: int
    effective_at: str
    applied_from: str
    reason: str
    by: Who | None
    recorded_at: str


@strict
class Effect(TypedDict):
    """What an event may do to a metric; a ``size``, in the metric's unit, is taken as expected until a day.

    ``until`` null: it was over as soon as it began.
    """

    metric: str
    side: Literal["fall", "rise"] | None
    size: float | None
    unit: str
    grows_over_days: int | None
    until: str | None
    stated_by: str | None


@strict
class LifeEvent(TypedDict, total=False):
    """A medicine begun, ended or changed, or what else happened to a patient, as it was last put right."""

    id: str
    patient: str
    event: str
    medication: str | None
    words: str
    day: str
    until: str | None
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
