"""Sessions of people and tokens of programs: what they open, and what ends them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from services import people
from services.devices import EnrolmentError
from tests.api_data import NOW, ApiData
from tests.fix_api import ServedApi
from tests.fix_identity import member, opens, visitor
from tests.visitor import invited

pytestmark = pytest.mark.stack

MINUTE = 60_000


async def test_a_session_ends_when_idle_and_the_screen_says_so(door: ServedApi, ours: ApiData, address: str) -> None:
    async with visitor(door, address) as ada:
        await ada.accept(invited(ours, door))
        for _ in range(3):
            door.credential_clock.advance(29 * MINUTE)
            assert await opens(ada.client)
        door.credential_clock.advance(29 * MINUTE)
        fetched = {"sec-fetch-mode": "cors", "hx-request": "true"}
        assert (await ada.client.get("/worklist", headers=fetched)).status_code == 200  # by itself: no use
        door.credential_clock.advance(1 * MINUTE)
        answer = await ada.client.get("/worklist", headers=fetched)
        assert answer.status_code == 401
        assert answer.headers["hx-refresh"] == "true"
        page = await ada.client.get("/")
        assert page.status_code == 401
        assert "signed out after 30 minutes without use" in page.text
        assert 'action="/login/password"' in page.text
        program = await ada.client.get("/v1/worklist")
        assert program.json()["ended"] == "idle"


async def test_a_session_ends_after_twelve_hours_however_much_it_is_used(
    door: ServedApi, ours: ApiData, address: str
) -> None:
    async with visitor(door, address) as ada:
        await ada.accept(invited(ours, door))
        for _ in range(35):
            door.credential_clock.advance(20 * MINUTE)
            assert await opens(ada.client)
        door.credential_clock.advance(20 * MINUTE)
        ada.client.cookies.jar.clear_expired_cookies()
        assert "come to its end" in (await ada.client.get("/")).text


async def test_one_sees_and_ends_ones_own_sessions_and_nobody_elses(
    door: ServedApi, ours: ApiData, address: str
) -> None:
    ada, bob = await member(door, ours, address), await member(door, ours, address, "bob")
    async with (
        visitor(door, address, "At the desk") as desk, visitor(door, address, "On the ward") as ward,
        visitor(door, address, "Bob's") as other,
    ):  # fmt: skip
        await desk.sign_in(ada)
        await ward.sign_in(ada)
        await other.sign_in(bob)
        listed = (await desk.client.get("/v1/account/sessions")).json()["items"]
        assert [(one["browser"], one["this_one"]) for one in listed][:2] == [
            ("At the desk", True),
            ("On the ward", False),
        ]
        assert "Bob's" not in str(listed)
        bobs = (await other.client.get("/v1/account/sessions")).json()["items"][0]["id"]
        for not_mine in (bobs, "0", "-1", "x", "9" * 30):
            assert (await desk.client.delete(f"/v1/account/sessions/{not_mine}")).status_code == 404
        assert await opens(other.client)
        assert (await desk.client.delete(f"/v1/account/sessions/{listed[1]['id']}")).status_code == 204
        assert not await opens(ward.client)
        assert "was ended" in (await ward.client.get("/")).text
        await ward.sign_in(ada)
        page = await desk.client.get("/account")
        assert "On the ward" in page.text
        await desk.client.post("/account/sessions/end-others")
        assert not await opens(ward.client)
        assert await opens(desk.client)


async def test_changing_the_password_ends_the_other_sessions(door: ServedApi, ours: ApiData, address: str) -> None:
    ada = await member(door, ours, address)
    async with visitor(door, address) as desk, visitor(door, address) as ward:
        await desk.sign_in(ada)
        await ward.sign_in(ada)
        fresh = "eleven slow barges upstream"
        for current, wanted, status in (("wrong password!", fresh, 403), (ada.password, "password1234", 422)):
            form = {"current": current, "wanted": wanted, "code": desk.next_code(ada.secret)}
            assert (await desk.client.post("/account/password", data=form)).status_code == status
        assert await opens(ward.client)
        used = desk.next_code(ada.secret)
        form = {"current": ada.password, "wanted": fresh, "code": used}
        answer = await desk.client.post("/account/password", data=form)
        assert "Your password was changed; 2 other sessions ended" in answer.text
        assert await opens(desk.client)
        assert not await opens(ward.client)
        assert (await ward.sign_in(ada)).status_code == 403
        assert (await ward.sign_in(ada, password=fresh)).status_code == 303
        form = {"password": fresh, "code": used}
        assert (await desk.client.post("/account/recovery-codes", data=form)).status_code == 403  # used before
        form = {"password": fresh, "code": desk.next_code(ada.secret)}
        page = (await desk.client.post("/account/recovery-codes", data=form)).text
        assert ada.recovery[0] not in page
        assert (await ward.sign_in(ada, ada.recovery[0], fresh)).status_code == 403


async def test_a_form_of_another_site_signs_nobody_in_or_out(door: ServedApi, ours: ApiData, address: str) -> None:
    ada = await member(door, ours, address)
    async with visitor(door, address) as browser:
        await browser.sign_in(ada)
        for path in ("/login/password", "/logout", "/invitation", "/account/password", "/account/sessions/end-others"):
            answer = await browser.client.post(path, headers={"Sec-Fetch-Site": "cross-site"})
            assert answer.status_code == 403, path
        assert await opens(browser.client)


# ------------------------------------------------------------------ programs


async def test_a_service_token_does_what_its_scopes_say_and_nothing_else(door: ServedApi, ours: ApiData) -> None:
    alert = ours.alert(ours.patient("p1"))
    token = people.service_token(ours.connection, ours.key, "reports", "nurse", ["alerts:read"], NOW, 90)
    prefix = "_".join(token.split("_")[:2])
    async with door.client(token) as client:
        assert (await client.get("/v1/alerts")).status_code == 200
        assert (await client.get(f"/v1/alerts/{alert}")).status_code == 200
        for method, path in (
            ("GET", "/v1/patients"), ("GET", "/v1/worklist"), ("POST", f"/v1/alerts/{alert}/acknowledge"),
            ("GET", "/v1/account/sessions"), ("GET", "/"), ("GET", "/account"),
        ):  # fmt: skip
            answer = await client.request(method, path)
            assert answer.status_code == 403, path
        refused = (await client.get("/v1/patients")).json()
        assert (refused["code"], refused["allowed"]) == ("scope_not_allowed", ["patients:read"])
        people.revoke_token(ours.connection, ours.key, prefix, NOW)
        assert (await client.get("/v1/alerts")).status_code == 401
    stored = repr(ours.connection.execute("SELECT t::text FROM person_token t WHERE kind = 'service'").fetchall())
    assert prefix in stored
    assert token.removeprefix(prefix) not in stored
    with pytest.raises(EnrolmentError, match="no service token"):
        people.revoke_token(ours.connection, ours.key, prefix, NOW)


async def test_a_service_token_ends_by_itself_and_is_listed_until_then(door: ServedApi, ours: ApiData) -> None:
    token = people.service_token(ours.connection, ours.key, "reports", "nurse", ["alerts:read"], NOW, 1)
    assert [row["name"] for row in people.service_tokens(ours.connection, ours.key, NOW)] == ["reports"]
    door.credential_clock.advance(24 * 60 * MINUTE)
    async with door.client(token) as client:
        answer = await client.get("/v1/alerts")
    assert (answer.status_code, answer.json()["ended"]) == (401, "expired")
    assert people.service_tokens(ours.connection, ours.key, NOW + timedelta(days=1)) == []


async def test_a_service_token_ends_an_open_stream_within_seconds(door: ServedApi, ours: ApiData) -> None:
    token = people.service_token(ours.connection, ours.key, "reports", "nurse", ["alerts:read"], NOW, 90)
    async with door.client(token) as client, client.stream("GET", "/v1/alerts/stream") as stream:
        assert stream.status_code == 200
        people.revoke_token(ours.connection, ours.key, "_".join(token.split("_")[:2]), NOW)
        async with asyncio.timeout(10):
            async for _ in stream.aiter_bytes():
                pass
