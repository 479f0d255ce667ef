"""The screens before and around signing in: link, password and code, a provider, an invitation, the way out."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from services.api.access import Access
from services.api.credentials import COOKIE, cookie_name, credential, over_tls, token_hash
from services.api.identity import codes, passwords, refusals
from services.api.identity.front import Identity
from services.api.identity.invitations import Invitation
from services.api.identity.oidc import BACK, BEGUN_S
from services.api.identity.sessions import id_token
from services.api.problems import Code, Problem
from services.api.scope import Origin
from services.web.screens import login_page, render, sentence

BEGUN_COOKIE: Final = "keepwell_sign_in"
SHOWN_ON_THE_PAGE: Final = (Code.SIGN_IN_REFUSED, Code.TOO_MANY_TRIES, Code.INVALID, Code.NOT_KNOWN_HERE)

Short = Annotated[str, Form(max_length=300)]
Secret = Annotated[str, Form(max_length=1000)]
Token = Annotated[str, Query(max_length=200)]


def router(identity: Identity) -> APIRouter:
    """Return the routes of one app."""
    pages = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    _add_login(pages, identity)
    _add_password(pages, identity)
    _add_provider(pages, identity)
    _add_invitation(pages, identity)
    return pages


async def signed_in(request: Request, answer: Response, access: Access, session: str) -> Response:
    """Give a browser its session's cookie along with an answer; the session it had before ends."""
    before = request.cookies.get(cookie_name(request))
    if before:
        await access.end(token_hash(before))
    answer.set_cookie(
        cookie_name(request), session, max_age=int(access.session.total_seconds()), path="/", httponly=True,
        secure=over_tls(request), samesite="strict",
    )  # fmt: skip
    return answer


def forget(request: Request, answer: Response, name: str = COOKIE) -> Response:
    """Take a cookie back; a browser heeds that for a `__Host-` name only where it is said securely."""
    answer.delete_cookie(cookie_name(request, name), path="/", httponly=True, secure=over_tls(request))
    return answer


def address_of(request: Request) -> str:
    """Return the network address a request came from."""
    return request.client.host if request.client else ""


def agent_of(request: Request) -> str:
    """Return what a browser calls itself."""
    return request.headers.get("user-agent", "")


def _add_login(pages: APIRouter, identity: Identity) -> None:
    access = identity.access

    @pages.get("/login")
    async def show_login(token: Token = "") -> Response:
        """Show the ways to sign in; for a link the button that does it. Following the link alone uses nothing up:
        mail and chat programs, virus scanners and previews follow links too, but they do not press buttons."""
        return login_page(identity, token=token)

    @pages.post("/login")
    async def login(request: Request, token: Annotated[str, Form(max_length=200)]) -> Response:
        """Exchange the link for a session, once."""
        origin = Origin.of(request)
        session = await access.exchange(token, origin)
        if session is None:
            await refusals.of_link(access, token, origin)
            return login_page(identity, 401, failed="This link was used before, or has expired.")
        return await signed_in(request, RedirectResponse("/", 303), access, session)

    @pages.post("/logout")
    async def logout(request: Request) -> Response:
        """End the session here and in the database, and where it began at a provider, there."""
        hashed, onward = credential(request), None
        if identity.sign_in is not None:
            onward = await identity.sign_in.leave(await id_token(access, hashed), base_of(request))
        await access.end(hashed)
        answer = render("onward.html", where=onward, what="Signing out") if onward else RedirectResponse("/login", 303)
        return forget(request, answer)


def _add_password(pages: APIRouter, identity: Identity) -> None:
    accounts = identity.accounts
    if accounts is None:
        return

    @pages.post("/login/password")
    async def with_password(request: Request, name: Short = "", password: Secret = "", code: Short = "") -> Response:
        """Sign in with a name, a password and a code."""
        try:
            session = await accounts.sign_in(name, password, code, origin=Origin.of(request), agent=agent_of(request))
        except Problem as problem:
            if problem.code not in SHOWN_ON_THE_PAGE:
                raise
            answer = login_page(identity, problem.status, failed=sentence(problem), login=name)
            answer.headers.update(problem.headers())
            return answer
        return await signed_in(request, RedirectResponse("/", 303), identity.access, session)


def _add_provider(pages: APIRouter, identity: Identity) -> None:
    sign_in = identity.sign_in
    if sign_in is None:
        return

    @pages.get("/login/provider")
    async def begin(request: Request, invitation: Token = "") -> Response:
        """Send the browser to the provider."""
        where, begun = await sign_in.begin(base_of(request), invitation)
        answer = RedirectResponse(where, 303)
        answer.set_cookie(
            cookie_name(request, BEGUN_COOKIE), begun, max_age=BEGUN_S, path="/", httponly=True,
            secure=over_tls(request), samesite="lax",  # the way back comes from another site
        )  # fmt: skip
        return answer

    @pages.get(BACK)
    async def back(
        request: Request,
        state: Annotated[str, Query(max_length=200)] = "",
        code: Annotated[str, Query(max_length=4000)] = "",
        iss: Annotated[str, Query(max_length=1000)] = "",
    ) -> Response:
        """Take the browser back. The page goes on by itself, because a redirect that another site began would not
        bring the new session's cookie along."""
        try:
            session = await sign_in.finish(
                request.cookies.get(cookie_name(request, BEGUN_COOKIE), ""), state, code, iss,
                origin=Origin.of(request), agent=agent_of(request),
            )  # fmt: skip
        except Problem as problem:
            if problem.code not in SHOWN_ON_THE_PAGE:
                raise
            answer: Response = login_page(identity, problem.status, failed=sentence(problem))
        else:
            page = render("onward.html", where="/", what="Signing in")
            answer = await signed_in(request, page, identity.access, session)
        return forget(request, answer, BEGUN_COOKIE)

    @pages.post("/login/provider/ended")
    async def ended(logout_token: Annotated[str, Form(max_length=8192)]) -> Response:
        """Take the provider's word that a sign-in has ended (back-channel logout)."""
        await sign_in.ended_there(logout_token)
        return Response(status_code=200)


def _add_invitation(pages: APIRouter, identity: Identity) -> None:
    found = identity.invitations
    if found is None:
        return

    @pages.get("/invitation")
    async def show(token: Token = "") -> Response:
        """Show what an invitation asks for; looking uses nothing up."""
        try:
            return invitation_page(identity, await found.open(token))
        except Problem as problem:
            return _no_invitation(identity, problem)

    @pages.post("/invitation")
    async def accept(
        request: Request, token: Short = "", sealed: Secret = "", password: Secret = "", code: Short = ""
    ) -> Response:
        """Make the account, sign in, and show the recovery codes, once."""
        origin = Origin.of(request)
        try:
            invitation = await found.open(token, sealed)
        except Problem as problem:
            await refusals.of_link(identity.access, token, origin, "account.accept")
            return _no_invitation(identity, problem)
        try:
            session, fresh = await found.accept(invitation, password, code, origin=origin, agent=agent_of(request))
        except Problem as problem:
            if problem.code not in SHOWN_ON_THE_PAGE:
                raise
            return invitation_page(identity, invitation, problem.status, sentence(problem))
        page = render("recovery.html", codes=fresh, login=invitation.login, person=invitation.person)
        return await signed_in(request, page, identity.access, session)


def _no_invitation(identity: Identity, problem: Problem) -> Response:
    if problem.code not in SHOWN_ON_THE_PAGE:
        raise problem
    return login_page(identity, problem.status, failed=sentence(problem))


def invitation_page(identity: Identity, invitation: Invitation, status: int = 200, failed: str = "") -> Response:
    """Return the page that asks for a password and a code of a new app."""
    return render(
        "invitation.html", status, failed=failed, invitation=invitation, provider=identity.sign_in is not None,
        picture=codes.picture(codes.address(invitation.secret, invitation.login)), least=passwords.LEAST,
        advised=passwords.ADVISED,
    )  # fmt: skip


def base_of(request: Request) -> str:
    """Return our own address as the browser knows it, without a slash at its end."""
    public: str = request.app.state.settings.api.public_url
    return (public or str(request.base_url)).rstrip("/")
