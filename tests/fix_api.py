"""Fixtures: the API on a real socket, in this process, with a clock the test holds."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx
import pytest
import pytest_asyncio
import uvicorn
from fastapi import FastAPI

from ingest.clock import FrozenClock, SystemClock, to_ms
from services.api.app import create_api, make_pool
from services.cli.api import proxy_config
from services.settings import Settings
from tests.api_data import NOW, ApiData


class QuietServer(uvicorn.Server):
    """A server that leaves the test run's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class RunningClock(FrozenClock):
    """The host's clock, which a test may move ahead."""

    def __init__(self) -> None:
        super().__init__(0)

    def now_ms(self) -> int:
        """Return the host's time and what it was moved ahead."""
        return SystemClock().now_ms() + super().now_ms()


@dataclass
class ServedApi:
    """The running API: its address, its app and its clocks (the patients' present, and that of sessions)."""

    url: str
    app: FastAPI
    clock: FrozenClock
    credential_clock: FrozenClock

    def client(self, token: str = "") -> httpx.AsyncClient:
        """A client of a person, or of nobody."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=10)


@contextlib.asynccontextmanager
async def serve(
    settings: Settings, *, port: int = 0, credential_clock: FrozenClock | None = None
) -> AsyncIterator[ServedApi]:
    """Run the API, on a free port where none is said."""
    clock, credential_clock = FrozenClock(to_ms(NOW)), credential_clock or FrozenClock(to_ms(NOW))
    app = create_api(settings, clock, make_pool(settings.postgres, size=4), credential_clock=credential_clock)
    config = uvicorn.Config(
        app,
        port=port,
        http="httptools",
        ws="none",
        log_config=None,
        timeout_graceful_shutdown=3,
        **proxy_config(settings),
    )
    server = QuietServer(config)
    running = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:
            assert not running.done(), "the API did not start"
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield ServedApi(f"http://127.0.0.1:{port}", app, clock, credential_clock)
    finally:
        app.state.hub.close()
        server.should_exit = True
        await running


@pytest_asyncio.fixture(scope="session")
async def api(migrated: Settings) -> AsyncIterator[ServedApi]:
    """The API on the session's database."""
    async with serve(migrated) as served:
        yield served


@pytest.fixture
def ours(migrated: Settings) -> Iterator[ApiData]:
    """An organisation of the test's own."""
    data = ApiData(migrated, f"org-{secrets.token_hex(4)}")
    yield data
    data.close()


@pytest.fixture
def theirs(migrated: Settings) -> Iterator[ApiData]:
    """Another organisation, which must never be seen."""
    data = ApiData(migrated, f"other-{secrets.token_hex(4)}")
    yield data
    data.close()
