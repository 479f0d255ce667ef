"""The address of a patient's own data as a file."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from ingest.clock import Clock
from services.api import patients, times
from services.api.access import Access
from services.api.documents import EXPORT
from services.api.export.download import Download, Exports, known
from services.api.routes import Key
from services.store import audit


def router(access: Access, clock: Clock) -> APIRouter:
    """Return the routes of one app."""
    v1 = APIRouter(prefix="/v1")
    exports = Exports(access)

    @v1.get("/patients/{patient_id}/export", response_class=StreamingResponse, responses=EXPORT)
    async def export(
        request: Request, patient_id: Key, form: Annotated[str, Query(alias="format", max_length=20)] = "fhir"
    ) -> Download:
        """Take everything stored about a patient along: a FHIR R4 Bundle, or CSV files in a ZIP."""
        async with access.scoped(request, "patient.export") as scope:
            scope.purpose = audit.PATIENT_RIGHT
            found, how = await patients.find(scope, patient_id), known(form)
            exports.check()
            scope.detail.update(format=form)
        # what is sent was written down before: the row above is committed
        return Download(exports.pieces(scope, found, how, times.present(clock)), how, "keepwell")

    return v1
