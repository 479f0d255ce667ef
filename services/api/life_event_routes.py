"""The addresses of a patient's medicines and other events."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict

from ingest.clock import Clock
from services.api import changes, documents, life_events, pages, patients, times
from services.api import more_documents as more
from services.api.access import Access
from services.api.change_routes import IfMatch, RequestKey
from services.api.documents import answers
from services.api.profile import Asked
from services.api.routes import Answer, Cursor, Key, Limit

Event = Annotated[str, Path(max_length=40)]


class ExpectedWanted(BaseModel):
    """How far a metric is expected to move by an event that no source gives a size for; see `services.expectations`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    side: Literal["fall", "rise"]
    size: float
    days: int | None = None  # None: as long as the event stands


class LifeEventWanted(BaseModel):
    """What happened and when; see `services.life_events`. No dose is asked for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    event: str
    medication: str | None = None
    day: str
    note: str = ""
    expects: dict[str, ExpectedWanted] | None = None  # by metric

    @property
    def wanted(self) -> life_events.Wanted:
        """Return it as it is checked."""
        said = self.model_dump(exclude_none=True).get("expects")
        return life_events.Wanted(self.event, self.medication, self.day, said)


class Withdrawn(BaseModel):
    """Why an event is taken back."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str = ""


def router(access: Access, clock: Clock, partitions: int) -> APIRouter:
    """Return the routes of one app; ``partitions`` as the settings say of the control topic."""
    v1 = APIRouter(prefix="/v1/patients/{patient_id}/life-events", default_response_class=Answer)

    def asked(reason: str, if_match: str | None, key: str | None) -> Asked:
        now = times.present(clock)
        return Asked(reason, now, now, if_match, key, partitions)

    @v1.get("", responses=answers(documents.Page[more.LifeEvent]))
    async def list_life_events(
        request: Request, patient_id: Key, limit: Limit = pages.DEFAULT_LIMIT, cursor: Cursor = None
    ) -> Any:
        """List a patient's medicines and other events as they were last put right, the newest written first."""
        async with access.scoped(request, "life_event.read") as scope:
            return await life_events.listed(scope, await patients.find(scope, patient_id), limit, cursor)

    @v1.post("", responses=answers(more.LifeEvent))
    async def record_life_event(
        request: Request, response: Response, patient_id: Key, body: LifeEventWanted, idempotency_key: RequestKey = None
    ) -> Any:
        """Write an event down."""
        async with access.scoped(request, "patient.life_event") as scope:
            patient = await patients.find(scope, patient_id)
            row = await life_events.record(scope, patient, body.wanted, asked(body.note, None, idempotency_key))
            document = await life_events.document(scope, row, patient)
        response.headers["ETag"] = changes.etag(row["version"])
        return document

    @v1.put("/{event_id}", responses=answers(more.LifeEvent))
    async def correct_life_event(
        request: Request, response: Response, patient_id: Key, event_id: Event, body: LifeEventWanted,
        if_match: IfMatch = None, idempotency_key: RequestKey = None,
    ) -> Any:  # fmt: skip
        """Put an event right; with If-Match only if nobody changed it since."""
        async with access.scoped(request, "patient.life_event") as scope:
            patient = await patients.find(scope, patient_id)
            how = asked(body.note, if_match, idempotency_key)
            row = await life_events.correct(scope, patient, event_id, body.wanted, how)
            document = await life_events.document(scope, row, patient)
        response.headers["ETag"] = changes.etag(row["version"])
        return document

    @v1.post("/{event_id}/withdraw", responses=answers(more.LifeEvent))
    async def withdraw_life_event(
        request: Request, response: Response, patient_id: Key, event_id: Event, body: Withdrawn,
        if_match: IfMatch = None, idempotency_key: RequestKey = None,
    ) -> Any:  # fmt: skip
        """Take an event back that was written down by mistake; every version stays in the list of changes."""
        async with access.scoped(request, "patient.life_event") as scope:
            patient = await patients.find(scope, patient_id)
            how = asked(body.reason, if_match, idempotency_key)
            row = await life_events.withdraw(scope, patient, event_id, how)
            document = await life_events.document(scope, row, patient)
        response.headers["ETag"] = changes.etag(row["version"])
        return document

    return v1
