"""What every response carries and every request must keep to, as plain ASGI so that streams pass untouched."""

from __future__ import annotations

import json
import secrets
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.problems import PROBLEM_TYPE, Code, Problem

MAX_BODY: Final = 65_536
SELF_EVIDENT: Final = ("/login/provider/ended",)  # a provider's server comes here; what it sends is signed
SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # not no-referrer: browsers then send "Origin: null" with our own forms
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
ONE_YEAR: Final = "max-age=31536000; includeSubDomains"
REQUEST_ID: Final = "X-Request-Id"  # ours alone: what a client sends under this name is not looked at


class Guard:
    """Names each request, adds security headers, refuses large bodies and what another site makes a browser send.

    A session cookie is sent by the browser on its own, so a write that carries no bearer token must show that it
    comes from our own pages: ``Sec-Fetch-Site``, or where a browser has none, ``Origin``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                dress(MutableHeaders(scope=message), scope)
            await send(message)

        problem = _refusal(scope, headers)
        if problem is not None:
            await _refuse(problem, send_guarded)
            return
        await self._app(scope, _bounded(receive), send_guarded)


def _refusal(scope: Scope, headers: Headers) -> Problem | None:
    if scope["method"] in SAFE_METHODS:
        return None
    if int(headers.get("content-length", "0") if headers.get("content-length", "0").isdigit() else 0) > MAX_BODY:
        return Problem(Code.BODY_TOO_LARGE, f"at most {MAX_BODY} bytes are taken here")
    if scope["path"] in SELF_EVIDENT:
        return None
    if headers.get("authorization", "").lower().startswith("bearer ") or _from_here(scope, headers):
        return None
    detail = "send a bearer token, or use the pages of this site itself"
    return Problem(Code.CROSS_SITE, detail)


def _from_here(scope: Scope, headers: Headers) -> bool:
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return headers.get("origin", "") == f"{scope['scheme']}://{headers.get('host', '')}"


def _bounded(receive: Receive) -> Receive:
    """Count a body's bytes as they come: a length may be missing or a lie."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_BODY:
            raise Problem(Code.BODY_TOO_LARGE, f"at most {MAX_BODY} bytes are taken here")
        return message

    return counted


def dress(headers: MutableHeaders, scope: Scope) -> None:
    """Add to an answer what every answer carries; what is answered outside the guard must ask for it."""
    headers[REQUEST_ID] = scope.get("state", {}).get("request_id", "")
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if not scope["path"].startswith("/static/"):
        headers.setdefault("Cache-Control", "no-store")
    if scope["scheme"] == "https":
        headers.setdefault("Strict-Transport-Security", ONE_YEAR)


async def _refuse(problem: Problem, send: Send) -> None:
    body = json.dumps(problem.document()).encode()
    headers = [(b"content-type", PROBLEM_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
