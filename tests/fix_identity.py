"""Fixtures: the API at which people sign in, with a clock the test moves, and what its visitors do there."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest
import pytest_asyncio

from ingest.clock import to_ms
from services.settings import Settings
from tests.api_data import NOW, ApiData
from tests.fix_api import ServedApi, serve
from tests.visitor import Member, Visitor, invited


@pytest_asyncio.fixture(scope="session")
async def shared_door(migrated: Settings) -> AsyncIterator[ServedApi]:
    """An API whose clock the tests may move."""
    behind = migrated.api.model_copy(update={"trusted_proxies": "127.0.0.1"})  # each visitor has an address of its own
    async with serve(migrated.model_copy(update={"api": behind})) as served:
        yield served


@pytest.fixture
def door(shared_door: ServedApi) -> ServedApi:
    """That API; each test begins at the same instant."""
    shared_door.credential_clock.set(to_ms(NOW))
    return shared_door


@pytest.fixture
def address() -> str:
    return ".".join(str(secrets.randbelow(250) + 1) for _ in range(4))


def visitor(door: ServedApi, address: str, agent: str = "Firefox 140 on Linux") -> Visitor:
    return Visitor(door, address, agent)


async def member(door: ServedApi, data: ApiData, address: str, key: str = "ada") -> Member:
    async with visitor(door, address) as somebody:
        return await somebody.accept(invited(data, door, key))


def forget_tries(data: ApiData) -> None:
    data.connection.execute("DELETE FROM sign_in_try")


def at(door: ServedApi) -> datetime:
    return datetime.fromtimestamp(door.credential_clock.now_ms() / 1000, UTC)


async def opens(client: httpx.AsyncClient) -> bool:
    answer = await client.get("/")
    assert answer.status_code in (200, 401), answer.text
    return answer.status_code == 200
