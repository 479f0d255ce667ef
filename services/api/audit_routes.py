"""The addresses of the audit: the search of administrators, and who saw what of one patient."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from services.api import audit, documents, pages, patients, times
from services.api import more_documents as more
from services.api.access import Access
from services.api.documents import answers
from services.api.routes import Answer, Cursor, Instant, Key, Limit

From = Annotated[str | None, Query(alias="from", max_length=40)]


def router(access: Access) -> APIRouter:
    """Return the routes of one app."""
    v1 = APIRouter(prefix="/v1", default_response_class=Answer)

    @v1.get("/audit", responses=answers(documents.Page[more.AuditRow]))
    async def search_audit(
        request: Request,
        patient: Annotated[str | None, Query(max_length=300)] = None,
        person: Annotated[str | None, Query(max_length=300)] = None,
        action: Annotated[str | None, Query(max_length=64)] = None,
        start: From = None,
        to: Instant = None,
        limit: Limit = pages.DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Any:
        """List who did what to whose data, the newest first."""
        first = times.parse("from", start) if start else None
        last = times.parse("to", to) if to else None
        async with access.scoped(request, "audit.read") as scope:
            found = await patients.find(scope, patient) if patient is not None else None
            return await audit.searched(
                scope, patient=found, person=person, action=action, start=first, to=last, limit=limit, cursor=cursor
            )

    @v1.get("/patients/{patient_id}/accesses", responses=answers(documents.Page[more.AccessDay]))
    async def list_accesses(
        request: Request, patient_id: Key, start: From = None, to: Instant = None,
        limit: Limit = pages.DEFAULT_LIMIT, cursor: Cursor = None,
    ) -> Any:  # fmt: skip
        """List who used a patient's data, in words for the patient."""
        first = times.parse("from", start) if start else None
        last = times.parse("to", to) if to else None
        async with access.scoped(request, "patient.accesses") as scope:
            found = await patients.find(scope, patient_id)
            return await audit.accesses(scope, found, first, last, limit, cursor)

    return v1
