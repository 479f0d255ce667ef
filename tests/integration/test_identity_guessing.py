"""Guessing at the public door: slowed, told nothing, by name and by address."""

from __future__ import annotations

import asyncio

import pytest

from ingest.clock import to_ms
from tests.api_data import NOW, ApiData
from tests.fix_api import ServedApi
from tests.fix_identity import forget_tries, member, visitor
from tests.visitor import Member

pytestmark = pytest.mark.stack

MINUTE = 60_000


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
