"""Accounts through the public door: invitations, passwords and codes, and what is kept of them."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from services import people
from services.devices import EnrolmentError
from services.settings import Settings
from tests.api_data import NOW, ApiData
from tests.fix_api import ServedApi
from tests.fix_identity import member, opens, visitor
from tests.visitor import PASSWORD, hidden, invited, key_of

pytestmark = pytest.mark.stack

MINUTE = 60_000


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
