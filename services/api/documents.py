"""The documents of the API as its OpenAPI document describes them; a test holds every answer to them.

Answers are made by the modules beside this one and never pass through these types, so describing costs nothing. Where a
role may see less (`permissions.FIELDS`), a field may be missing: those documents are ``total=False``. None holds a
field that is not named here. Instants are RFC 3339 texts, ``…_ms`` Unix milliseconds.
"""

from __future__ import annotations

from typing import Any, Final, Generic, Literal, NotRequired, TypeVar

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from detectors.device_classes import DeviceClass
from services.api.problems import PROBLEM_TYPE, Code

Item = TypeVar("Item")
strict = with_config(ConfigDict(extra="forbid"))
Priority = Literal["high", "medium", "low"]

PROBLEM: Final[dict[str, Any]] = {
    "description": "refused: a problem document (RFC 9457) with a stable code",
    "content": {
        PROBLEM_TYPE: {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "code", "detail"],
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "code": {"enum": [code.value for code in Code]},
                    "detail": {"type": "string"},
                },
            }
        }
    },
}
PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {"4XX": PROBLEM, 503: PROBLEM}


EXPORT: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "everything stored about the patient",
        "content": {
            "application/fhir+json": {"schema": {"type": "object", "required": ["resourceType", "type", "entry"]}},
            "application/zip": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    **PROBLEMS,
}
STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "events of alert changes; the data of each is JSON, with the fields of `permissions.FIELDS`",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    **PROBLEMS,
}


def answers(model: Any) -> dict[int | str, dict[str, Any]]:
    """Return what a route says of its answers: the document of success, and problems."""
    return {200: {"model": model, "description": "done"}, **PROBLEMS}


@strict
class Page(TypedDict, Generic[Item]):
    """A page of a list, and the cursor of the next one."""

    items: list[Item]
    next: str | None


@strict
class CountedPage(TypedDict, Generic[Item]):
    """A page of a list of patients or of what concerns them; whoever cares is told how many consent leaves out."""

    items: list[Item]
    next: str | None
    withheld_by_consent: NotRequired[int]


@strict
class Whole(TypedDict, Generic[Item]):
    """A list that has no further pages."""

    items: list[Item]


@strict
class Who(TypedDict):
    """A person, by the key they have here."""

    id: str
    name: str


@strict
class Brief(TypedDict, total=False):
    """What names a patient in other things' documents."""

    id: str
    name: str
    link: str


@strict
class Metric(TypedDict):
    """What a client needs to know of a metric to show its values."""

    key: str
    title: str
    unit: str
    unit_words: str
    decimals: int


@strict
class TooSeldom(TypedDict):
    """Why nothing is learned of a metric at night: the minutes that a night needs, the readings that it had."""

    needs_minutes: int
    readings: int


@strict
class State(TypedDict):
    """The data state of one metric; ``learning`` too where nothing is compared with the own usual, only received."""

    metric: Metric
    state: Literal["unknown", "unusual", "learning", "normal"]
    cause: str | None
    since: str
    value: float | None
    at: str | None
    age_s: int | None
    too_seldom: TooSeldom | None


@strict
class Monitoring(TypedDict, total=False):
    """The monitoring state now, and the version to name when changing it."""

    state: str
    since: str | None
    until: str | None
    reason: str | None
    by: Who | None
    version: int
    suppressed: int


@strict
class Worst(TypedDict):
    """The worst data state of a patient, and of which metric."""

    state: str
    cause: str | None
    metric: str | None


Device = TypedDict("Device", {"id": str, "model": str, "class": DeviceClass, "from": str, "to": str | None})
strict(Device)


@strict
class OpenAlerts(TypedDict):
    """How many alerts of a kind and priority are active."""

    kind: str
    priority: Priority
    n: int


@strict
class RuleOff(TypedDict):
    """A rule that does not hold for a patient, and why."""

    rule: str
    title: str
    off_since: str | None
    off_reason: str | None


@strict
class Level(TypedDict):
    """One threshold of a limit."""

    threshold: float
    priority: Priority


@strict
class SetBy(TypedDict):
    """Who set a limit's numbers; nobody here at the command line."""

    by: Who | None
    since: str
    of: str


@strict
class Bounds(TypedDict, total=False):
    """How far a limit may be moved, a drift's bound, or which budgets there are."""

    levels: list[list[float]]
    persist_s: list[float]
    bound: list[float]
    alert_budget: list[str]


@strict
class Rule(TypedDict):
    """A rule as it holds for a patient: a limit's numbers, a drift's bound, or the budget of all adaptive rules."""

    rule: str
    title: str
    kind: Literal["safety", "adaptive", "technical"]
    state: Literal["on", "off"]
    off_since: str | None
    off_reason: str | None
    metric: NotRequired[str]
    unit: NotRequired[str]
    side: NotRequired[Literal["above", "below"]]
    inclusive: NotRequired[bool]
    levels: NotRequired[list[Level]]
    clear: NotRequired[float]
    persist_s: NotRequired[float]
    bound: NotRequired[float]
    alert_budget: NotRequired[str | None]
    origin: NotRequired[str]
    set: NotRequired[list[SetBy]]
    bounds: NotRequired[Bounds]


@strict
class Review(TypedDict):
    """What somebody else said to a break-glass."""

    at: str
    by: Who
    verdict: Literal["justified", "not_justified"]
    note: str | None


@strict
class BreakGlass(TypedDict, total=False):
    """Who saw a patient outside their team, and why."""

    id: str
    patient: Brief | None
    by: Who
    reason: str
    opened_at: str
    until: str
    open: bool
    review: Review | None


@strict
class PatientLinks(TypedDict):
    """Where more of a patient is."""

    trends: str
    alerts: str


@strict
class PatientItem(TypedDict, total=False):
    """A patient in a list."""

    id: str
    name: str
    link: str
    time_zone: str
    enrolled_at: str
    last_heard: str | None
    open_alerts: int


@strict
class ConsentLine(TypedDict):
    """What consent withholds from the person who asks, and how the consent to care stands, in words."""

    withheld: list[str]
    note: str | None


@strict
class Patient(TypedDict, total=False):
    """A patient with devices and the data state of each metric."""

    id: str
    name: str
    link: str
    time_zone: str
    enrolled_at: str
    last_heard: str | None
    limits_individualised: bool
    limits_note: str
    rules_off: list[RuleOff]
    own_limits: list[Rule]
    monitoring: Monitoring
    worst: Worst
    metrics: list[State]
    devices: list[Device]
    open_alerts: list[OpenAlerts]
    links: PatientLinks
    break_glass: list[BreakGlass]
    consent: ConsentLine | None


@strict
class Acknowledged(TypedDict, total=False):
    """Who has seen an alert."""

    at: str
    by: Who
    note: str | None


@strict
class Event(TypedDict, total=False):
    """One change of an alert."""

    change: str
    priority: Priority
    late: bool
    at: str
    recorded_at: str
    sentence: str
    by: str | None


@strict
class Alert(TypedDict, total=False):
    """An alert: one episode of one rule."""

    id: str
    patient: Brief
    rule: str
    rule_version: int
    metric: str | None
    kind: Literal["clinical", "technical"]
    priority: Priority
    state: Literal["active", "resolved", "withdrawn"]
    provisional: bool
    late: bool
    started_at: str
    found_at: str
    raised_at: str
    last_evidence_at: str
    unknown_since: str | None
    resolved_at: str | None
    sentence: str
    evidence: dict[str, Any]
    revised_by: str | None
    acknowledged: Acknowledged | None
    etag: str
    link: str
    events: list[Event]
