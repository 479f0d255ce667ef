"""What a patient agrees to: purposes, classes of data, who may decide, and which decision stands. Pure rules.

The database holds the same rules underneath (``consent_standing``, ``minor_until`` in the schema); tests hold the two
together. Days are in UTC, as everywhere in a profile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, get_args

from ingest.catalogue import DataClass
from services.impossible import impossible
from services.profile import birthday

Purpose = Literal["care", "programme", "research", "genomics", "family"]
Said = Literal["given", "refused", "withdrawn"]
Relation = Literal["self", "guardian", "representative"]
Basis = Literal["consent", "other"]
PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)
CLASSES: Final[tuple[DataClass, ...]] = get_args(DataClass)

PURPOSE_OF: Final[Mapping[str, Purpose]] = MappingProxyType(
    {  # role → what it sees patients for; a role that is missing sees them for none
        "clinician": "care", "nurse": "care", "pharmacist": "care", "coordinator": "programme",
        "data_specialist": "programme", "researcher": "research", "genetic_counsellor": "genomics", "proxy": "family",
    }
)  # fmt: skip
DEFAULT_BASIS: Final[Mapping[Purpose, Basis]] = MappingProxyType(
    {"care": "other", "programme": "other", "research": "consent", "genomics": "consent", "family": "other"}
)
DEFAULT_AGE: Final = 16  # years, from which on a person decides for themself
AGES: Final = (13, 21)
PAST: Final = timedelta(minutes=5)  # a decision takes effect so long before it is recorded, at most
AHEAD: Final = timedelta(days=366)
LONGEST: Final = timedelta(days=366 * 30)
MAX_NAME: Final = 200
MAX_REASON: Final = 1000
MAX_TEXT: Final = 50_000  # characters of a document


class Decision(NamedTuple):
    """What was said. ``id`` rises in the order of saying; ``ends_at`` is when something given ends, None: never."""

    id: int
    classes: frozenset[str] | None  # None: all
    said: str
    effective_at: datetime
    ends_at: datetime | None = None

    def holds(self, at: datetime) -> bool:
        """Tell whether it is a consent that stands at an instant."""
        return self.said == "given" and self.effective_at <= at and (self.ends_at is None or at < self.ends_at)


class Wanted(NamedTuple):
    """A decision as it is to be written down."""

    purpose: str
    said: str
    relation: str
    decided_by: str  # the name of who decided; of the patient themself it may be left out
    form: str  # how it was said, and where that is kept
    classes: Sequence[str] | None = None
    document: str = ""  # key of a published document
    document_version: int | None = None  # None: the newest
    language: str = ""  # of the words that were read; needed where there are several
    effective_at: datetime | None = None  # None: now
    expires_at: datetime | None = None
    reason: str = ""


def standing(decisions: Iterable[Decision], data_class: str, at: datetime) -> Decision | None:
    """Return the decision that stands for a class of data: of those in effect, the one that was said last.

    The order of saying decides, not that of taking effect: who withdraws today also withdraws what they had let begin
    tomorrow.
    """
    about = [
        one
        for one in decisions
        if one.effective_at <= at and (one.classes is None or data_class in one.classes)
    ]  # fmt: skip
    return max(about, key=lambda one: one.id, default=None)


def withheld(decisions: Sequence[Decision], purpose: str, basis: str, at: datetime) -> frozenset[str]:
    """Return the classes of data that must not be used for a purpose."""
    found = {name: standing(decisions, name, at) for name in CLASSES}
    if basis == "consent":
        return frozenset(name for name, one in found.items() if one is None or not one.holds(at))
    if purpose == "care":  # treatment goes on: its basis is not the consent
        return frozenset()
    return frozenset(name for name, one in found.items() if one is not None and one.said != "given")


def after(before: frozenset[str], classes: Iterable[str] | None, said: str) -> frozenset[str]:
    """Return which classes are withheld once something more was said, where consent is the basis.

    >>> sorted(after(frozenset({"sleep"}), ["vitals"], "withdrawn"))
    ['sleep', 'vitals']
    """
    about = frozenset(CLASSES if classes is None else classes)
    return before - about if said == "given" else before | about


def minor_until(facts: Mapping[str, Any], age: int) -> datetime | None:
    """Return until when the person of a profile is too young to decide; None: nothing says that they are.

    ``facts`` are the profile's ``birth_date`` and ``age_band``. A band says so only where it can: "under 16" of an
    age of 16 or more; then the end is the latest instant there is. Whose age is not known counts as grown up.
    """
    if facts.get("birth_date"):
        day = birthday(date.fromisoformat(str(facts["birth_date"])), age)
        return datetime.combine(day, time(), UTC)
    if facts.get("age_band") == "under_16" and age >= 16:
        return datetime.max.replace(tzinfo=UTC)
    return None


def age_known(facts: Mapping[str, Any], age: int) -> bool:
    """Tell whether a profile says if somebody may decide for themself."""
    band = facts.get("age_band")
    return bool(facts.get("birth_date")) or (band == "under_16" and age >= 16) or (
        band == "65_and_over" or (band == "16_to_64" and age <= 16)
    )  # fmt: skip


def check(wanted: Wanted, now: datetime, facts: Mapping[str, Any], age: int) -> None:
    """Check a decision but for its document, which the database knows of.

    Raises:
        ImpossibleError: a value that is not allowed, or somebody who may not decide this.
    """
    _one_of("purpose", wanted.purpose, PURPOSES)
    _one_of("decision", wanted.said, get_args(Said))
    _one_of("relation", wanted.relation, get_args(Relation))
    if wanted.classes is not None:
        if not wanted.classes:
            raise impossible([], "data_classes", f"one or more of {', '.join(CLASSES)}; left out: all")
        for name in wanted.classes:
            _one_of("data_classes", name, CLASSES)
    if wanted.relation != "self" and not wanted.decided_by.strip():
        raise impossible(wanted.decided_by, "decided_by", f"the name of the {wanted.relation}")
    for field, most in (("decided_by", MAX_NAME), ("form", MAX_NAME), ("reason", MAX_REASON)):
        if len(getattr(wanted, field).strip()) > most:
            raise impossible(getattr(wanted, field)[:20], field, f"at most {most} characters")
    if not wanted.form.strip():
        raise impossible(wanted.form, "form", "how it was said and where that is kept, e.g. signed on paper, file 12")
    if wanted.said == "given" and not wanted.document:
        raise impossible(wanted.document, "document", "the key of the published document that was agreed to")
    _check_times(wanted, now)
    _check_relation(wanted, now, facts, age)


def _one_of(field: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise impossible(value, field, ", ".join(allowed))


def _check_times(wanted: Wanted, now: datetime) -> None:
    begins = wanted.effective_at or now
    if not now - PAST <= begins <= now + AHEAD:
        allowed = f"now, or an instant in the next {AHEAD.days} days: what was seen before can't be unseen"
        raise impossible(begins.isoformat(), "effective_at", allowed)
    if wanted.expires_at is None:
        return
    if wanted.said != "given":
        raise impossible(wanted.expires_at.isoformat(), "expires_at", "none: only what is given ends by itself")
    if not max(begins, now) < wanted.expires_at <= begins + LONGEST:
        raise impossible(wanted.expires_at.isoformat(), "expires_at", "after it takes effect, within 30 years")


def _check_relation(wanted: Wanted, now: datetime, facts: Mapping[str, Any], age: int) -> None:
    """A guardian decides for who is too young; from that birthday on people decide, or their representative."""
    until = minor_until(facts, age)
    young = until is not None and max(wanted.effective_at or now, now) < until
    if young and wanted.relation == "self" and wanted.said == "given":
        raise impossible(wanted.relation, "relation", f"guardian or representative: the patient is not {age} yet")
    if not young and wanted.relation == "guardian":
        known = f"the patient is {age} or older" if age_known(facts, age) else (
            "the profile says no age, so the patient counts as grown up: write the birth date into the profile first"
        )  # fmt: skip
        raise impossible(wanted.relation, "relation", f"self or representative: {known}")


def check_rules(basis: Mapping[str, str], age: int) -> dict[str, str]:
    """Return the basis of each purpose, those left out as they are by default.

    Raises:
        ImpossibleError: no purpose, no basis, or an age out of bounds.
    """
    for purpose, value in basis.items():
        _one_of("basis", purpose, PURPOSES)
        _one_of(f"basis.{purpose}", value, get_args(Basis))
    if not AGES[0] <= age <= AGES[1]:
        raise impossible(age, "consent_age", f"{AGES[0]} to {AGES[1]} years")
    return dict(DEFAULT_BASIS) | dict(basis)


def digest(title: str, text: str) -> str:
    """Return what tells one document's words from another's: SHA-256 of title, a newline and text, in hex."""
    return hashlib.sha256(f"{title}\n{text}".encode()).hexdigest()
