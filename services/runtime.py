"""What every long-running command does the same way: event loop, logs, stop signals, clock."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import uvloop

from ingest.clock import Clock, SystemClock
from services.logs import configure_logging
from services.settings import Settings
from services.ticks import follow_ticks


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a command's coroutine on uvloop with JSON logs."""
    configure_logging()
    uvloop.run(main())


def stop_requested() -> asyncio.Event:
    """Return an event that SIGINT or SIGTERM sets; call it inside the event loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


@asynccontextmanager
async def clock_for(settings: Settings, *, horizon: bool = False) -> AsyncIterator[Clock]:
    """Give the clock the settings ask for: the host's, or one driven by the ticks on ``control.v1``.

    ``horizon`` is for doors: during a time-lapse they stamp the end of the step that is being sent.
    """
    if settings.clock.source == "system":
        yield SystemClock()
        return
    async with follow_ticks(settings.kafka, horizon=horizon) as clock:
        yield clock


# Of TLS 1.2 only what encrypts and authenticates in one, with keys for one connection; TLS 1.3 has nothing else.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def api_tls(settings: Settings) -> bool:
    """Whether the API speaks TLS: where there is a certificate, but for loopback, where a browser would warn
    of the local CA and nothing leaves the machine."""
    return settings.tls.cert_file is not None and not is_loopback(settings.api.host)


def api_base(settings: Settings) -> str:
    """Return the address people reach the API at, without a slash at its end."""
    scheme = "https" if api_tls(settings) else "http"
    return settings.api.public_url.rstrip("/") or f"{scheme}://{settings.api.host}:{settings.api.port}"
