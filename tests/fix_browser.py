"""A real browser: the one on PATH, or one unpacked privately; without either its tests are skipped.

The reason is shown with the skip.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from deploy.local import browser as finder
from deploy.local import paths, user
from deploy.local.errors import StackError, silent
from services.settings import Settings
from tests.api_data import NOW, ApiData
from tests.browser.looks import WIDE
from tests.browser.ward import Ward, make
from tests.fix_api import ServedApi

# The tests may run as root and in containers, where Chromium's own sandbox and /dev/shm are not to be had.
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking")


@pytest.fixture(scope="session")
def browser_program() -> Path:
    """Where the browser is."""
    try:
        return finder.find(paths.programs(user.choose()), paths.downloads(), silent)
    except StackError as error:
        pytest.skip(f"no browser: {error}")


@pytest_asyncio.fixture(scope="session")
async def browser(browser_program: Path) -> AsyncIterator[Browser]:
    """One running browser for the session; each test opens a context of its own."""
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=browser_program, args=list(ARGUMENTS))
        yield running
        await running.close()


@pytest.fixture(scope="session")
def ward(migrated: Settings) -> Iterator[Ward]:
    """Eight people."""
    data = ApiData(migrated, "ward")
    yield make(data)
    data.close()


@pytest_asyncio.fixture
async def context(browser: Browser, api: ServedApi, ward: Ward) -> AsyncIterator[BrowserContext]:
    """A browser signed in by a login link, in which nothing may go wrong unnoticed."""
    context = await browser.new_context(viewport=WIDE, base_url=api.url, locale="en-GB")  # type: ignore[arg-type]
    faults: list[str] = []
    foreign: list[str] = []
    context.on("weberror", lambda fault: faults.append(str(fault.error)))
    context.on("console", lambda line: faults.append(line.text) if "Content Security" in line.text else None)
    context.on(
        "request",
        lambda sent: None if sent.url.startswith(("http://127.0.0.1:", "data:")) else foreign.append(sent.url),
    )
    page = await context.new_page()
    link = ward.data.token(ward.nurse, kind="login_link", expires=NOW + timedelta(minutes=15))
    await page.goto(f"/login?token={link}")
    await page.get_by_role("button", name="Sign in to Keepwell").click()
    await expect(page).to_have_url(re.compile(r"/$"))
    await page.close()
    yield context
    await context.close()
    assert faults == []
    assert foreign == []


@pytest_asyncio.fixture
async def page(context: BrowserContext) -> Page:
    """A fresh page, signed in."""
    return await context.new_page()
