"""A programme: how an organisation watches people together, and what it must say before anybody is watched in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from services import limits
from services.impossible import impossible
from services.layer import Setting

MAX_STEPS: Final = 10
MAX_AFTER_MIN: Final = 24 * 60
MAX_BUDGET: Final = 20.0  # incidents a patient-week
USUAL_BUDGET: Final = 1.0
STAFF: Final = ("clinician", "nurse", "coordinator", "pharmacist")  # roles that can be called upon
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEK: Final[tuple[Day, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Hours(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When somebody of the team is there: from one local time to another, on these days; 00:00 to 24:00 is all day."""

    time_zone: str
    begin: str = msgspec.field(name="from", default="00:00")
    end: str = msgspec.field(name="to", default="24:00")
    days: tuple[Day, ...] = WEEK

    @property
    def always(self) -> bool:
        """Whether somebody is there round the clock."""
        return (self.begin, self.end) == ("00:00", "24:00") and set(self.days) == set(WEEK)


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who is called next, so many minutes after the alert: a role, or a person by key."""

    after_min: int
    role: str = ""
    person: str = ""


class Programme(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The document."""

    name: str
    hours: Hours | None = None
    cover: str = ""  # who looks outside the hours, in words
    ladder: tuple[Step, ...] = ()
    alert_budget: float = USUAL_BUDGET  # incidents from adaptive rules a patient-week that the team agreed to
    limits: dict[str, Setting] = {}


def checked(document: Mapping[str, Any]) -> Programme:
    """Return a programme from its document.

    Raises:
        ImpossibleError: it is misspelt, or says what can't be. What is still missing is said by `missing`.
    """
    try:
        programme = msgspec.convert(document, Programme)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        field = where.strip("`").removeprefix("$").removeprefix(".")
        raise impossible(document.get(field.partition(".")[0]), field or "programme", what) from error
    if not 1 <= len(programme.name.strip()) <= 200:
        raise impossible(programme.name[:20], "name", "1 to 200 characters")
    if not 0 < programme.alert_budget <= MAX_BUDGET:
        raise impossible(programme.alert_budget, "alert_budget", f"more than 0, at most {MAX_BUDGET:g} a patient-week")
    if programme.hours is not None:
        _check_hours(programme.hours)
    _check_ladder(programme.ladder)
    return msgspec.structs.replace(programme, limits=limits.checked(msgspec.to_builtins(programme.limits)))


def missing(programme: Programme) -> tuple[str, str] | None:
    """Return why nobody can be watched in a programme as it is, as (field, what is needed); None: it can be activated.

    >>> missing(Programme("Heart", Hours("UTC"), ladder=(Step(0, person="ada"),)))
    ('ladder', 'a last step that is a role, so that somebody always answers; it ends with the person ada')
    """
    if programme.hours is None:
        return "hours", "monitored hours: patients are told when somebody looks"
    if not programme.hours.always and not programme.cover.strip():
        return "cover", "a plan for the time outside the monitored hours: who looks then"
    if not programme.ladder:
        return "ladder", "an escalation ladder that ends in a role"
    last = programme.ladder[-1]
    if not last.role:
        needed = "a last step that is a role, so that somebody always answers"
        return "ladder", f"{needed}; it ends with the person {last.person}"
    return None


def plain(programme: Programme) -> dict[str, Any]:
    """Return a programme as the plain document that is stored."""
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(programme))
    return document


def _check_hours(hours: Hours) -> None:
    try:
        ZoneInfo(hours.time_zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise impossible(hours.time_zone, "hours.time_zone", "a zone such as Europe/Vienna") from error
    begin, end = _minute(hours.begin, "hours.from"), _minute(hours.end, "hours.to")
    if begin >= end:
        raise impossible(hours.end, "hours.to", f"later than {hours.begin}; 24:00 is midnight")
    if not hours.days:
        raise impossible([], "hours.days", ", ".join(WEEK))


def _minute(text: str, field: str) -> int:
    hour, colon, minute = text.partition(":")
    if colon and len(text) == 5 and (hour + minute).isdigit() and int(minute) < 60:
        found = int(hour) * 60 + int(minute)
        if found <= MAX_AFTER_MIN:
            return found
    raise impossible(text, field, "a local time such as 08:00")


def _check_ladder(ladder: tuple[Step, ...]) -> None:
    if len(ladder) > MAX_STEPS:
        raise impossible(len(ladder), "ladder", f"at most {MAX_STEPS} steps")
    before = -1
    for place, step in enumerate(ladder):
        if bool(step.role) == bool(step.person):
            raise impossible(msgspec.to_builtins(step), f"ladder[{place}]", "a role or a person, one of the two")
        if step.role and step.role not in STAFF:
            raise impossible(step.role, f"ladder[{place}].role", ", ".join(STAFF))
        if not before < step.after_min <= MAX_AFTER_MIN:
            allowed = f"more minutes than the step before ({max(before, 0)}), at most {MAX_AFTER_MIN}"
            raise impossible(step.after_min, f"ladder[{place}].after_min", allowed)
        before = step.after_min
