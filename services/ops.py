"""What every long-running process shows of itself on a port of its own: /metrics, /healthz and /readyz.

Served from a thread, so that it answers, and says so, while the event loop hangs. Plain text and JSON, without a
login: the address is a loopback one unless the settings say otherwise.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from ingest.health import Health
from ingest.metrics import Part
from services import metrics
from services.settings import Settings
from services.settings_sections import MetricsSettings
from services.watchdog import Stuck, Watchdog

MAX_AT_ONCE: Final = 8
READ_S: Final = 2.0
PORTS_TRIED: Final = 16  # several processes of a kind on one machine take the next free ports

log = structlog.get_logger(__name__)

Answer = tuple[int, str, bytes]


class OpsServer(ThreadingHTTPServer):
    """The thread's server; what is asked for beyond `MAX_AT_ONCE` at a time is hung up on."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], answer: Callable[[str], Answer]) -> None:
        self.answer = answer
        self._free = threading.BoundedSemaphore(MAX_AT_ONCE)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a request a thread when there is one free."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one request in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that hung up is nobody's concern."""


class _Handler(BaseHTTPRequestHandler):
    timeout = READ_S
    server: OpsServer

    def do_GET(self) -> None:
        status, kind, body = self.server.answer(self.path.partition("?")[0])
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a scrape every few seconds is no news."""


def answers(health: Health, registry: CollectorRegistry, who: dict[str, Any]) -> Callable[[str], Answer]:
    """Return what each path is answered with; ``who`` is added to the health documents."""

    def answer(path: str) -> Answer:
        if path == "/metrics":
            metrics.LOOP_AGE.set(health.since_beat_s)
            for name in health.checks:
                metrics.READY.labels(name).set(health.part_ready(name))
            return 200, CONTENT_TYPE_LATEST, generate_latest(registry)
        if path in ("/healthz", "/readyz"):
            good, document = health.alive() if path == "/healthz" else health.ready()
            return 200 if good else 503, "application/json", json.dumps(document | who).encode()
        return 404, "application/json", b'{"code": "not_found", "detail": "there is /metrics, /healthz and /readyz"}'

    return answer


@asynccontextmanager
async def watched(
    settings: Settings, health: Health, parts: tuple[Part, ...], stuck: Stuck | None = None
) -> AsyncIterator[None]:
    """Beat, look at the parts, serve them and watch over the process while the body runs."""
    metrics.UP.labels(health.process).set(1)
    chosen = settings.metrics
    server = _listen(chosen, health, parts, settings)
    running = asyncio.create_task(health.run(), name="heart")
    dog = Watchdog(lambda: health.since_beat_s, settings.watchdog.stalled_s, stuck)
    dog.start()
    try:
        yield
    finally:
        dog.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        if server is not None:
            await asyncio.to_thread(server.shutdown)
            server.server_close()


def _listen(chosen: MetricsSettings, health: Health, parts: tuple[Part, ...], settings: Settings) -> OpsServer | None:
    first: int = getattr(chosen, f"{health.process}_port")
    if not first:
        return None
    who = {"pid": os.getpid(), "of": settings.kafka.prefix + settings.postgres.database}
    answer = answers(health, metrics.registry_for(parts), who)
    for port in range(first, first + PORTS_TRIED):
        try:
            server = OpsServer((chosen.host, port), answer)
        except OSError as error:
            why = error.strerror
            continue
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="ops", daemon=True).start()
        log.info("watched", process=health.process, metrics=f"http://{chosen.host}:{port}/metrics")
        return server
    # data matter more than their counting: the process works on, and its missing scrape is an alert of its own
    log.error("metrics_off", host=chosen.host, ports=[first, first + PORTS_TRIED - 1], why=why)
    return None
