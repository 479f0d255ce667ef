"""A patient's medicines and other events on their page: what stands, and forms to write down and take back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from ingest.clock import Clock
from services import life_events as catalogue
from services.api import life_events, patients, times
from services.api.access import Access
from services.api.patients import Patient
from services.api.problems import Problem, invalid
from services.api.profile import Asked
from services.api.scope import Scope
from services.expectations import MOST, SHIFTED_METRIC
from services.web.incidents import SHOWN_BESIDE, Said, Show, patient_again

SHOWN: Final = 30  # the newest written; the API lists them all
ABOUT: Final = "life-event"  # which form an outcome is about
_METRIC: Final = f"expects.{SHIFTED_METRIC}"
LABELS: Final[Mapping[str, str]] = {
    "event": "What happened",
    "medication": "Which medicine",
    "day": "On which day",
    _METRIC: "What is expected of the heart rate",
    f"{_METRIC}.side": "It may",
    f"{_METRIC}.size": "By up to",
    f"{_METRIC}.days": "For so many days",
    "reason": "Note",
}
"""How the form calls what it asks for."""
_PLAIN: Final = {
    "size": (re.compile(r"-?\d+([.,]\d+)?", re.ASCII), "5.5"), "days": (re.compile(r"-?\d+", re.ASCII), "10"),
}  # fmt: skip


async def of_patient(scope: Scope, patient: Patient) -> dict[str, Any]:
    """Return what the page needs of a patient's events; nothing of them to whom they are not shown."""
    may_read, may_write = scope.may("life_event.read"), scope.may("patient.life_event")
    page = await life_events.listed(scope, patient, SHOWN, None) if may_read else {"items": []}
    classes = catalogue.catalogue()["medication"]
    return {
        "events": page["items"],
        "sees_events": may_read,
        "may_write_events": may_write,
        "event_kinds": catalogue.kinds(),
        "most_stated": MOST,
        "stated_of": catalogue.of_which(),
        "medicines": {key: one["title"] for key, one in classes.items()},
    }


def add_life_events(pages: APIRouter, access: Access, clock: Clock, partitions: int, show: Show) -> None:
    """Add the routes by which the page writes events down and takes them back."""

    def asked(note: str, key: str) -> Asked:
        now = times.present(clock)
        return Asked(note, now, now, None, key, partitions)

    @pages.post("/patients/{patient_id}/life-events")
    async def record(
        request: Request,
        patient_id: str,
        event: Annotated[str, Form(max_length=40)],
        day: Annotated[str, Form(max_length=10)],
        key: Annotated[str, Form(max_length=100)],
        medication: Annotated[str, Form(max_length=40)] = "",
        side: Annotated[str, Form(max_length=10)] = "",
        size: Annotated[str, Form(max_length=10)] = "",
        days: Annotated[str, Form(max_length=10)] = "",
        note: Annotated[str, Form(max_length=5000)] = "",
    ) -> Response:
        """Write an event down, then show the patient as it is now."""
        try:
            async with access.scoped(request, "patient.life_event") as scope:
                wanted = life_events.Wanted(event, medication or None, day, _expects(side, size, days))
                patient = await patients.find(scope, patient_id)
                row = await life_events.record(scope, patient, wanted, asked(note, key))
            said = Said(f"Written down: {row['payload']['words']} on {day}.", done=True, about=ABOUT)
        except Problem as problem:
            if problem.code not in SHOWN_BESIDE:
                raise
            said = Said(f"Not written down: {_in_words(problem)}.")
        return await patient_again(request, show, patient_id, said)

    @pages.post("/patients/{patient_id}/life-events/{event_id}/withdraw")
    async def withdraw(
        request: Request, patient_id: str, event_id: str, key: Annotated[str, Form(max_length=100)]
    ) -> Response:
        """Take an event back that was written down by mistake, then show the patient as it is now."""
        async with access.scoped(request, "patient.life_event") as scope:
            patient = await patients.find(scope, patient_id)
            row = await life_events.withdraw(scope, patient, event_id, asked("", key))
        return await patient_again(request, show, patient_id, Said(f"Withdrawn: {row['payload']['words']}.", done=True))


def _expects(side: str, size: str, days: str) -> object:
    """Return what the form states, None where all is empty.

    Raises:
        Problem: a field is empty that another one needs, or what is in it is no number.
    """
    given = {"side": side, "size": size.strip(), "days": days.strip()}
    if not any(given.values()):
        return None
    if not (side and given["size"]):
        field = f"{_METRIC}.size" if side else f"{_METRIC}.side"
        raise invalid(None, field, "a value, where another of these three fields has one; or leave all three empty")
    size_days = {name: _number(given[name], name) for name in ("size", "days") if given[name]}
    return {SHIFTED_METRIC: {"side": side} | size_days}


def _number(text: str, name: str) -> float | int:
    """Return a number as people write it, ``5.5`` or ``5,5``."""
    pattern, example = _PLAIN[name]
    if not pattern.fullmatch(text):
        raise invalid(text, f"{_METRIC}.{name}", f"a plain number, e.g. {example}")
    return int(text) if text.lstrip("-").isdecimal() else float(text.replace(",", "."))


def _in_words(problem: Problem) -> str:
    """Return what is refused with the form's own labels."""
    field, allowed = problem.members.get("field", ""), problem.members.get("allowed")
    if field not in LABELS:
        return problem.detail
    said = problem.detail.removeprefix(f"{field} = ")
    if said.startswith("None "):
        return f"“{LABELS[field]}” is empty; allowed: {allowed}"
    return f"“{LABELS[field]}”: {allowed if field == _METRIC else said}"
