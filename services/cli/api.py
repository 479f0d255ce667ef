"""``keepwell api``: the care team's API and screens."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import structlog
import typer
import uvicorn
from fastapi import FastAPI

from services.api.app import create_api, make_pool
from services.ops import watched
from services.runtime import CIPHERS, api_base, api_tls, clock_for, is_loopback, run
from services.settings import Settings, SettingsError, load

GRACE_S: Final = 5
MAX_CONNECTIONS: Final = 2000  # streams are bounded inside

log = structlog.get_logger(__name__)


def register(app: typer.Typer) -> None:
    """Add the ``api`` command."""

    @app.command()
    def api(
        host: str = typer.Option(None, help="address to listen on (setting api.host)"),
        port: int = typer.Option(None, help="port to listen on (setting api.port)"),
        behind_proxy: bool = typer.Option(
            False, "--behind-proxy", help="plain HTTP beyond loopback: a proxy in front of it speaks TLS"
        ),
    ) -> None:
        """Serve the care team: worklist and patient pages, REST below /v1, alert changes as a stream.

        People sign in with a link (`keepwell login --person KEY` prints one), programs with a bearer token.
        On a loopback address it speaks plain HTTP, elsewhere TLS with tls.cert_file.

        SIGTERM ends the streams, finishes what is in flight and stops.
        """
        settings = load({"api.host": host, "api.port": port}).settings
        config = server_config(settings, behind_proxy=behind_proxy)
        run(lambda: serve_api(settings, config))


def server_config(settings: Settings, *, behind_proxy: bool = False) -> dict[str, Any]:
    """Return uvicorn's settings for the API.

    Raises:
        SettingsError: no database is named, or plain HTTP would leave this machine.
    """
    if not settings.postgres.host:
        msg = "no database: set postgres.host, or start the local stack with `keepwell up`"
        raise SettingsError(msg)
    tls = api_tls(settings) and not behind_proxy
    if not tls and not behind_proxy and not is_loopback(settings.api.host):
        msg = f"api.host = {settings.api.host} is not loopback: set tls.cert_file and tls.key_file, or --behind-proxy"
        raise SettingsError(msg)
    return {
        "host": settings.api.host,
        "port": settings.api.port,
        "ssl_certfile": settings.tls.cert_file if tls else None,
        "ssl_keyfile": settings.tls.key_file if tls else None,
        "ssl_ciphers": CIPHERS,
    } | proxy_config(settings, behind_proxy=behind_proxy)


def proxy_config(settings: Settings, *, behind_proxy: bool = False) -> dict[str, Any]:
    """Return uvicorn's settings of whose X-Forwarded-… it believes: anybody could write an address into the audit."""
    return {
        "proxy_headers": behind_proxy or bool(settings.api.trusted_proxies),
        "forwarded_allow_ips": settings.api.trusted_proxies or "127.0.0.1",
    }


class Server(uvicorn.Server):
    """Ends the alert streams first, or a stop would wait for clients that never hang up."""

    def __init__(self, config: uvicorn.Config, end_streams: Callable[[], None]) -> None:
        super().__init__(config)
        self._end_streams = end_streams
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take SIGINT or SIGTERM; runs between two bytecodes, so the loop is only told."""
        self._loop.call_soon_threadsafe(self._end_streams)
        super().handle_exit(sig, frame)


async def serve_api(settings: Settings, config: dict[str, Any]) -> None:
    """Run the API until it is told to stop."""
    async with clock_for(settings) as clock:
        app = create_api(settings, clock, make_pool(settings.postgres))
        async with watched(settings, app.state.health, ("api",)):
            await _serve(settings, config, app)


async def _serve(settings: Settings, config: dict[str, Any], app: FastAPI) -> None:
    server = Server(
        uvicorn.Config(
            app,
            **config,
            http="httptools",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=GRACE_S,
        ),
        app.state.hub.close,
    )
    gc.collect()
    gc.freeze()  # what was imported is never garbage: a full collection need not walk it
    log.info("api", at=api_base(settings))
    await server.serve()
