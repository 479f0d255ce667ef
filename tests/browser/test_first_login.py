"""The first login in a real browser: invitation, password, app, recovery codes, worklist; and the account page."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from ingest.clock import to_ms
from services.settings import Settings
from tests.api_data import NOW
from tests.browser.looks import CONTRAST, NARROW, WIDE
from tests.browser.ward import Ward
from tests.fix_api import ServedApi, serve
from tests.visitor import PASSWORD, Member, Visitor, invited, key_of

pytestmark = [pytest.mark.stack, pytest.mark.browser]

PICTURES = os.environ.get("KEEPWELL_MORE_SCREENSHOTS")  # for whoever works on the screens


@pytest_asyncio.fixture(scope="module")
async def door(migrated: Settings) -> AsyncIterator[ServedApi]:
    """An API whose clock these tests may move."""
    async with serve(migrated) as served:
        yield served


@pytest_asyncio.fixture
async def page(browser: Browser, door: ServedApi) -> AsyncIterator[Page]:
    """A browser nobody is signed in with, in which nothing is refused and nothing comes from elsewhere."""
    context = await browser.new_context(viewport=WIDE, base_url=door.url, locale="en-GB")  # type: ignore[arg-type]
    faults: list[str] = []
    context.on("weberror", lambda fault: faults.append(str(fault.error)))
    context.on("console", lambda line: faults.append(line.text) if "Content Security" in line.text else None)
    context.on("request", lambda sent: None if sent.url.startswith((door.url, "data:")) else faults.append(sent.url))
    yield await context.new_page()
    await context.close()
    assert faults == []


async def readable(page: Page, name: str) -> None:
    """Both widths, both schemes: nothing sticks out, everything has contrast."""
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        for size, width in ((NARROW, "narrow"), (WIDE, "wide")):
            await page.set_viewport_size(size)  # type: ignore[arg-type]
            assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
            assert await page.evaluate(CONTRAST) == [], name
            if PICTURES:
                await page.screenshot(path=Path(PICTURES) / f"{name}-{width}-{scheme}.png", full_page=True)
    await page.emulate_media(color_scheme="light")


async def test_from_the_invitation_to_the_worklist(page: Page, door: ServedApi, ward: Ward) -> None:
    token = invited(ward.data, door, "grace", "nurse", "Grace Hopper")
    await page.goto(f"/invitation?token={token}")
    await expect(page.get_by_role("heading", name="Welcome, Grace Hopper")).to_be_visible()
    await readable(page, "invitation")
    secret = key_of(await page.content())
    app = Visitor(door, "10.0.0.1")
    for password, said in (("password12345", "those that are tried first"), ("gracehopper1906", "made of your name")):
        await page.get_by_label("Password").fill(password)
        await page.get_by_label("Code the app shows now").fill(app.code(secret))
        await page.get_by_role("button", name="Make my account").click()
        await expect(page.get_by_role("alert")).to_contain_text(said)
    assert key_of(await page.content()) == secret  # the app that was scanned stays right
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_label("Code the app shows now").fill("000000")
    await page.get_by_role("button", name="Make my account").click()
    await expect(page.get_by_role("alert")).to_contain_text("check the clock of your telephone")
    await readable(page, "invitation-refused")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_label("Code the app shows now").fill(app.code(secret))
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Keep these codes")).to_be_visible()
    assert await page.locator(".codes li").count() == 10
    await readable(page, "recovery-codes")
    await page.get_by_role("link", name="I have kept them: go to the worklist").click()
    await expect(page).to_have_url(re.compile(r"/$"))
    await expect(page.locator(".worklist .c-patient a").first).to_have_text("Yusuf Demir")
    await expect(page.locator("#live")).to_have_attribute("data-state", "live")
    await page.get_by_role("link", name="Grace Hopper nurse").click()
    await expect(page.get_by_role("heading", name="Where you are signed in")).to_be_visible()
    await expect(page.locator(".sessions tbody tr")).to_have_count(1)
    await expect(page.get_by_text("10 of 10 left")).to_be_visible()


async def test_the_next_login_and_the_account_page(page: Page, door: ServedApi, ward: Ward) -> None:
    async with Visitor(door, "10.0.0.2", "Safari on a telephone") as phone:
        linus: Member = await phone.accept(invited(ward.data, door, "linus", "nurse", "Linus Pauling"))
        await page.goto("/patients/p04")
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        await readable(page, "login")
        for password, code in (("wrong password!", phone.next_code(linus.secret)), (linus.password, "000000")):
            await page.get_by_label("Name").fill(linus.login)
            await page.get_by_label("Password").fill(password)
            await page.get_by_label("Code", exact=True).fill(code)
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.get_by_role("alert")).to_contain_text("Name, password or code is not right")
            await expect(page.get_by_label("Name")).to_have_value(linus.login)
            await expect(page.get_by_label("Password")).to_have_value("")
        await readable(page, "login-refused")
        await page.get_by_label("Password").fill(linus.password)
        await page.get_by_label("Code", exact=True).fill(phone.next_code(linus.secret))
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(re.compile(r"/$"))
        await page.goto("/account")
        row = page.locator(".sessions tr", has_text="Safari on a telephone")
        await expect(row).to_be_visible()
        await readable(page, "account")
        await row.get_by_role("button", name="End").click()
        await expect(row).to_have_count(0)
        assert (await phone.client.get("/")).status_code == 401


async def test_an_open_screen_says_that_it_was_left_alone(page: Page, door: ServedApi, ward: Ward) -> None:
    door.credential_clock.set(to_ms(NOW))
    await page.context.add_cookies(
        [{"name": "keepwell_session", "value": ward.data.token(ward.nurse, kind="session"), "url": door.url}]
    )
    await page.goto("/")
    await expect(page.locator("#live")).to_have_attribute("data-state", "live")
    door.credential_clock.advance(31 * 60_000)
    await expect(page.get_by_role("alert").filter(has_text="30 minutes without use")).to_be_visible(timeout=20_000)
    await expect(page.locator("body")).not_to_contain_text("Demir")
    await readable(page, "idle")
