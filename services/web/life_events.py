"""A patient's medicines and other events on their page: what stands, and forms to write down and take back."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from ingest.clock import Clock
from services import life_events as catalogue
from services.api import life_events, patients, times
from services.api.access import Access
from services.api.patients import Patient
from services.api.problems import Problem
from services.api.profile import Asked
from services.api.scope import Scope
from services.expectations import MOST, SHIFTS
from services.web.incidents import SHOWN_BESIDE, Said, Show, patient_again

SHOWN: Final = 30  # the newest written; the API lists them all
ABOUT: Final = "life-event"  # which form an outcome is about


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
            said = Said(f"Not written down: {problem.detail}.")
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
    """Return what the form states, None where all is empty; what is no number stays as it is, to be refused."""
    given = {"side": side, "size": _number(size), "days": _number(days)}
    wanted = {name: value for name, value in given.items() if value != ""}
    return {SHIFTS: wanted} if wanted else None


def _number(text: str) -> float | int | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text.strip())
    return text.strip()
