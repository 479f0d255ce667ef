"""The documents of programmes and of how far a patient has come in one; see `services.api.documents`."""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict

from services.api.documents import Who, strict


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
