"""The patient's own screens: how they are, what was noticed, who looked, and a copy to take along."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from ingest.clock import Clock
from services.api import alerts, audit, events, patients, times, words
from services.api.access import Access
from services.api.problems import Code, Problem
from services.api.scope import Scope
from services.api.weeks import document as weeks
from services.web import own_consents, own_words
from services.web.screens import is_part, render

PAST_ALERTS: Final = 20
MOST: Final = 100  # people a proxy may choose from on one page
ROWS: Final = 50
SPAN: Final = timedelta(days=30)  # of one page about who looked; older ones by its link


def router(access: Access, clock: Clock, partitions: int) -> APIRouter:
    """Return the screens' routes of one app; ``partitions`` as the settings say of the control topic."""
    pages = APIRouter(prefix="/me", include_in_schema=False, default_response_class=HTMLResponse)

    async def show(request: Request, name: str, key: str) -> Response:
        now = times.present(clock)
        async with access.scoped(request, "patient.read") as scope:
            _for_them(scope)
            since = await events.position(scope.connection)  # before the rows: what comes later is streamed
            values = await _values(scope, key, now)
            if not is_part(name) and "readings" in values["opened"]:
                found = await patients.find(scope, key)
                values["weeks"] = own_words.weeks(await weeks.document(scope, found, now))
        return render(name, person=scope.person, now=now, since=since, **values)

    @pages.get("")
    async def show_me(request: Request) -> Response:
        """Show a patient themself, and a proxy the one they look on for, or whom there is to choose from."""
        async with access.scoped(request, "patients.list") as scope:
            _for_them(scope)
            found = (await patients.listed(scope, MOST, None))["items"]
        if len(found) == 1:
            return await show(request, "me.html", found[0]["id"])
        return render("me_choose.html", person=scope.person, found=found)

    @pages.get("/{key}")
    async def show_one(request: Request, key: str) -> Response:
        """Show one of those somebody may see."""
        return await show(request, "me.html", key)

    @pages.get("/{key}/now")
    async def show_now(request: Request, key: str) -> Response:
        """Show what changes, for a refresh."""
        return await show(request, "_me.html", key)

    @pages.get("/{key}/accesses")
    async def show_accesses(
        request: Request,
        key: str,
        to: Annotated[str | None, Query(max_length=40)] = None,
        cursor: Annotated[str | None, Query(max_length=500)] = None,
    ) -> Response:
        """Show who used the data, the newest day first."""
        last = times.parse("to", to) if to else None
        async with access.scoped(request, "patient.accesses") as scope:
            _for_them(scope)
            found = await patients.find(scope, key)
            end = max(last or scope.at + timedelta(days=1), found.enrolled_at)
            page = await audit.accesses(scope, found, end - SPAN, end, ROWS, cursor)
        return render(
            "me_accesses.html", person=scope.person, patient=found, days=own_words.by_day(page["items"]),
            next=page["next"], to=times.rfc3339(end), earlier=times.rfc3339(end - SPAN), latest=last is None,
            more=end - SPAN > found.enrolled_at, own=scope.person.role == "patient",
            first=own_words.long_day((end - SPAN).date().isoformat()),
            last=own_words.long_day((end - timedelta(days=1)).date().isoformat()),
        )  # fmt: skip

    own_consents.add_deciding(pages, access, clock, partitions)
    return pages


def _for_them(scope: Scope) -> None:
    """Let patients and proxies pass: the words here are theirs.

    Raises:
        Problem: somebody of another role.
    """
    if not scope.plain:
        detail = f"these pages are for patients and who looks on for them, not for the role {scope.person.role}"
        raise Problem(Code.ROLE_NOT_ALLOWED, detail, role=scope.person.role)


async def _values(scope: Scope, key: str, now: datetime) -> dict[str, Any]:
    found = await patients.find(scope, key)
    document = await patients.document(scope, found, now)
    opened = await patients.opened(scope, found)
    own = scope.person.role == "patient"
    charts = sorted(document["metrics"], key=lambda entry: words.metric_id(entry["metric"]["key"]) or 0)
    return {
        "patient": document,
        "own": own,
        "voice": own_words.OWN if own else own_words.OTHER,
        "opened": opened,
        "weeks": [],
        "charts": charts,
        "active": (await alerts.listed(scope, patient=key, state="active", limit=100))["items"],
        "past": await alerts.past(scope, found, PAST_ALERTS),
        "consents": await own_consents.section(scope, key, found.time_zone, now) if own else None,
        "request_key": secrets.token_urlsafe,
        "path": f"/me/{quote(found.key, safe='')}",
    }
