"""Accounts through the public door: invitations, passwords and codes, guessing, idle sessions, tokens of programs."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import psycopg
import pytest
import pytest_asyncio

from ingest.clock import to_ms
from services import people
from services.devices import EnrolmentError
from services.settings import Settings
from tests.api_data import NOW, ApiData
from tests.fix_api import ServedApi, serve
from tests.visitor import PASSWORD, Member, Visitor, hidden, invited, key_of

pytestmark = pytest.mark.stack

MINUTE = 60_000


@pytest_asyncio.fixture(scope="module")
async def door(migrated: Settings) -> AsyncIterator[ServedApi]:
    """An API whose clock these tests may move."""
    behind = migrated.api.model_copy(update={"trusted_proxies": "127.0.0.1"})  # each visitor has an address of its own
    async with serve(migrated.model_copy(update={"api": behind})) as served:
        yield served


@pytest.fixture(autouse=True)
def clock(door: ServedApi) -> None:
    """Each test begins at the same instant."""
    door.credential_clock.set(to_ms(NOW))


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


# ------------------------------------------------------------------ invitations


async def test_an_invitation_works_once_and_looking_uses_nothing_up(
    door: ServedApi, ours: ApiData, address: str
) -> None:
    token = invited(ours, door)
    async with visitor(door, address) as ada:
        for _ in range(3):
            page = (await ada.client.get("/invitation", params={"token": token})).text
        assert "Welcome, Ada Nurse" in page
        form = {"token": token, "sealed": hidden(page, "sealed")}
        for password, code, said in (
            ("password1234", ada.code(key_of(page)), "choose another password"),
            ("Ada Nurse 2026!", ada.code(key_of(page)), "choose another password"),
            (PASSWORD, "000000", "six figures"),
        ):
            answer = await ada.client.post("/invitation", data=form | {"password": password, "code": code})
            assert answer.status_code == 422
            assert said in answer.text.lower()
            assert hidden(answer.text, "sealed") == form["sealed"]
        assert not await opens(ada.client)
        joined = await ada.accept(token)
        assert joined.login == f"ada@{ours.key}"
        assert len(joined.recovery) == 10
        assert await opens(ada.client)
    async with visitor(door, address) as late:
        answer = await late.client.get("/invitation", params={"token": token})
        assert answer.status_code == 403
        assert "used before" in answer.text
        answer = await late.client.post("/invitation", data=form | {"password": PASSWORD, "code": "123456"})
        assert answer.status_code == 403
    assert [person for person, _, _ in ours.audit("account.accept")] != []


async def test_two_who_use_an_invitation_at_once_are_one(door: ServedApi, ours: ApiData, address: str) -> None:
    token = invited(ours, door)
    async with visitor(door, address) as one, visitor(door, address) as two:
        pages = [(await who.client.get("/invitation", params={"token": token})).text for who in (one, two)]
        answers = await asyncio.gather(
            *(
                who.client.post(
                    "/invitation",
                    data={
                        "token": token, "sealed": hidden(page, "sealed"), "password": PASSWORD,
                        "code": who.code(key_of(page)),
                    },
                )
                for who, page in zip((one, two), pages, strict=True)
            )
        )  # fmt: skip
    assert sorted(answer.status_code for answer in answers) == [200, 403]


async def test_an_invitation_ends_after_seven_days_or_with_the_next_one(
    door: ServedApi, ours: ApiData, address: str
) -> None:
    first, second = invited(ours, door), invited(ours, door)
    async with visitor(door, address) as ada:
        assert (await ada.client.get("/invitation", params={"token": first})).status_code == 403
        door.credential_clock.advance(7 * 24 * 60 * MINUTE - 1)
        page = (await ada.client.get("/invitation", params={"token": second})).text
        assert "Welcome" in page
        door.credential_clock.advance(1)
        assert (await ada.client.get("/invitation", params={"token": second})).status_code == 403
        third = invited(ours, door)
        answer = await ada.client.post(
            "/invitation",
            data={"token": third, "sealed": hidden(page, "sealed"), "password": PASSWORD, "code": "123456"},
        )
        assert "follow the link again" in answer.text


async def test_a_new_invitation_replaces_the_account_and_ends_its_sessions(
    door: ServedApi, ours: ApiData, address: str
) -> None:
    async with visitor(door, address) as before, visitor(door, address) as after:
        old = await before.accept(invited(ours, door))
        assert await opens(before.client)
        new = await after.accept(invited(ours, door), password="eleven slow barges upstream")
        assert not await opens(before.client)
        assert (await before.sign_in(old)).status_code == 403
        assert (await before.sign_in(new)).status_code == 303
        assert (await before.sign_in(new, code=old.recovery[0])).status_code == 403


def test_programs_are_not_invited_and_people_are_no_programs(ours: ApiData) -> None:
    people.service_token(ours.connection, ours.key, "reports", "coordinator", ["alerts:read"], NOW, 30)
    with pytest.raises(EnrolmentError, match="programs are not invited"):
        people.invite(ours.connection, ours.key, "reports", "", "nurse", NOW)
    ours.person("ada")
    with pytest.raises(EnrolmentError, match="is a person"):
        people.service_token(ours.connection, ours.key, "ada", "coordinator", ["alerts:read"], NOW, 30)
    with pytest.raises(EnrolmentError, match="--role"):
        people.invite(ours.connection, ours.key, "nobody-yet", "", None, NOW)
    for days in (0, 367):
        with pytest.raises(EnrolmentError, match="not possible"):
            people.service_token(ours.connection, ours.key, "late", "coordinator", [], NOW, days)


# ------------------------------------------------------------------ signing in


async def test_a_name_a_password_and_a_code_open_the_worklist(door: ServedApi, ours: ApiData, address: str) -> None:
    ada = await member(door, ours, address)
    async with visitor(door, address) as browser:
        answer = await browser.sign_in(ada)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"].lower()
        for part in ("httponly", "samesite=strict", "path=/", "max-age=43200"):
            assert part in cookie
        page = await browser.client.get("/")
        assert "Ada Nurse" in page.text
        await browser.client.post("/logout")
        assert not await opens(browser.client)
    assert [detail for _, _, detail in ours.audit("account.sign_in")] == [{"factor": "app"}]


async def test_a_code_works_once_and_older_ones_no_more(door: ServedApi, ours: ApiData, address: str) -> None:
    ada = await member(door, ours, address)
    async with visitor(door, address) as browser:
        older = browser.next_code(ada.secret)
        code = browser.next_code(ada.secret)
        assert (await browser.sign_in(ada, code)).status_code == 303
        assert (await browser.sign_in(ada, code)).status_code == 403  # a replay
        assert (await browser.sign_in(ada, older)).status_code == 403  # still inside the drift, but older
        assert (await browser.sign_in(ada)).status_code == 303


async def test_a_code_sent_many_times_at_once_is_used_once(door: ServedApi, ours: ApiData, address: str) -> None:
    ada = await member(door, ours, address)
    async with visitor(door, address) as browser:
        code = browser.next_code(ada.secret)
        answers = await asyncio.gather(*(browser.sign_in(ada, code) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [303, 403, 403, 403]


async def test_each_recovery_code_works_once(door: ServedApi, ours: ApiData, address: str) -> None:
    ada = await member(door, ours, address)
    async with visitor(door, address) as browser:
        assert (await browser.sign_in(ada, ada.recovery[3].lower())).status_code == 303
        assert "9 of 10 left" in (await browser.client.get("/account")).text
        assert (await browser.sign_in(ada, ada.recovery[3])).status_code == 403
        assert (await browser.sign_in(ada, ada.recovery[4], password="wrong password!")).status_code == 403
        assert (await browser.sign_in(ada, ada.recovery[4])).status_code == 303


async def test_somebody_elses_recovery_code_opens_nothing(door: ServedApi, ours: ApiData, address: str) -> None:
    ada, bob = await member(door, ours, address), await member(door, ours, address, "bob")
    async with visitor(door, address) as browser:
        assert (await browser.sign_in(ada, bob.recovery[0])).status_code == 403
        assert (await browser.sign_in(bob, bob.recovery[0])).status_code == 303


async def test_nothing_that_signs_in_is_stored_as_it_is(door: ServedApi, ours: ApiData, address: str) -> None:
    ada = await member(door, ours, address)
    dump = repr(
        [
            ours.connection.execute(
                f"SELECT t::text, encode(t::text::bytea, 'escape') FROM {table} t".encode()
            ).fetchall()
            for table in ("account", "recovery_code", "person_token", "sign_in_try", "access_audit")
        ]
    )
    for secret in (ada.password, ada.secret, *ada.recovery):
        assert secret not in dump
        assert secret.encode().hex() not in dump


# ------------------------------------------------------------------ guessing


async def test_guessing_is_slowed_and_never_tells_whether_there_is_an_account(
    door: ServedApi, ours: ApiData, address: str
) -> None:
    ada = await member(door, ours, address)
    nobody = Member(f"nobody@{ours.key}", "x", ada.secret)
    seen = []
    for who in (ada, nobody):
        forget_tries(ours)
        door.credential_clock.set(to_ms(NOW) + 10 * MINUTE)
        async with visitor(door, address) as guesser:
            told = []
            for _ in range(7):
                answer = await guesser.sign_in(who, "123456", "wrong password!")
                told.append((answer.status_code, answer.headers.get("retry-after"), answer.text.replace(who.login, "")))
            seen.append(told)
    assert seen[0] == seen[1]
    assert [status for status, _, _ in seen[0]] == [403] * 5 + [429] * 2
    assert seen[0][5][1] == "30"


async def test_the_right_password_waits_too_and_then_works(door: ServedApi, ours: ApiData, address: str) -> None:
    ada = await member(door, ours, address)
    async with visitor(door, address) as guesser:
        for _ in range(5):
            await guesser.sign_in(ada, "123456", "wrong password!")
        code = guesser.next_code(ada.secret)
        door.credential_clock.advance(-30_000)
        assert (await guesser.sign_in(ada, code)).status_code == 429
        door.credential_clock.advance(30_000)
        assert (await guesser.sign_in(ada, "123456", "wrong password!")).status_code == 403
        answer = await guesser.sign_in(ada, code)
        assert answer.headers["retry-after"] == "60"  # twice as long
        door.credential_clock.advance(60_000)
        assert (await guesser.sign_in(ada)).status_code == 303
        assert (await guesser.sign_in(ada, "123456", "wrong password!")).status_code == 403  # counted anew


async def test_many_guesses_at_once_are_many(door: ServedApi, ours: ApiData, address: str) -> None:
    ada = await member(door, ours, address)
    async with visitor(door, address) as guesser:
        answers = await asyncio.gather(*(guesser.sign_in(ada, "123456", "wrong password!") for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [403] * 5 + [429] * 15


async def test_one_address_cannot_go_through_many_names(door: ServedApi, ours: ApiData, address: str) -> None:
    forget_tries(ours)
    statuses = []
    async with visitor(door, address) as guesser:
        for i in range(32):
            answer = await guesser.sign_in(
                Member(f"n{i}@{ours.key}", "x", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"), "123456"
            )
            statuses.append(answer.status_code)
    assert statuses == [403] * 30 + [429] * 2
    async with visitor(door, "9.9.9.9") as elsewhere:
        answer = await elsewhere.sign_in(Member(f"n1@{ours.key}", "x", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"), "123456")
        assert answer.status_code == 403


async def test_a_name_written_otherwise_is_no_way_around_the_wait(door: ServedApi, ours: ApiData, address: str) -> None:
    ada = await member(door, ours, address)
    async with visitor(door, address) as guesser:
        for name in (ada.login, f" {ada.login}", f"{ada.login}  ", f"\t{ada.login}", ada.login.upper()):
            answer = await guesser.sign_in(Member(name, ada.password, ada.secret), "123456", "wrong password!")
            assert answer.status_code == 403
        assert (await guesser.sign_in(ada, ada.recovery[0])).status_code == 429


@pytest.mark.parametrize("name", ["", "ada", "@", "ada@", "@x", "a@b@c", "ada\x00@x", "ä" * 300, "' OR 1=1 --@x"])
async def test_any_name_gets_the_same_refusal(door: ServedApi, ours: ApiData, address: str, name: str) -> None:
    async with visitor(door, address) as guesser:
        answer = await guesser.sign_in(Member(name, "x", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"), "123456")
    assert answer.status_code == 403, answer.text


# ------------------------------------------------------------------ sessions


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


# ------------------------------------------------------------------ underneath


async def test_the_api_role_reads_no_hash_and_only_its_organisations_accounts(
    door: ServedApi, migrated: Settings, ours: ApiData, theirs: ApiData, address: str
) -> None:
    await member(door, ours, address)
    await member(door, theirs, address)
    with psycopg.connect(migrated.postgres.conninfo("api"), autocommit=True) as connection:
        for table in ("account", "recovery_code", "person_subject"):
            assert connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (0,)
        assert connection.execute("SELECT count(id) FROM person_token").fetchone() == (0,)
        connection.execute("SELECT set_config('keepwell.organisation', %s, false)", [str(ours.organisation)])
        assert connection.execute("SELECT count(*) FROM account").fetchone() == (1,)
        assert connection.execute("SELECT organisation_key()").fetchone() == (ours.key,)
        for query in ("SELECT hash FROM person_token", "SELECT * FROM organisation", "DELETE FROM account"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(query.encode())
        ids = connection.execute("SELECT person_id FROM account").fetchall()
        theirs_id = theirs.connection.execute(
            "SELECT person_id FROM account WHERE organisation_id = %s", [theirs.organisation]
        ).fetchone()
        assert theirs_id not in ids
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                "INSERT INTO person_token (hash, person_id, kind, created_at, expires_at) VALUES ('x', %s, 'session', now(), now())",
                theirs_id,
            )
