"""The document of the clinical scores; see `services.api.documents`."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from services.api.documents import Brief, Metric, strict


@strict
class Coding(TypedDict):
    """One code of FHIR R4."""

    system: str
    code: str


@strict
class Concept(TypedDict):
    """A CodeableConcept of FHIR R4."""

    coding: list[Coding]
    text: str


@strict
class Band(TypedDict):
    """What the published table calls the total; of a partial score what it is at least."""

    key: str
    title: str
    at_least: bool


@strict
class Parameter(TypedDict):
    """One parameter: its points, and the value they come from or why there are none."""

    metric: Metric
    code: Concept
    state: Literal["known", "missing", "too_old", "doubted", "rest_unknown", "needs_oxygen", "apart"]
    points: int | None
    value: float | None
    words: str | None
    at: str | None
    age_s: int | None
    max_age_s: int
    source: Literal["reading", "profile"] | None


@strict
class Score(TypedDict):
    """One score; ``total`` is of the known parameters only."""

    score: str
    version: int
    title: str
    code: Concept
    source: str
    validity: str
    state: Literal["complete", "partial", "unknown", "off"]
    off_reason: str | None
    total: float | None
    known: int
    of: int
    band: Band | None
    red: list[str]
    parameters: list[Parameter]
    spo2_scale: NotRequired[Literal[1, 2]]
    sentence: str


@strict
class Scores(TypedDict):
    """The clinical scores of a patient at an instant."""

    patient: Brief
    at: str
    notes: list[str]
    scores: list[Score]
