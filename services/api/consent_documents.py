"""The documents of consent; see `services.api.documents`."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from services.api.documents import Who, strict
from services.consent import Basis, Purpose, Relation, Said


@strict
class Version(TypedDict):
    """Which document was agreed to."""

    key: str
    version: int


@strict
class Decision(TypedDict):
    """What somebody decided, for whom, and who wrote it down."""

    id: str
    patient: str
    purpose: Purpose
    data_classes: list[str] | None
    decision: Said
    document: Version | None
    effective_at: str
    expires_at: str | None
    relation: Relation
    decided_by: str
    form: str
    reason: str
    by: Who | None
    recorded_at: str


@strict
class Standing(TypedDict):
    """How consent stands for one class of data."""

    data_class: str
    state: Literal["none", "ended", "given", "refused", "withdrawn"]
    withheld: bool
    since: str | None
    ends_at: str | None
    ended_because: str | None
    decision: str | None


@strict
class PurposeStanding(TypedDict):
    """How consent stands for one purpose; ``continues``: care goes on whatever is decided."""

    purpose: Purpose
    basis: Basis
    continues: bool
    classes: list[Standing]


@strict
class Consents(TypedDict):
    """How a patient's consent stands, who decides, and each decision, the newest said first."""

    patient: str
    standing: list[PurposeStanding]
    decides: Literal["self", "guardian"]
    age_known: bool
    consent_age: int
    history: list[Decision]


@strict
class Document(TypedDict):
    """What people are asked: one version in one language."""

    key: str
    version: int
    language: str
    purpose: Purpose
    title: str
    text: str
    digest: str
    requires_renewal: bool
    published_at: str
    by: Who | None


@strict
class OldRules(TypedDict):
    """The organisation's rules of consent as they were set once."""

    version: int
    basis: dict[str, Any]
    consent_age: int
    reason: str
    by: Who | None
    recorded_at: str


@strict
class Rules(TypedDict):
    """On which basis each purpose rests, and from which age people decide."""

    version: int
    basis: dict[str, Basis]
    consent_age: int
    history: list[OldRules]
