"""Whoever is not let in is in the audit: whose account it was, from where, by which way, and nothing that was typed."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from services import people
from services.settings import Settings
from tests.api_data import ApiData
from tests.fix_api import RunningClock, ServedApi, serve
from tests.fix_identity import at, forget_tries
from tests.stand_in_provider import StandIn, stand_in
from tests.visitor import Member, Visitor, invited
from tests.ways_in import StandInWay

pytestmark = pytest.mark.stack

WRONG = "a wrong password, typed"


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[StandIn]:
    async with stand_in() as running:
        yield running


@pytest_asyncio.fixture
async def door(migrated: Settings, ours: ApiData, provider: StandIn) -> AsyncIterator[ServedApi]:
    behind = migrated.api.model_copy(update={"trusted_proxies": "127.0.0.1"})
    identity = StandInWay(provider).settings(ours.key)
    settings = migrated.model_copy(update={"api": behind, "identity": identity})
    async with serve(settings, credential_clock=RunningClock()) as served:
        yield served


def rows(data: ApiData, outcome: str = "refused") -> list[tuple[Any, ...]]:
    return data.connection.execute(
        """SELECT action, actor, coalesce(p.key, a.name), a.address, detail FROM access_audit a
           LEFT JOIN person p ON p.id = a.person_id WHERE a.organisation_id = %s AND outcome = %s ORDER BY a.id""",
        [data.organisation, outcome],
    ).fetchall()


async def test_a_wrong_password_or_code_names_the_account_and_not_what_was_typed(
    door: ServedApi, ours: ApiData
) -> None:
    refused = {"code": "sign_in_refused"}
    async with Visitor(door, "10.7.0.1") as ada:
        known = await ada.accept(invited(ours, door))
        forget_tries(ours)
        assert (await ada.sign_in(known, "123456", WRONG)).status_code == 403
        assert (await ada.sign_in(known, "123456")).status_code == 403
        assert (await ada.sign_in(Member(f"{WRONG}@{ours.key}", "x", known.secret), "123456")).status_code == 403
        assert (await ada.sign_in(Member(WRONG, "x", known.secret), "123456")).status_code == 403
        assert rows(ours) == [
            ("account.sign_in", "person", "ada", "10.7.0.1", refused | {"factor": "password"}),
            ("account.sign_in", "person", "ada", "10.7.0.1", refused | {"factor": "code"}),
            (
                "account.sign_in",
                "service",
                "sign-in",
                "10.7.0.1",
                refused | {"factor": "password", "account": "unknown"},
            ),
        ]
        for _ in range(8):
            await ada.sign_in(known, "123456", WRONG)
    assert len(rows(ours)) == 6, "what comes too soon is not judged, and not written: five tries an account"
    dump = str(ours.connection.execute("SELECT a::text FROM access_audit a ORDER BY id DESC LIMIT 50").fetchall())
    assert WRONG not in dump
    assert "123456" not in dump


async def test_a_link_that_works_no_more_names_whose_it_was(door: ServedApi, ours: ApiData) -> None:
    ours.person("bob")
    link = people.login_token(ours.connection, ours.key, "bob", at(door))
    async with Visitor(door, "10.7.0.2") as bob:
        assert (await bob.client.post("/login", data={"token": link})).status_code == 303
        assert (await bob.client.post("/login", data={"token": link})).status_code == 401
        assert (await bob.client.post("/login", data={"token": "x" * 43})).status_code == 401
        used = invited(ours, door)
        await bob.accept(used)
        again = await bob.client.post("/invitation", data={"token": used, "sealed": "", "password": "x", "code": "1"})
        assert again.status_code == 403
    assert ("account.sign_in", "person", "bob", "10.7.0.2", {"by": "link"}) in rows(ours, "allowed")
    said = {"code": "sign_in_refused", "by": "link"}
    assert rows(ours) == [
        ("account.sign_in", "person", "bob", "10.7.0.2", said),
        ("account.accept", "person", "ada", "10.7.0.2", said),
    ]


async def test_signing_in_again_ends_the_session_the_browser_had(door: ServedApi, ours: ApiData) -> None:
    async with Visitor(door, "10.7.0.5") as ada:
        known = await ada.accept(invited(ours, door))
        kept = dict(ada.client.cookies)
        assert (await ada.sign_in(known)).status_code == 303
        assert dict(ada.client.cookies) != kept
        assert (await ada.client.get("/")).status_code == 200
    async with httpx.AsyncClient(base_url=door.url, cookies=kept) as before:
        assert (await before.get("/")).status_code == 401


@pytest.mark.parametrize(("who", "named"), [("vera", ("person", "vera")), ("rolf", ("service", "sign-in"))])
async def test_whom_a_provider_signs_in_and_we_do_not_is_written_down(
    door: ServedApi, ours: ApiData, provider: StandIn, who: str, named: tuple[str, str]
) -> None:
    """Vera is known here and none of her roles is; nobody here is Rolf."""
    ours.person("vera")
    provider.present = who
    async with httpx.AsyncClient(base_url=door.url, follow_redirects=True, timeout=20) as browser:
        answer = await browser.get("/login/provider", headers={"X-Forwarded-For": "10.7.0.3"})
    assert answer.status_code == 403, answer.text
    said = {"code": "sign_in_refused", "by": "provider"} | ({"account": "unknown"} if who == "rolf" else {})
    assert rows(ours) == [("account.sign_in", *named, "10.7.0.3", said)]


async def test_a_database_that_does_not_take_the_row_lets_nobody_in(
    door: ServedApi, ours: ApiData, monkeypatch: pytest.MonkeyPatch
) -> None:
    from psycopg import OperationalError

    from services.store import audit

    async def away(*_: object) -> None:
        raise OperationalError(secrets.token_hex(4))

    async with Visitor(door, "10.7.0.4") as ada:
        known = await ada.accept(invited(ours, door))
        monkeypatch.setattr(audit, "write_async", away)
        assert (await ada.sign_in(known, "123456", WRONG)).status_code == 403
        assert (await ada.sign_in(known)).status_code == 503
    assert rows(ours) == []
