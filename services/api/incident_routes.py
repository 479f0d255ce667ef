"""The addresses of incidents, and of what adaptive rules brought each team."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from ingest.clock import Clock
from services.api import acknowledge, budget, incident_documents, incidents, patients, times
from services.api.access import Access
from services.api.documents import answers
from services.api.routes import Answer, Instant, Key


class IncidentAcknowledgement(BaseModel):
    """What whoever acknowledges was shown (id of an alert → its ETag), and what they say to it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    seen: dict[str, str] = Field(max_length=incidents.MOST)
    note: str = ""


def router(access: Access, clock: Clock) -> APIRouter:
    """Return the routes of one app."""
    v1 = APIRouter(prefix="/v1", default_response_class=Answer)

    @v1.get("/patients/{patient_id}/incidents", responses=answers(incident_documents.Incidents))
    async def list_incidents(
        request: Request,
        patient_id: Key,
        start: Annotated[str | None, Query(alias="from", max_length=40)] = None,
        to: Instant = None,
    ) -> Any:
        """List the incidents that touch a span, open ones first, then those that began last."""
        first = times.parse("from", start) if start else None
        last = times.parse("to", to) if to else None
        async with access.scoped(request, "incidents.list") as scope:
            patient = await patients.find(scope, patient_id)
            return await incidents.listed(scope, patient, *incidents.span(first, last, times.present(clock)))

    @v1.post("/patients/{patient_id}/incidents/{alert_id}/acknowledge", responses=answers(incident_documents.Incident))
    async def acknowledge_incident(
        request: Request,
        patient_id: Key,
        alert_id: Key,
        body: IncidentAcknowledgement,
        idempotency_key: Annotated[str | None, Header()] = None,
    ) -> Any:
        """Acknowledge what was seen of the incident that covers an alert, if that is all there is to see of it."""
        async with access.scoped(request, "incident.acknowledge") as scope:
            patient = await patients.find(scope, patient_id)
            found, covered = await acknowledge.acknowledge_incident(
                scope, patient, alert_id, seen=body.seen, note=body.note, now=times.present(clock), key=idempotency_key
            )
            return incidents.document(scope, patient, found) | {"covered": [str(row["id"]) for row in covered]}

    @v1.get("/alert-budget", responses=answers(incident_documents.AlertBudget))
    async def read_alert_budget(request: Request) -> Any:
        """Tell how many incidents adaptive rules brought each of one's teams, a patient-week, of how many agreed."""
        async with access.scoped(request, "budget.read") as scope:
            return await budget.document(scope, times.present(clock))

    return v1
