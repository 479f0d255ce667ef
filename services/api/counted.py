"""Counts the API's requests by the template of their route, never by the address asked for."""

from __future__ import annotations

import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services import metrics

NO_ROUTE: Final = "none"
STREAM_TYPE: Final = b"text/event-stream"


class Counted:
    """Counts every answer, and how long it took unless that is the client's to say: a stream, a file to keep."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status, stream = 500, False

        async def counting(message: Message) -> None:
            nonlocal status, stream
            if message["type"] == "http.response.start":
                status = message["status"]
                stream = any(_lasting(name.lower(), value) for name, value in message["headers"])
            await send(message)

        try:
            await self._app(scope, receive, counting)
        finally:
            route = route_of(scope)
            method = scope["method"] if scope["method"] in _METHODS else "other"
            metrics.API_REQUESTS.labels(route, method, str(status)).inc()
            if not stream:
                metrics.API_SECONDS.labels(route).observe(time.monotonic() - began)


def _lasting(name: bytes, value: bytes) -> bool:
    return name == b"content-disposition" or (name == b"content-type" and value.startswith(STREAM_TYPE))


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def route_of(scope: Scope) -> str:
    """Return the template a request was routed by, e.g. ``/v1/patients/{patient}``; ``none`` where there is none."""
    route = scope.get("route")
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    return (
        path if isinstance(path, str) else "/static" if str(scope.get("path", "")).startswith("/static/") else NO_ROUTE
    )
