"""The addresses of programmes, of a patient's way through them, and of the organisation's limits."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from ingest.clock import Clock
from services.api import documents, patients, programmes, times
from services.api import more_documents as more
from services.api.access import Access
from services.api.change_routes import IfMatch
from services.api.changes import AWAY, etag, expected
from services.api.documents import answers
from services.api.problems import invalid
from services.api.profile_routes import LimitsWanted
from services.api.programme_documents import Enrolment, Programme
from services.api.routes import Answer, Key
from services.store import programmes as store


class Reason(BaseModel):
    """Why."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str = ""


class ProgrammeWanted(Reason):
    """A programme's document; see `services.programme.Programme`."""

    programme: dict[str, Any]


class StateWanted(Reason):
    """Whether a programme is to be used."""

    state: Literal["active", "retired"]


class StepWanted(Reason):
    """The state an enrolment is to come into, with what that needs; see `services.enrolment.STEPS`."""

    state: str
    facts: dict[str, Any] = {}


def router(access: Access, clock: Clock, partitions: int) -> APIRouter:
    """Return the routes of one app; ``partitions`` as the settings say of the control topic."""
    v1 = APIRouter(prefix="/v1", default_response_class=Answer)

    @v1.get("/programmes", responses=answers(documents.Whole[Programme]))
    async def list_programmes(request: Request) -> Any:
        """List the organisation's programmes."""
        async with access.scoped(request, "programme.list") as scope:
            return {"items": await programmes.listed(scope)}

    @v1.get("/programmes/{key}", responses=answers(Programme))
    async def read_programme(request: Request, response: Response, key: Key) -> Any:
        """Show a programme, what it still lacks, and what it was."""
        async with access.scoped(request, "programme.read") as scope:
            shown = await programmes.one(scope, key)
        response.headers["ETag"] = etag(shown["version"])
        return shown

    @v1.put("/programmes/{key}", responses=answers(Programme))
    async def set_programme(
        request: Request, response: Response, key: Key, body: ProgrammeWanted, if_match: IfMatch = None
    ) -> Any:
        """Write a programme; a new one is a draft. The limits of an active one reach its patients at once."""
        async with access.scoped(request, "programme.write") as scope:
            who = programmes.who(scope, body.reason, times.present(clock), expected(if_match), partitions)
            version = await programmes.done(scope, store.save(who, key, body.programme))
            shown = await programmes.one(scope, key)
        response.headers["ETag"] = etag(version)
        return shown

    @v1.put("/programmes/{key}/state", responses=answers(Programme))
    async def turn_programme(
        request: Request, response: Response, key: Key, body: StateWanted, if_match: IfMatch = None
    ) -> Any:
        """Activate or retire a programme; one whose ladder doesn't end in a role is not activated."""
        async with access.scoped(request, "programme.state") as scope:
            who = programmes.who(scope, body.reason, times.present(clock), expected(if_match), partitions)
            version = await programmes.done(scope, store.turn(who, key, body.state))
            shown = await programmes.one(scope, key)
        response.headers["ETag"] = etag(version)
        return shown

    @v1.get("/patients/{patient_id}/enrolments", responses=answers(documents.Whole[Enrolment]))
    async def read_enrolments(request: Request, patient_id: Key) -> Any:
        """Show how far a patient has come in each programme, and what may come next."""
        async with access.scoped(request, "enrolment.read") as scope:
            return {"items": await programmes.enrolments(scope, await patients.find(scope, patient_id))}

    @v1.put("/patients/{patient_id}/enrolments/{key}", responses=answers(Enrolment))
    async def take_step(
        request: Request, response: Response, patient_id: Key, key: Key, body: StepWanted, if_match: IfMatch = None
    ) -> Any:
        """Take a patient a step further; a step that can't be taken is refused, naming what may come next."""
        async with access.scoped(request, "patient.enrolment") as scope:
            patient = await patients.find(scope, patient_id)
            who = programmes.who(scope, body.reason, times.present(clock), expected(if_match), partitions)
            version = await programmes.done(scope, store.step(who, patient.id, key, body.state, body.facts))
            shown = await programmes.enrolments(scope, patient)
        response.headers["ETag"] = etag(version)
        return next(entry for entry in shown if entry["programme"] == key)

    @v1.get("/limits", responses=answers(more.OrganisationLimits))
    async def read_limits(request: Request, response: Response) -> Any:
        """Show the organisation's limits, and what they were."""
        async with access.scoped(request, "limits.read") as scope:
            shown = await programmes.organisation_limits(scope)
        response.headers["ETag"] = etag(shown["version"])
        return shown

    @v1.put("/limits", responses=answers(more.OrganisationLimits))
    async def set_limits(request: Request, response: Response, body: LimitsWanted, if_match: IfMatch = None) -> Any:
        """Set the organisation's limits, for every patient of it, within bounds."""
        now = times.present(clock)
        effective = times.parse("effective_at", body.effective_at) if body.effective_at else now
        if abs(effective - now) > AWAY:
            raise invalid(body.effective_at, "effective_at", f"at most {AWAY.days} days before or after now")
        async with access.scoped(request, "limits.write") as scope:
            who = programmes.who(scope, body.reason, now, expected(if_match), partitions)
            version, told = await programmes.done(scope, store.limit_organisation(who, body.rules, effective))
            shown = await programmes.organisation_limits(scope)
        response.headers["ETag"] = etag(version)
        return shown | {"patients_told": told}

    return v1
