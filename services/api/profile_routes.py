"""The addresses of a patient's profile and own limits."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from ingest.clock import Clock
from services.api import changes, patients, profile, times
from services.api import more_documents as more
from services.api.access import Access
from services.api.change_routes import IfMatch, RequestKey
from services.api.documents import answers
from services.api.profile import Asked
from services.api.routes import Answer, Key


class Said(BaseModel):
    """Why, and from when on; now where left out."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str = ""
    effective_at: str | None = None


class ProfileWanted(Said):
    """A profile, or what is to be merged into the one there is; see `services.profile.Profile`."""

    profile: dict[str, Any]


class LimitsWanted(Said):
    """The patient's own limits, bounds of drifts and alert budget, all of them; see `services.limits`."""

    rules: dict[str, Any]


def asked(body: Said, clock: Clock, if_match: str | None, key: str | None, partitions: int) -> Asked:
    """Return how a change is asked for."""
    now = times.present(clock)
    effective = times.parse("effective_at", body.effective_at) if body.effective_at else now
    return Asked(body.reason, effective, now, if_match, key, partitions)


def router(access: Access, clock: Clock, partitions: int, alert_budget: str) -> APIRouter:
    """Return the routes of one app; ``partitions`` of the control topic and ``alert_budget`` as the settings say."""
    v1 = APIRouter(prefix="/v1/patients/{patient_id}", default_response_class=Answer)

    async def write(
        request: Request, response: Response, patient_id: str, body: ProfileWanted, how: Asked, *, merge: bool
    ) -> Any:
        async with access.scoped(request, "patient.profile") as scope:
            patient = await patients.find(scope, patient_id)
            row = await profile.set_profile(scope, patient, body.profile, how, merge=merge)
        response.headers["ETag"] = changes.etag(row["version"])
        return changes.document(scope, row, patient)

    @v1.put("/profile", responses=answers(more.Change))
    async def set_profile(
        request: Request, response: Response, patient_id: Key, body: ProfileWanted,
        if_match: IfMatch = None, idempotency_key: RequestKey = None,
    ) -> Any:  # fmt: skip
        """Set the whole profile; what is left out is not known of the person."""
        how = asked(body, clock, if_match, idempotency_key, partitions)
        return await write(request, response, patient_id, body, how, merge=False)

    @v1.patch("/profile", responses=answers(more.Change))
    async def merge_profile(
        request: Request, response: Response, patient_id: Key, body: ProfileWanted,
        if_match: IfMatch = None, idempotency_key: RequestKey = None,
    ) -> Any:  # fmt: skip
        """Merge a document into the profile (RFC 7396): null takes a field away."""
        how = asked(body, clock, if_match, idempotency_key, partitions)
        return await write(request, response, patient_id, body, how, merge=True)

    @v1.get("/profile", responses=answers(more.Profile))
    async def read_profile(request: Request, response: Response, patient_id: Key) -> Any:
        """Show the profile, who set what and when."""
        async with access.scoped(request, "profile.read") as scope:
            shown = await profile.shown(scope, await patients.find(scope, patient_id), times.present(clock))
        response.headers["ETag"] = changes.etag(shown["version"])
        return shown

    @v1.put("/limits", responses=answers(more.Change))
    async def set_limits(
        request: Request, response: Response, patient_id: Key, body: LimitsWanted,
        if_match: IfMatch = None, idempotency_key: RequestKey = None,
    ) -> Any:  # fmt: skip
        """Set the patient's own limits, within bounds; what is left out is as it is for others."""
        how = asked(body, clock, if_match, idempotency_key, partitions)
        async with access.scoped(request, "patient.limits") as scope:
            patient = await patients.find(scope, patient_id)
            row = await profile.set_limits(scope, patient, body.rules, how)
        response.headers["ETag"] = changes.etag(row["version"])
        return changes.document(scope, row, patient)

    @v1.get("/limits", responses=answers(more.Limits))
    async def read_limits(request: Request, response: Response, patient_id: Key) -> Any:
        """Show each rule as it holds for the patient: its numbers and their origin, or why it is off."""
        async with access.scoped(request, "profile.read") as scope:
            patient = await patients.find(scope, patient_id)
            shown = await profile.limits_shown(scope, patient, times.present(clock), alert_budget)
        response.headers["ETag"] = changes.etag(shown["version"])
        return shown

    return v1
