"""The addresses of break-glass: opening it, and looking at what was opened."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from services.api import break_glass, documents, pages
from services.api.access import Access
from services.api.change_routes import RequestKey
from services.api.documents import answers
from services.api.routes import Answer, Cursor, Key, Limit


class BreakGlassWanted(BaseModel):
    """Why somebody has to see a patient outside their team."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str


class ReviewWanted(BaseModel):
    """What somebody else says to it: ``justified`` or ``not_justified``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    verdict: str
    note: str = ""


def router(access: Access, lasting: timedelta) -> APIRouter:
    """Return the routes of one app; ``lasting`` is how long what is opened stays open."""
    v1 = APIRouter(prefix="/v1", default_response_class=Answer)

    @v1.post("/patients/{patient_id}/break-glass", responses=answers(documents.BreakGlass))
    async def open_break_glass(
        request: Request, patient_id: Key, body: BreakGlassWanted, idempotency_key: RequestKey = None
    ) -> Any:
        """See a patient outside one's team for a while; the team and the administrators are shown who did and why."""
        async with access.scoped(request, "break_glass.open") as scope:
            return await break_glass.open_for(scope, patient_id, body.reason, lasting, idempotency_key)

    @v1.get("/break-glass", responses=answers(documents.Page[documents.BreakGlass]))
    async def list_break_glass(request: Request, limit: Limit = pages.DEFAULT_LIMIT, cursor: Cursor = None) -> Any:
        """List what was opened, unreviewed first."""
        async with access.scoped(request, "break_glass.list") as scope:
            return await break_glass.listed(scope, limit, cursor)

    @v1.post("/break-glass/{number}/review", responses=answers(documents.BreakGlass))
    async def review_break_glass(
        request: Request, number: Key, body: ReviewWanted, idempotency_key: RequestKey = None
    ) -> Any:
        """Say whether it was justified; nobody reviews their own."""
        async with access.scoped(request, "break_glass.review") as scope:
            return await break_glass.review(scope, number, body.verdict, body.note, idempotency_key)

    return v1
