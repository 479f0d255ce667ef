"""A person's own page: their password, their recovery codes, and where they are signed in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from services.api.access import Access
from services.api.documents import PROBLEMS, Page, answers
from services.api.identity import factor, passwords, sessions
from services.api.identity.accounts import Accounts
from services.api.identity.front import Identity
from services.api.more_documents import Session
from services.api.problems import Code, Problem
from services.api.routes import Answer, Key
from services.web.screens import render, sentence
from services.web.sign_in import SHOWN_ON_THE_PAGE, Secret, Short, address_of

Show = Callable[..., Awaitable[Response]]


def router(identity: Identity) -> APIRouter:
    """Return the page's routes and the same below ``/v1``."""
    routes = APIRouter()
    routes.include_router(_pages(identity))
    routes.include_router(_v1(identity.access))
    return routes


def _pages(identity: Identity) -> APIRouter:
    pages = APIRouter(prefix="/account", include_in_schema=False, default_response_class=HTMLResponse)
    access = identity.access

    async def show(request: Request, status: int = 200, **said: str) -> Response:
        async with access.scoped(request, "account.read") as scope:
            listed = await sessions.listed(scope, access.idle)
            left = await factor.recovery_codes_left(scope)
            sees = {action: scope.may(f"{action}.read") for action in ("worklist", "wearing")}
        return render(
            "account.html", status, person=scope.person, now=scope.at, sessions=listed, codes_left=left,
            sees=sees,
            idle=int(access.idle.total_seconds() // 60), hours=int(access.session.total_seconds() // 3600),
            least=passwords.LEAST, advised=passwords.ADVISED, failed=said.get("failed", ""), done=said.get("done", ""),
        )  # fmt: skip

    @pages.get("")
    async def show_account(request: Request) -> Response:
        """Show it."""
        return await show(request)

    @pages.post("/sessions/end")
    async def end_session(request: Request, session: Annotated[str, Form(max_length=40)]) -> Response:
        """End one session of one's own."""
        try:
            async with access.scoped(request, "account.end_session") as scope:
                await sessions.end_one(scope, session)
        except Problem as problem:
            if problem.code is not Code.NOT_FOUND:
                raise
        return RedirectResponse("/account", 303)

    @pages.post("/sessions/end-others")
    async def end_others(request: Request) -> Response:
        """End every session but this one."""
        async with access.scoped(request, "account.end_session") as scope:
            ended = await sessions.end_all(scope.connection, scope.person.id, scope.at, keep=scope.token_id)
            scope.detail["sessions"] = ended
        return RedirectResponse("/account", 303)

    if identity.accounts is not None:
        _add_secrets(pages, access, identity.accounts, show)
    return pages


def _add_secrets(pages: APIRouter, access: Access, accounts: Accounts, show: Show) -> None:
    @pages.post("/password")
    async def change_password(
        request: Request, current: Secret = "", wanted: Secret = "", code: Short = ""
    ) -> Response:
        """Change the password, and end the other sessions."""
        try:
            async with access.scoped(request, "account.password") as scope:
                ended = await accounts.change_password(scope, current, wanted, code, address=address_of(request))
        except Problem as problem:
            return await show(request, problem.status, failed=_shown(problem))
        others = "no other session was open" if not ended else f"{ended} other session{'s' * (ended != 1)} ended"
        return await show(request, done=f"Your password was changed; {others}.")

    @pages.post("/recovery-codes")
    async def renew(request: Request, password: Secret = "", code: Short = "") -> Response:
        """Show ten new recovery codes, once; the old ones no longer work."""
        try:
            async with access.scoped(request, "account.recovery_codes") as scope:
                await accounts.confirm(scope, password, code, address=address_of(request))
                fresh = await factor.renew_recovery_codes(scope)
        except Problem as problem:
            return await show(request, problem.status, failed=_shown(problem))
        return render("recovery.html", codes=fresh, login="", person=scope.person)


def _shown(problem: Problem) -> str:
    if problem.code not in SHOWN_ON_THE_PAGE:
        raise problem
    return sentence(problem)


def _v1(access: Access) -> APIRouter:
    v1 = APIRouter(prefix="/v1/account/sessions", default_response_class=Answer)

    @v1.get("", responses=answers(Page[Session]))
    async def list_sessions(request: Request) -> Any:
        """List where one is signed in, the last used first."""
        async with access.scoped(request, "account.read") as scope:
            return {"items": await sessions.listed(scope, access.idle), "next": None}

    @v1.delete("/{session_id}", status_code=204, responses=PROBLEMS)
    async def end_session(request: Request, session_id: Key) -> Response:
        """End one of one's own sessions."""
        async with access.scoped(request, "account.end_session") as scope:
            await sessions.end_one(scope, session_id)
        return Response(status_code=204)

    return v1
