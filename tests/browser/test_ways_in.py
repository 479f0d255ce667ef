"""Every way in, told by the same tests: in a real browser to the worklist, with the right role, and out again."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from services.settings import Settings
from tests.api_data import ApiData
from tests.fix_api import RunningClock, ServedApi, serve
from tests.stand_in_provider import stand_in
from tests.visitor import Visitor, invited
from tests.ways_in import KeycloakWay, OwnAccounts, StandInWay, WayIn, claims_of

pytestmark = [pytest.mark.stack, pytest.mark.browser]

ROTATED_S = 15.0
PEOPLE = {"ada": ("Ada Nurse", "nurse"), "rolf": ("Rolf Research", "researcher")}


@pytest_asyncio.fixture(scope="module", params=["own", "stand-in", "keycloak"])
async def way(request: pytest.FixtureRequest) -> AsyncIterator[WayIn]:
    """One way in."""
    if request.param == "own":
        yield OwnAccounts()
    elif request.param == "stand-in":
        async with stand_in() as provider:
            yield StandInWay(provider)
    else:
        yield KeycloakWay(request.getfixturevalue("keycloak"))


@pytest.fixture(scope="module")
def people(migrated: Settings, way: WayIn) -> Iterator[ApiData]:
    """An organisation whose people are known by their keys; with a provider, their roles come from there."""
    data = ApiData(migrated, f"ways-{type(way).__name__.lower()}")
    for key, (name, role) in PEOPLE.items():
        data.person(key, "administrator" if way.provider else role, name)
    data.person("vera", "administrator", "Vera Visitor")
    data.alert(data.patient("p1", "Ines Albrecht"))
    yield data
    data.close()


@pytest_asyncio.fixture(scope="module")
async def served(migrated: Settings, way: WayIn, people: ApiData) -> AsyncIterator[ServedApi]:
    """Keepwell, told of this way in."""
    port = way.it.keepwell_port if isinstance(way, KeycloakWay) else 0
    settings = migrated.model_copy(update={"identity": way.settings(people.key)})
    async with serve(settings, port=port, credential_clock=RunningClock()) as running:
        if isinstance(way, OwnAccounts):
            way.served, way.members = running, {}
            for key, (name, role) in PEOPLE.items():
                async with Visitor(running, "127.0.0.1") as somebody:
                    way.members[key] = await somebody.accept(invited(people, running, key, role, name))  # type: ignore[arg-type]
        yield running


@pytest.fixture(autouse=True)
def present(way: WayIn, served: ServedApi) -> None:
    """A provider lives in the present; codes of an app must not repeat, so with them time only goes on."""
    if way.provider:
        served.credential_clock.set(0)


@pytest_asyncio.fixture
async def page(browser: Browser, served: ServedApi) -> AsyncIterator[Page]:
    """A browser nobody is signed in with, in which nothing may be refused unnoticed."""
    context = await browser.new_context(base_url=served.url, locale="en-GB")
    faults: list[str] = []
    context.on("console", lambda line: faults.append(line.text) if "Content Security" in line.text else None)
    yield await context.new_page()
    await context.close()
    assert [fault for fault in faults if served.url in fault] == []


async def on_the_worklist(page: Page) -> None:
    await expect(page).to_have_url(re.compile(r":\d+/$"), timeout=20_000)
    await expect(page.locator("h1")).to_have_text("Who needs attention")


async def opens(page: Page) -> bool:
    answer = await page.goto("/")
    assert answer is not None
    return answer.status == 200


@pytest.mark.parametrize("who", list(PEOPLE))
async def test_somebody_signs_in_and_has_the_role_they_have(page: Page, way: WayIn, people: ApiData, who: str) -> None:
    await way.sign_in(page, who)
    name, role = PEOPLE[who]
    if role == "nurse":
        await on_the_worklist(page)
        await expect(page.locator("#live")).to_have_attribute("data-state", "live")
    else:  # has nobody to look after
        await expect(page).to_have_url(re.compile(r"/account$"), timeout=20_000)
    await expect(page.locator(".who")).to_have_text(f"{name} {role}")
    assert [cookie["name"] for cookie in await page.context.cookies() if "keepwell" in str(cookie["name"])] == [
        "keepwell_session"
    ]
    acknowledge = await page.context.new_page()
    await acknowledge.goto("/patients/p1")
    button = acknowledge.get_by_role("button", name="Acknowledge")
    assert await button.count() == (1 if role == "nurse" else 0)


async def test_who_signs_out_is_out_and_stays_out(page: Page, way: WayIn) -> None:
    await way.sign_in(page, "ada")
    await on_the_worklist(page)
    kept = await page.context.cookies()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page).to_have_url(re.compile(r"/login$"), timeout=20_000)
    assert not await opens(page)
    await page.context.add_cookies([{**cookie} for cookie in kept if cookie["name"] == "keepwell_session"])  # type: ignore[typeddict-item]
    assert not await opens(page)  # nor with the cookie somebody kept
    if isinstance(way, KeycloakWay):
        await page.goto("/login")
        await page.get_by_role("link", name="Sign in at your organisation").click()
        await expect(page.locator("#password")).to_be_visible()  # out at the provider, too


async def test_who_is_not_known_here_is_told_so_and_not_let_in(page: Page, way: WayIn) -> None:
    await way.sign_in(page, "vera")
    notice = page.get_by_role("alert")
    await expect(notice).to_contain_text("none of your roles is known here" if way.provider else "not right")
    assert not await opens(page)


async def test_an_idle_session_leads_to_the_sign_in_page_by_itself(page: Page, way: WayIn, served: ServedApi) -> None:
    await way.sign_in(page, "ada")
    await on_the_worklist(page)
    await expect(page.locator("#live")).to_have_attribute("data-state", "live")
    served.credential_clock.advance(31 * 60_000)
    await expect(page.get_by_role("alert").filter(has_text="30 minutes without use")).to_be_visible(timeout=20_000)
    await expect(page.locator("body")).not_to_contain_text("Albrecht")


# ------------------------------------------------------------------ of a provider alone


of_a_provider = pytest.mark.parametrize("way", ["stand-in", "keycloak"], indirect=True)
of_the_stand_in = pytest.mark.parametrize(
    "way", ["stand-in"], indirect=True
)  # Keycloak signs nothing that is not right


async def asked(served: ServedApi, token: str, path: str = "/v1/alerts") -> httpx.Response:
    async with served.client(token) as client:
        return await client.get(path)


@of_a_provider
async def test_an_invitation_links_a_subject_once(page: Page, way: WayIn, people: ApiData, served: ServedApi) -> None:
    token = invited(people, served, "guest", "administrator", "Gast Known")
    await way.sign_in(page, "gast")
    await expect(page.get_by_role("alert")).to_contain_text("ask for an invitation")
    await page.goto(f"/invitation?token={token}")
    await page.get_by_role("link", name="Use your organisation’s sign-in").click()
    await on_the_worklist(page)
    await expect(page.locator(".who")).to_have_text("Gast Known nurse")
    again = await page.goto(f"/invitation?token={token}")
    assert again is not None
    assert again.status == 403


@of_a_provider
async def test_access_tokens_open_the_api_and_other_tokens_do_not(way: WayIn, served: ServedApi) -> None:
    token = way.access_token("ada")
    first = await asyncio.gather(*(asked(served, token) for _ in range(4)))
    assert [answer.status_code for answer in first] == [200] * 4
    assert (await asked(served, token)).status_code == 200
    refused = await asked(served, way.id_token("ada"))
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    for spoilt in (
        token[:-6] + ("AAAAAA" if token[-6:] != "AAAAAA" else "BBBBBB"),
        token + "x",
        token.rpartition(".")[0] + ".",
    ):
        assert (await asked(served, spoilt)).status_code == 401
    refused = await asked(served, way.access_token("vera"))
    assert (refused.status_code, refused.json()["code"]) == (403, "not_known_here")


@of_a_provider
async def test_an_access_token_ends_when_it_says(way: WayIn, served: ServedApi) -> None:
    token = way.access_token("ada")
    assert (await asked(served, token)).status_code == 200
    said: dict[str, Any] = claims_of(token)
    served.credential_clock.advance((said["exp"] - said["iat"] + 31) * 1000)
    assert (await asked(served, token)).status_code == 401


@of_a_provider
async def test_a_new_signing_key_is_taken_up(way: WayIn, served: ServedApi) -> None:
    before = way.access_token("ada")
    assert (await asked(served, before)).status_code == 200
    await asyncio.to_thread(way.rotate)
    after = await asyncio.to_thread(way.access_token, "ada")
    async with asyncio.timeout(ROTATED_S):
        while (await asked(served, after)).status_code != 200:
            await asyncio.sleep(0.5)


@of_a_provider
async def test_a_sign_in_ended_at_the_provider_ends_here(page: Page, way: WayIn, served: ServedApi) -> None:
    await way.sign_in(page, "ada")
    await on_the_worklist(page)
    await way.end_sessions(served, "ada")
    async with asyncio.timeout(10):
        while await opens(page):
            await asyncio.sleep(0.3)
    await expect(page.get_by_role("alert")).to_contain_text("was ended")


@of_a_provider
async def test_an_answer_to_another_sign_in_is_refused(page: Page, way: WayIn, served: ServedApi) -> None:
    for query in ("", "?code=x&state=y", "?error=access_denied&state=y"):
        answer = await page.goto(f"/login/provider/back{query}")
        assert answer is not None
        assert answer.status == 403
    await page.request.get("/login/provider", max_redirects=0)  # begun: its cookie is there now
    answer = await page.goto("/login/provider/back?code=x&state=y")
    assert answer is not None
    assert answer.status == 403
    assert not await opens(page)
    if isinstance(way, StandInWay):
        way.it.refuses = True
        await way.sign_in(page, "ada")
        await expect(page.get_by_role("alert")).to_contain_text("Your organisation did not sign you in")
        way.it.refuses = False


@of_the_stand_in
async def test_an_id_token_that_is_not_right_signs_nobody_in(page: Page, way: WayIn) -> None:
    assert isinstance(way, StandInWay)
    for spoil in (
        {"nonce": "other"},
        {"aud": "other"},
        {"exp": 1},
        {"typ": "Bearer"},
        {"azp": "other"},
        {"iss": "http://x"},
    ):
        way.it.spoil = spoil
        try:
            await way.sign_in(page, "ada")
            await expect(page.get_by_role("alert")).to_contain_text("the provider's token is refused", ignore_case=True)
        finally:
            way.it.spoil = {}
        assert not await opens(page)


@of_a_provider
async def test_a_logout_token_of_somebody_else_ends_nothing(way: WayIn, served: ServedApi) -> None:
    async with served.client() as client:
        for token in ("", "a.b.c", way.access_token("ada"), way.id_token("ada")):
            answer = await client.post("/login/provider/ended", data={"logout_token": token})
            assert answer.status_code in (400, 422)
