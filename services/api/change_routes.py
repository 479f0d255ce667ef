"""The addresses of what people change about a patient."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, ConfigDict

from ingest.clock import Clock
from services.api import changes, documents, monitoring, pages, patients, times
from services.api import more_documents as more
from services.api.access import Access
from services.api.documents import answers
from services.api.routes import Answer, Cursor, Key, Limit

IfMatch = Annotated[str | None, Header(max_length=500)]
RequestKey = Annotated[str | None, Header()]


class MonitoringWanted(BaseModel):
    """The monitoring state to set; see `services.monitoring.STATES`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    state: str
    until: str | None = None
    reason: str = ""
    effective_at: str | None = None


class NewNormalWanted(BaseModel):
    """The metric whose baseline is to start afresh."""

    model_config = ConfigDict(extra="forbid", strict=True)

    metric: str
    reason: str = ""
    effective_at: str | None = None


def router(access: Access, clock: Clock, partitions: int) -> APIRouter:
    """Return the routes of one app; ``partitions`` as the settings say of the control topic."""
    v1 = APIRouter(prefix="/v1/patients/{patient_id}", default_response_class=Answer)

    @v1.put("/monitoring", responses=answers(more.Change))
    async def set_monitoring(
        request: Request, response: Response, patient_id: Key, body: MonitoringWanted,
        if_match: IfMatch = None, idempotency_key: RequestKey = None,
    ) -> Any:  # fmt: skip
        """Set the monitoring state; with If-Match only if nobody changed it since."""
        now = times.present(clock)
        until = times.parse("until", body.until) if body.until else None
        async with access.scoped(request, "patient.monitoring") as scope:
            patient = await patients.find(scope, patient_id)
            row = await changes.set_monitoring(
                scope, patient, state=body.state, until=until, reason=body.reason,
                effective=_effective(body.effective_at, now), now=now, if_match=if_match, key=idempotency_key,
                partitions=partitions,
            )  # fmt: skip
            answer = changes.document(scope, row, patient)
        response.headers["ETag"] = changes.etag(row["version"])
        return answer

    @v1.get("/monitoring", responses=answers(documents.Monitoring))
    async def read_monitoring(request: Request, response: Response, patient_id: Key) -> Any:
        """Show the monitoring state now."""
        async with access.scoped(request, "monitoring.read") as scope:
            patient = await patients.find(scope, patient_id)
            shown = await monitoring.shown(scope.connection, patient.id, times.present(clock))
        response.headers["ETag"] = changes.etag(shown["version"])
        return scope.show("monitoring", shown)

    @v1.post("/new-normal", responses=answers(more.Change))
    async def new_normal(
        request: Request, response: Response, patient_id: Key, body: NewNormalWanted,
        if_match: IfMatch = None, idempotency_key: RequestKey = None,
    ) -> Any:  # fmt: skip
        """Let the baseline of a metric start afresh, and resolve what stands against the old one."""
        now = times.present(clock)
        async with access.scoped(request, "patient.new_normal") as scope:
            patient = await patients.find(scope, patient_id)
            row = await changes.new_normal(
                scope, patient, metric=body.metric, reason=body.reason, effective=_effective(body.effective_at, now),
                now=now, if_match=if_match, key=idempotency_key, partitions=partitions,
            )  # fmt: skip
            answer = changes.document(scope, row, patient)
        response.headers["ETag"] = changes.etag(row["version"])
        return answer

    @v1.get("/changes", responses=answers(documents.Page[more.Change]))
    async def list_changes(
        request: Request, patient_id: Key, limit: Limit = pages.DEFAULT_LIMIT, cursor: Cursor = None
    ) -> Any:
        """List what people changed about a patient, the newest first."""
        async with access.scoped(request, "patient.changes") as scope:
            return await changes.listed(scope, await patients.find(scope, patient_id), limit, cursor)

    @v1.get("/suppressed", responses=answers(documents.Page[more.Suppressed]))
    async def list_suppressed(
        request: Request, patient_id: Key, limit: Limit = pages.DEFAULT_LIMIT, cursor: Cursor = None
    ) -> Any:
        """List the findings that a monitoring state kept quiet, the newest first."""
        async with access.scoped(request, "patient.suppressed") as scope:
            return await changes.suppressed(scope, await patients.find(scope, patient_id), limit, cursor)

    return v1


def _effective(text: str | None, now: datetime) -> datetime:
    return times.parse("effective_at", text) if text else now
