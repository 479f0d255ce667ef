"""A real browser: the one on PATH, or one unpacked privately; without either its tests are skipped.

The reason is shown with the skip.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from deploy.local import browser as finder
from deploy.local import paths, user
from deploy.local.errors import StackError, silent
from services.settings import Settings
from tests.api_data import ApiData
from tests.browser.ward import Ward, make

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
