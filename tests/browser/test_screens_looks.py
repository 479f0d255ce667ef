"""The screens in a real browser at both widths and in both schemes, by keyboard, and when the connection is lost."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, expect

from services.settings import Settings
from tests.browser.looks import CONTRAST, NARROW, WIDE
from tests.browser.ward import Ward
from tests.browser.wire import Wire
from tests.fix_api import ServedApi, serve

pytestmark = [pytest.mark.stack, pytest.mark.browser]

IMAGES = Path(__file__).parents[2] / "docs" / "images"


async def test_it_says_when_the_connection_is_lost_and_when_it_is_back(
    context: BrowserContext, migrated: Settings, ward: Ward
) -> None:
    async with serve(migrated) as dying:
        await context.add_cookies(
            [{"name": "keepwell_session", "value": ward.data.token(ward.nurse, kind="session"), "url": dying.url}]
        )
        page = await context.new_page()
        await page.goto(dying.url)
        await expect(page.locator("#live")).to_have_attribute("data-state", "live")
        await expect(page.locator("#lost")).to_be_hidden()
    await expect(page.locator("#lost")).to_be_visible(timeout=5000)
    await expect(page.locator("#live")).to_have_text("Not live")


async def test_a_frozen_connection_is_noticed_too(context: BrowserContext, api: ServedApi, ward: Ward) -> None:
    async with Wire.to(api.url) as wire:
        token = ward.data.token(ward.nurse, kind="session")
        await context.add_cookies([{"name": "keepwell_session", "value": token, "url": wire.url}])
        page = await context.new_page()
        await page.goto(wire.url)
        await expect(page.locator("#live")).to_have_attribute("data-state", "live")
        wire.flowing.clear()
        await expect(page.locator("#lost")).to_be_visible(timeout=5000)
        wire.flowing.set()
        await expect(page.locator("#lost")).to_be_hidden(timeout=8000)
        await page.close()


async def test_everything_is_reached_by_keyboard(page: Page) -> None:
    await page.goto("/")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    link = page.get_by_role("link", name="Yusuf Demir")
    for _ in range(12):
        await page.keyboard.press("Tab")
        if await link.evaluate("e => e === document.activeElement"):
            break
    await expect(link).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_have_text("Yusuf Demir")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("path", ["/", "/patients/p04", "/patients/p03", "/patients/nobody"])
async def test_readable_at_both_widths_in_both_schemes(
    page: Page, path: str, size: dict[str, int], scheme: str
) -> None:
    await page.set_viewport_size(size)  # type: ignore[arg-type]
    await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    await page.goto(path)
    wide = await page.evaluate(
        """[...document.querySelectorAll("main *:not(thead, thead *)")].map((e) => [e, e.getBoundingClientRect()])
           .filter(([, box]) => box.right > innerWidth + 1).map(([e]) => e.outerHTML.slice(0, 80))"""
    )
    assert wide == []
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    poor = await page.evaluate(CONTRAST)
    assert poor == []


async def test_an_ended_session_leads_to_the_sign_in_page(page: Page, ward: Ward) -> None:
    await page.goto("/")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page).to_have_url(re.compile("/login"))
    await page.goto("/patients/p04")
    await expect(page.locator("h1")).to_have_text("Sign in")
    await expect(page.locator("body")).not_to_contain_text("Demir")


@pytest.mark.skipif(
    "KEEPWELL_SCREENSHOTS" not in os.environ, reason="pictures are made when KEEPWELL_SCREENSHOTS is set"
)
async def test_pictures_for_the_readme(page: Page) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    await page.goto("/")
    await expect(page.locator("#live")).to_have_attribute("data-state", "live")
    await page.screenshot(path=IMAGES / "worklist.png")
    await page.goto("/patients/p04")
    await expect(page.locator("figure[data-drawn]")).to_have_count(2)
    await page.screenshot(path=IMAGES / "patient.png")
    if extra := os.environ.get("KEEPWELL_MORE_SCREENSHOTS"):  # for whoever works on the screens
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            for name, size, path in (
                ("worklist-narrow", NARROW, "/"), ("patient-narrow", NARROW, "/patients/p04"),
                ("worklist", WIDE, "/"), ("patient", WIDE, "/patients/p03"),
            ):  # fmt: skip
                await page.set_viewport_size(size)  # type: ignore[arg-type]
                await page.goto(path)
                await page.wait_for_timeout(700)
                await page.screenshot(path=Path(extra) / f"{name}-{scheme}.png", full_page=True)
