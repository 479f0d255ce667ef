"""What a request shows of who sent it: a token or a cookie, and whether its person did something."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from starlette.requests import HTTPConnection

from services.api.problems import Code, Problem

COOKIE: Final = "keepwell_session"
HOST_ONLY: Final = "__Host-"
MAX_TOKEN: Final = 200
MAX_JWT: Final = 8192


def new_token() -> str:
    """Return a fresh 256-bit token."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """Return what is stored of a token. 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def cookie_name(request: HTTPConnection, name: str = COOKIE) -> str:
    """Return a cookie's name: with TLS one that only this host, over TLS and for all its paths, can have set."""
    return HOST_ONLY + name if over_tls(request) else name


def over_tls(request: HTTPConnection) -> bool:
    """Whether a request came over TLS, here or at a proxy that is believed."""
    return request.url.scheme in ("https", "wss")


def presented(request: HTTPConnection) -> str:
    """Return the request's bearer token or session cookie as it is.

    Raises:
        Problem: there is neither.
    """
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
    else:
        token = request.cookies.get(cookie_name(request), "")
    if not token or len(token) > (MAX_JWT if is_jwt(token) else MAX_TOKEN):
        raise Problem(Code.UNAUTHENTICATED, "send `Authorization: Bearer TOKEN`, or sign in")
    return token


def is_jwt(token: str) -> bool:
    """Whether a token is a provider's: ours have no dots."""
    return token.count(".") == 2


def credential(request: HTTPConnection) -> bytes:
    """Return the hash of the request's bearer token or session cookie.

    Raises:
        Problem: there is neither.
    """
    return token_hash(presented(request))


def is_use(request: HTTPConnection) -> bool:
    """Whether a person did something: opened a page or pressed a button. What a page fetches by itself is no use,
    or a screen left alone would never be signed out."""
    if request.scope.get("method") not in ("GET", "HEAD"):
        return True
    return request.headers.get("sec-fetch-mode", "navigate") == "navigate" and "hx-request" not in request.headers
