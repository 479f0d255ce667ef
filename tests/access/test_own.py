"""The patient's own pages: a patient themself and who they let look on, and nobody else, however an address is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from services.api.permissions import PERMISSIONS, PLAIN_WORDS
from services.roles import ROLES
from services.settings import Settings
from tests.access.world import CANARIES, World, made
from tests.fix_api import ServedApi

pytestmark = pytest.mark.stack

PAGES: Final = ("", "/now", "/accesses")


@pytest.fixture(scope="module")
def world(migrated: Settings) -> Iterator[World]:
    with made(migrated) as whole:
        yield whole


@pytest.mark.parametrize("role", ROLES)
async def test_only_patients_and_proxies_see_the_pages_and_only_their_own(
    api: ServedApi, world: World, role: str
) -> None:
    async with api.client(world.token(role)) as client:
        start = await client.get("/")
        begins = "/me" if role in PLAIN_WORDS else "/account"
        assert start.headers.get("location") == (begins if PERMISSIONS["worklist.read"][role] == "-" else None)
        assert (await client.get("/me")).status_code == (200 if role in PLAIN_WORDS else 403)
        for whose, about in world.subjects.items():
            for page in PAGES:
                answer = await client.get(f"/me/{about.key}{page}")
                allowed = 200 if whose == "own" else 404
                assert answer.status_code == (allowed if role in PLAIN_WORDS else 403), (whose, page)
                met = {name for name, canary in CANARIES.items() if canary in answer.text}
                assert met <= {"name", "plain"}, (whose, page)
                if answer.status_code == 200 and page != "/accesses":
                    assert met == {"name", "plain"}


async def test_without_a_live_session_the_pages_say_only_how_to_sign_in(api: ServedApi, world: World) -> None:
    async with api.client() as client:
        for page in PAGES:
            answer = await client.get(f"/me/{world.subjects['own'].key}{page}")
            assert (answer.status_code, CANARIES["name"] in answer.text) == (401, False)
            assert "Sign in" in answer.text
