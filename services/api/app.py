"""The care-team API and its screens as one FastAPI app."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import psycopg
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests
from starlette.exceptions import HTTPException

from ingest.clock import Clock, SystemClock
from ingest.health import Check, Health, NotReady
from services import metrics
from services.api import (
    access_routes,
    audit_routes,
    change_routes,
    consent_routes,
    export_routes,
    incident_routes,
    life_event_routes,
    problems,
    profile_routes,
    programme_routes,
    routes,
)
from services.api.access import Access, Pool
from services.api.counted import Counted, route_of
from services.api.guard import Guard, dress
from services.api.identity.front import make_identity
from services.api.problems import Code, Problem
from services.api.sealer import Sealer
from services.api.stream import AlertHub
from services.settings import Settings
from services.settings_sections import PostgresSettings
from services.store import checkpoints
from services.store.revision import DATABASE_UNAVAILABLE, QUERY, check_revision
from services.web import account, me, screens, sign_in

POOL_SIZE: Final = 8
POOL_WAIT_S: Final = 2.0  # then 503: a page that waits longer has been given up by its reader
OPEN_S: Final = 15.0
CHECK_S: Final = 2.0
# Bounds on what one request may hold: a statement, a lock, a transaction left open.
LIMITS: Final = "-c statement_timeout=10s -c lock_timeout=3s -c idle_in_transaction_session_timeout=15s"

HEALTH: Final[dict[int | str, dict[str, Any]]] = {
    code: {"description": said, "model": dict[str, Any]} for code, said in ((200, "so it is"), (503, "it is not"))
}

log = structlog.get_logger("keepwell.api")


def make_pool(settings: PostgresSettings, size: int = POOL_SIZE) -> Pool:
    """Return a closed, bounded pool of connections of the API's own role; the app opens and closes it."""
    replacing: set[asyncio.Task[None]] = set()

    async def check(connection: psycopg.AsyncConnection) -> None:
        """Refuse a broken connection, and have the others looked at: one broken is seldom alone.

        The pool tries one a second; by then the others have been replaced.
        """
        try:
            await AsyncConnectionPool.check_connection(connection)
        except psycopg.Error:
            if not replacing:
                task = asyncio.create_task(pool.check())
                replacing.add(task)
                task.add_done_callback(replacing.discard)
            raise

    pool: Pool = AsyncConnectionPool(
        settings.conninfo("api"),
        kwargs={"options": LIMITS},
        min_size=1,
        max_size=size,
        max_waiting=size * 32,
        timeout=POOL_WAIT_S,
        check=check,
        open=False,
        name="keepwell-api",
    )
    return pool


def create_api(settings: Settings, clock: Clock, pool: Pool, *, credential_clock: Clock | None = None) -> FastAPI:
    """Return the app. ``clock`` tells the present of patients, ``credential_clock`` (the host's) that of sessions.

    ``app.state.hub`` is the stream's :class:`AlertHub`; close it before the server waits for its connections.
    """
    identity = make_identity(settings.identity, pool, credential_clock or SystemClock())
    access = identity.access
    hub = AlertHub(access, settings.postgres.conninfo("api"))
    file = checkpoints.beside(settings.stack.home, settings.postgres.database)
    sealer = Sealer(settings.postgres.conninfo("api"), file)
    health = Health("api", {"database": database_check(access)})

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await pool.open(wait=True, timeout=OPEN_S)
        await hub.start()
        await sealer.start()
        try:
            yield
        finally:
            await sealer.stop()
            await hub.stop()
            await identity.client.aclose()
            await pool.close()

    app = FastAPI(
        title="Keepwell",
        version="1",
        description="Not a medical device, not an emergency service.",
        lifespan=lifespan,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.hub = hub
    app.state.sealer = sealer
    app.state.settings = settings
    app.state.health = health
    app.state.identity = identity
    app.add_middleware(Guard)
    app.add_middleware(Counted)  # outermost: what the guard refuses is counted too
    app.include_router(routes.router(access, hub, clock))
    app.include_router(change_routes.router(access, clock, settings.kafka.partitions))
    app.include_router(access_routes.router(access, timedelta(hours=settings.api.break_glass_h)))
    app.include_router(audit_routes.router(access))
    app.include_router(export_routes.router(access, clock))
    app.include_router(incident_routes.router(access, clock))
    app.include_router(profile_routes.router(access, clock, settings.kafka.partitions, settings.processor.alert_budget))
    app.include_router(life_event_routes.router(access, clock, settings.kafka.partitions))
    app.include_router(programme_routes.router(access, clock, settings.kafka.partitions))
    app.include_router(consent_routes.router(access, clock, settings.kafka.partitions))
    app.include_router(screens.router(access, clock, settings))
    app.include_router(me.router(access, clock, settings.kafka.partitions))
    app.include_router(sign_in.router(identity))
    app.include_router(account.router(identity))
    app.mount("/static", screens.static_files())
    _add_health(app, health)
    _expose(pool, hub, sealer)
    _add_errors(app)
    return app


def database_check(access: Access) -> Check:
    """Return a check that the database answers this role and holds the schema this code knows."""

    async def database() -> dict[str, str]:
        try:
            async with access.pool.connection(timeout=CHECK_S) as connection:
                cursor = await connection.execute(QUERY)
                row = await cursor.fetchone()
        except (psycopg.Error, PoolTimeout, TooManyRequests) as error:
            raise NotReady(DATABASE_UNAVAILABLE, f"the database does not answer ({type(error).__name__})") from error
        return check_revision(row[0] if row else None)

    return database


def _add_health(app: FastAPI, health: Health) -> None:
    @app.get("/healthz", responses=HEALTH)
    async def healthz() -> JSONResponse:
        """Tell that the process answers and its loop turns."""
        alive, document = health.alive()
        return JSONResponse(document, 200 if alive else 503)

    @app.get("/readyz", responses=HEALTH)
    async def readyz() -> JSONResponse:
        """Tell whether the database answers this role and holds the schema, part by part."""
        await health.look()
        ready, document = health.ready()
        return JSONResponse(document, 200 if ready else 503, None if ready else {"Retry-After": "2"})


def _expose(pool: Pool, hub: AlertHub, sealer: Sealer) -> None:
    """Let the gauges read where things stand whenever they are scraped."""

    def connections(state: str) -> Callable[[], float]:
        def read() -> float:
            now = pool.get_stats()
            size, idle = now.get("pool_size", 0), now.get("pool_available", 0)
            return {"in_use": size - idle, "idle": idle, "waiting": now.get("requests_waiting", 0)}[state]

        return read

    for state in ("in_use", "idle", "waiting"):
        metrics.POOL.labels(state).set_function(connections(state))
    metrics.STREAMS.set_function(lambda: hub.watching)
    metrics.AUDIT_UNSEALED.set_function(lambda: sealer.lag_s)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def refused(request: Request, problem: Problem) -> Response:
        return _respond(request, problem)

    @app.exception_handler(RequestValidationError)
    async def not_valid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        return _respond(request, problems.invalid(str(first.get("input"))[:80], field, str(first["msg"])))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, Problem):  # met while the body was read
            return _respond(request, error.__cause__)
        code = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED}.get(error.status_code, Code.BAD_REQUEST)
        return _respond(request, Problem(code, f"{request.method} {request.url.path[:200]}: {error.detail}"))

    @app.exception_handler(psycopg.DataError)
    async def unreadable(request: Request, _error: psycopg.DataError) -> Response:
        return _respond(request, Problem(Code.INVALID, "a value cannot be stored or compared; check the request"))

    @app.exception_handler(psycopg.errors.QueryCanceled)
    async def slow(request: Request, error: psycopg.Error) -> Response:
        log.warning("too_slow", route=route_of(request.scope), error=str(error).strip())
        return _respond(request, Problem(Code.TOO_SLOW, "ask for a shorter span, or again later", retry_after_s=5))

    @app.exception_handler(psycopg.OperationalError)
    async def away(request: Request, error: psycopg.Error) -> Response:
        log.warning("database_away", route=route_of(request.scope), error=str(error).strip())
        return _respond(request, Problem(Code.UNAVAILABLE, "try again in a moment", retry_after_s=2))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("unexpected", route=route_of(request.scope), exc_info=error)
        answer = _respond(request, Problem(Code.INTERNAL, "the fault was logged; try again, then report it"))
        dress(answer.headers, request.scope)  # this handler stands outside the guard
        return answer


def _respond(request: Request, problem: Problem) -> Response:
    """Answer machines with a problem document and people with a page."""
    if screens.wants_page(request):
        return screens.problem_page(request, problem)
    answer: JSONResponse = problems.respond(request, problem)
    return answer
