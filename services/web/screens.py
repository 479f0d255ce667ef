"""The care team's screens: server HTML, brought up to date by htmx when the alert stream says so."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from detectors.rules import ADAPTIVE_RULES
from detectors.wear import ENOUGH_HOURS
from ingest.clock import Clock
from services.api import (
    alerts,
    break_glass,
    budget,
    changes,
    events,
    patients,
    permissions,
    scores,
    times,
    words,
    worklist,
)
from services.api.access import Access
from services.api.identity.front import Identity
from services.api.problems import Code, Problem
from services.api.scope import Scope
from services.api.weeks import document as weeks
from services.api.weeks import wearing
from services.settings import Settings
from services.web import life_events, own_words, present
from services.web.incidents import SHOWN_BESIDE, Said, Show, add_acknowledging, grouped, patient_again

HERE: Final = Path(__file__).parent
ROWS: Final = 100
MACHINES: Final = ("/v1/", "/healthz", "/readyz", "/static/")
Cursor = Annotated[str | None, Query(max_length=500)]  # a name of the module: FastAPI looks nowhere else
RENEWABLE: Final = frozenset(rule.id for rule in ADAPTIVE_RULES if rule.kind == "adaptive")  # ended by a new normal


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals.update(
        version=_static_version(),
        present=present,
        own_words=own_words,
        words=words,
        quote=lambda text: quote(text, safe=""),
    )
    return environment


def _static_version() -> str:
    """Return a digest of all static files: a changed file has a new address, so that caches may keep them."""
    digest = hashlib.sha256()
    for path in sorted((HERE / "static").rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def static_files() -> StaticFiles:
    """Return the app that serves scripts, styles and icons."""
    return StaticFiles(directory=HERE / "static")


def render(name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page or a part of one."""
    return HTMLResponse(_environment().get_template(name).render(values), status)


def is_part(name: str) -> bool:
    """Whether a template is the part of a page that is refreshed; what weeks come to is no part of it."""
    return name.startswith("_")


def wants_page(request: Request) -> bool:
    """Whether a person's browser asks, not a program."""
    return not request.url.path.startswith(MACHINES)


def problem_page(request: Request, problem: Problem) -> Response:
    """Say what is wrong in plain words; who is not signed in is shown how to, and why they no longer are."""
    if problem.code is Code.UNAUTHENTICATED:
        answer = login_page(
            request.app.state.identity, 401, failed=sentence(problem) if "ended" in problem.members else ""
        )
        if request.headers.get("hx-request"):
            answer.headers["HX-Refresh"] = "true"  # the whole page anew, which then says why
        return answer
    answer = render("problem.html", problem.status, problem=problem, closed="", notice="")
    answer.headers.update(problem.headers())
    return answer


def login_page(
    identity: Identity, status: int = 200, *, token: str = "", failed: str = "", login: str = ""
) -> Response:
    """Return the page with the ways to sign in that there are."""
    return render(
        "login.html", status, token=token, failed=failed, login=login, accounts=identity.accounts is not None,
        provider=identity.sign_in is not None,
    )  # fmt: skip


def start_of(problem: Problem) -> Response:
    """Return where somebody without a worklist begins: a patient or proxy at ``/me``, others at their account.

    Raises:
        Problem: it is about something else.
    """
    if problem.code is not Code.ROLE_NOT_ALLOWED:
        raise problem
    own = problem.members.get("role") in permissions.PLAIN_WORDS
    return RedirectResponse("/me" if own else "/account", 303)


def sentence(problem: Problem) -> str:
    """Return a problem's detail as a sentence."""
    return f"{problem.detail[:1].upper()}{problem.detail[1:]}."


def router(access: Access, clock: Clock, settings: Settings) -> APIRouter:
    """Return the screens' routes of one app."""
    pages = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    show_worklist = _add_worklist(pages, access, clock)
    show = _add_patient(pages, access, clock)
    add_acknowledging(pages, access, clock, show_worklist, show)
    _add_new_normal(pages, access, clock, settings.kafka.partitions, show)
    life_events.add_life_events(pages, access, clock, settings.kafka.partitions, show)
    _add_break_glass(pages, access, timedelta(hours=settings.api.break_glass_h))
    return pages


def _add_worklist(pages: APIRouter, access: Access, clock: Clock) -> Show:
    async def show(request: Request, name: str, cursor: str | None, said: Said | None = None) -> Response:
        now = times.present(clock)
        async with access.scoped(request, "worklist.read") as scope:
            since = await events.position(scope.connection)  # before the rows: what comes later is streamed
            page = await worklist.page(scope, now, ROWS, cursor)
            whole = name == "worklist.html"  # a month's figures need no refresh
            teams = await budget.of_teams(scope, now) if whole and scope.may("budget.read") else []
        return render(
            name, person=scope.person, now=now, since=since, page=page, cursor=cursor, patient=None, said=said,
            teams=teams, sees_wearing=whole and scope.may("wearing.read"),
            may_acknowledge=scope.may("incident.acknowledge"), request_key=secrets.token_urlsafe,
        )  # fmt: skip

    @pages.get("/")
    async def show_worklist(request: Request, cursor: Cursor = None) -> Response:
        """Show the worklist; who has nobody to look after is shown their own data, or their account."""
        try:
            return await show(request, "worklist.html", cursor)
        except Problem as problem:
            return start_of(problem)

    @pages.get("/wearing")
    async def show_wearing(request: Request, cursor: Cursor = None) -> Response:
        """Show whose wear is falling: a part of the worklist's page, fetched once; by itself a page of its own."""
        now = times.present(clock)
        async with access.scoped(request, "wearing.read") as scope:
            found = await wearing.document(scope, now, ROWS, cursor)
            back = "Worklist" if scope.may("worklist.read") else "Your account"
        name, level = ("_wearing.html", 2) if "hx-request" in request.headers else ("wearing.html", 1)
        return render(
            name, person=scope.person, now=now, found=found, cursor=cursor, back=back, hours_needed=ENOUGH_HOURS,
            level=level,
        )  # fmt: skip

    @pages.get("/worklist")
    async def show_rows(request: Request, cursor: Cursor = None) -> Response:
        """Show the worklist's rows alone, for a refresh."""
        return await show(request, "_worklist.html", cursor)

    return show


def _add_patient(pages: APIRouter, access: Access, clock: Clock) -> Show:
    async def show(request: Request, name: str, key: str, said: Said | None = None) -> Response:
        now = times.present(clock)
        scope: Scope | None = None
        try:
            async with access.scoped(request, "patient.read") as scope:
                since = await events.position(scope.connection)
                values = await _patient(scope, key, now)
                if not is_part(name) and scope.may("trend.read"):
                    values["weeks"] = await weeks.document(scope, await patients.find(scope, key), now)
        except Problem as problem:
            hidden = problem.code in (Code.NOT_FOUND, Code.CONSENT_WITHHELD)
            if hidden and scope is not None and scope.may("break_glass.open"):
                return _closed(problem, key)
            raise
        return render(name, person=scope.person, now=now, since=since, said=said, **values)

    @pages.get("/patients/{patient_id}")
    async def show_patient(request: Request, patient_id: str) -> Response:
        """Show a patient."""
        return await show(request, "patient.html", patient_id)

    @pages.get("/patients/{patient_id}/now")
    async def show_now(request: Request, patient_id: str) -> Response:
        """Show what changes on a patient's page, for a refresh."""
        return await show(request, "_patient.html", patient_id)

    @pages.get("/alerts/{alert_id}/history")
    async def show_history(request: Request, alert_id: str) -> Response:
        """Show what happened to an alert."""
        now = times.present(clock)
        async with access.scoped(request, "alert.read") as scope:
            row = await alerts.row_of(scope, alert_id)
            history = await alerts.events(scope, row["id"])
        return render("_history.html", history=history, time_zone=row["time_zone"], now=now)

    return show


def _add_new_normal(pages: APIRouter, access: Access, clock: Clock, partitions: int, show: Show) -> None:
    @pages.post("/patients/{patient_id}/new-normal")
    async def new_normal(
        request: Request,
        patient_id: str,
        metric: Annotated[str, Form(max_length=64)],
        key: Annotated[str, Form(max_length=100)],
    ) -> Response:
        """Say that a metric is as it should be from now on, then show the patient as it is now."""
        said = None
        try:
            async with access.scoped(request, "patient.new_normal") as scope:
                now = times.present(clock)
                await changes.new_normal(
                    scope, await patients.find(scope, patient_id), metric=metric, reason="", effective=now, now=now,
                    if_match=None, key=key, partitions=partitions,
                )  # fmt: skip
        except Problem as problem:
            if problem.code not in SHOWN_BESIDE:
                raise
            said = Said(f"No new normal: {problem.detail}.")
        return await patient_again(request, show, patient_id, said)


def _add_break_glass(pages: APIRouter, access: Access, lasting: timedelta) -> None:
    @pages.post("/patients/{patient_id}/break-glass")
    async def open_break_glass(
        request: Request,
        patient_id: str,
        reason: Annotated[str, Form(max_length=5000)],
        key: Annotated[str, Form(max_length=100)],
    ) -> Response:
        """Open a patient outside one's team, then show them; or say what stood in the way."""
        try:
            async with access.scoped(request, "break_glass.open") as scope:
                await break_glass.open_for(scope, patient_id, reason, lasting, key)
        except Problem as problem:
            if problem.code not in (Code.INVALID, Code.NOT_FOUND):
                raise
            return _closed(problem, patient_id, f"Not opened: {problem.detail}.")
        return RedirectResponse(f"/patients/{quote(patient_id, safe='')}", 303)

    @pages.post("/break-glass/{number}/review")
    async def review(
        request: Request,
        number: str,
        patient: Annotated[str, Form(max_length=300)],
        verdict: Annotated[str, Form(max_length=20)],
        key: Annotated[str, Form(max_length=100)],
        note: Annotated[str, Form(max_length=5000)] = "",
    ) -> Response:
        """Say whether it was justified, then show the patient."""
        async with access.scoped(request, "break_glass.review") as scope:
            await break_glass.review(scope, number, verdict, note, key)
        return RedirectResponse(f"/patients/{quote(patient, safe='')}", 303)


def _closed(problem: Problem, key: str, notice: str = "") -> Response:
    """Offer break-glass to who may; whether there is such a patient is not said."""
    return render(
        "problem.html", problem.status, problem=problem, closed=key, notice=notice, request_key=secrets.token_urlsafe
    )


async def _patient(scope: Scope, key: str, now: datetime) -> dict[str, Any]:
    found = await patients.find(scope, key)
    active, past = await grouped(scope, found) if scope.sees("alert") else ([], [])
    document = scope.show("patient", await patients.document(scope, found, now))
    return {
        "patient": document,
        "charts": sorted(document.get("metrics", []), key=lambda entry: words.metric_id(entry["metric"]["key"]) or 0),
        "open": active,
        "past": past,
        "weeks": None,
        "renewable": RENEWABLE if scope.may("patient.new_normal") else frozenset(),
        "renewals": await changes.renewals(scope, found) if scope.may("patient.new_normal") else {},
        **await life_events.of_patient(scope, found),
        "opened": await break_glass.of_patient(scope, found),
        "scores": await scores.document(scope, found, now) if await scores.open_to(scope, found) else None,
        "request_key": secrets.token_urlsafe,
        "may_acknowledge": scope.may("incident.acknowledge"),
        "sees_alerts": scope.sees("alert"),
        "sees_trends": scope.may("trend.read"),
        "may_review": scope.may("break_glass.review"),
    }
