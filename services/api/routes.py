"""The addresses below ``/v1``: JSON in, JSON out, one transaction each."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict

from ingest.clock import Clock
from services.api import acknowledge as acknowledging
from services.api import (
    alerts,
    break_glass,
    documents,
    events,
    frames,
    pages,
    patients,
    scores,
    times,
    trends,
    worklist,
)
from services.api import more_documents as more
from services.api.access import Access
from services.api.credentials import credential
from services.api.documents import STREAM, answers
from services.api.score_documents import Scores
from services.api.stream import AlertHub
from services.api.weeks import document as weeks
from services.api.weeks import wearing
from services.api.weeks.schema import WearingList, Weeks
from services.api.worklist_documents import Frame, Worklist

Limit = Annotated[int, Query(ge=1, le=pages.MAX_LIMIT)]
Cursor = Annotated[str | None, Query(max_length=500)]
Key = Annotated[str, Path(max_length=300)]
Instant = Annotated[str | None, Query(max_length=40)]


class Acknowledgement(BaseModel):
    """What may be said with an acknowledgement."""

    model_config = ConfigDict(extra="forbid", strict=True)

    note: str = ""


class Answer(JSONResponse):
    """JSON with real characters and no spaces."""

    media_type = "application/json"


def router(access: Access, hub: AlertHub, clock: Clock) -> APIRouter:
    """Return the routes of one app."""
    v1 = APIRouter(prefix="/v1", default_response_class=Answer)

    @v1.get("/patients", responses=answers(documents.CountedPage[documents.PatientItem]))
    async def list_patients(request: Request, limit: Limit = pages.DEFAULT_LIMIT, cursor: Cursor = None) -> Any:
        """List the patients one may see."""
        async with access.scoped(request, "patients.list") as scope:
            return await patients.listed(scope, limit, cursor)

    @v1.get("/patients/{patient_id}", responses=answers(documents.Patient))
    async def read_patient(request: Request, patient_id: Key) -> Any:
        """Show a patient with devices and the data state of each metric."""
        async with access.scoped(request, "patient.read") as scope:
            patient = await patients.find(scope, patient_id)
            document = await patients.document(scope, patient, times.present(clock))
            if scope.sees("break_glass"):
                document["break_glass"] = await break_glass.of_patient(scope, patient)
            return scope.show("patient", document)

    @v1.get("/patients/{patient_id}/trends", responses=answers(more.Trend))
    async def read_trend(
        request: Request,
        patient_id: Key,
        metric: Annotated[str, Query(max_length=64)],
        start: Annotated[str | None, Query(alias="from", max_length=40)] = None,
        to: Instant = None,
        points: int = trends.DEFAULT_POINTS,
    ) -> Any:
        """Show one metric over any span, with its own-baseline band and the alerts that overlap."""
        first = times.parse("from", start) if start else None
        last = times.parse("to", to) if to else None
        async with access.scoped(request, "trend.read") as scope:
            patient = await patients.find(scope, patient_id)
            begin, end = trends.span(first, last, times.present(clock))
            scope.detail.update(metric=metric, **{"from": times.rfc3339(begin), "to": times.rfc3339(end)})
            return Answer(await trends.document(scope, patient, metric, begin, end, points))

    @v1.get("/patients/{patient_id}/scores", responses=answers(Scores))
    async def read_scores(request: Request, patient_id: Key) -> Any:
        """Show the clinical scores of the newest values, each with what it is made of and what is missing."""
        async with access.scoped(request, "scores.read") as scope:
            patient = await patients.find(scope, patient_id)
            await scores.deny_withheld(scope, patient)
            return await scores.document(scope, patient, times.present(clock))

    @v1.get("/patients/{patient_id}/trend-statements", responses=answers(Weeks))
    async def read_trend_statements(request: Request, patient_id: Key) -> Any:
        """Say what the patient's weeks come to against their own days: how far, since when, how sure; or not known."""
        async with access.scoped(request, "trend.read") as scope:
            patient = await patients.find(scope, patient_id)
            scope.detail.update(statements=True)
            return Answer(await weeks.document(scope, patient, times.present(clock)))

    @v1.get("/wearing", responses=answers(WearingList))
    async def read_wearing(request: Request, limit: Limit = pages.DEFAULT_LIMIT, cursor: Cursor = None) -> Any:
        """List whose wear is falling or has stopped, as their own page says it; nothing of it alerts."""
        async with access.scoped(request, "wearing.read") as scope:
            return await wearing.document(scope, times.present(clock), limit, cursor)

    @v1.get("/worklist", responses=answers(Worklist))
    async def read_worklist(request: Request, limit: Limit = pages.DEFAULT_LIMIT, cursor: Cursor = None) -> Any:
        """List one row a patient, whoever needs somebody first."""
        async with access.scoped(request, "worklist.read") as scope:
            return await worklist.page(scope, times.present(clock), limit, cursor)

    @v1.get("/alerts", responses=answers(documents.CountedPage[documents.Alert]))
    async def list_alerts(
        request: Request,
        patient: Annotated[str | None, Query(max_length=300)] = None,
        state: str | None = None,
        kind: str | None = None,
        priority: str | None = None,
        late: bool | None = None,
        acknowledged: bool | None = None,
        limit: Limit = pages.DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Any:
        """List alerts, the newest raised first."""
        async with access.scoped(request, "alerts.list") as scope:
            return await alerts.listed(
                scope, patient=patient, state=state, kind=kind, priority=priority, late=late,
                acknowledged=acknowledged, limit=limit, cursor=cursor,
            )  # fmt: skip

    @v1.get("/alerts/stream", response_class=StreamingResponse, responses=STREAM)
    async def stream_alerts(
        request: Request,
        last_event_id: Annotated[str | None, Header(max_length=60)] = None,
        since: Annotated[str | None, Query(max_length=60)] = None,
    ) -> StreamingResponse:
        """Send alert changes as they come, from ``Last-Event-ID``, else ``since``, else from now on."""
        named = events.Cursor.parse(last_event_id, "Last-Event-ID") if last_event_id else None
        named = named or (events.Cursor.parse(since, "since") if since else None)
        async with access.scoped(request, "alert.stream") as scope:
            start = named or await events.position(scope.connection)
        stream = await hub.watch(scope.person, credential(request), scope.origin, start)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    @v1.get("/alerts/{alert_id}", responses=answers(documents.Alert))
    async def read_alert(request: Request, response: Response, alert_id: Key) -> Any:
        """Show an alert with its history."""
        async with access.scoped(request, "alert.read") as scope:
            row = await alerts.row_of(scope, alert_id)
            history = await alerts.events(scope, row["id"])
        response.headers["ETag"] = alerts.etag(row)
        return alerts.document(scope, row) | {"events": history}

    @v1.post("/alerts/{alert_id}/acknowledge", responses=answers(documents.Alert))
    async def acknowledge_alert(
        request: Request,
        response: Response,
        alert_id: Key,
        body: Acknowledgement | None = None,
        if_match: Annotated[str | None, Header(max_length=500)] = None,
        idempotency_key: Annotated[str | None, Header()] = None,
    ) -> Any:
        """Acknowledge an active alert; done twice, it is done once."""
        async with access.scoped(request, "alert.acknowledge") as scope:
            row = await acknowledging.acknowledge(
                scope, alert_id, note=body.note if body else "", now=times.present(clock),
                if_match=if_match, key=idempotency_key,
            )  # fmt: skip
            history = await alerts.events(scope, row["id"])
        response.headers["ETag"] = alerts.etag(row)
        return alerts.document(scope, row) | {"events": history}

    @v1.get("/frames/{frame_id}", responses=answers(Frame))
    async def read_frame(request: Request, frame_id: Key) -> Any:
        """Show what became of an accepted frame."""
        async with access.scoped(request, "frame.read") as scope:
            return await frames.document(scope, frame_id)

    return v1
