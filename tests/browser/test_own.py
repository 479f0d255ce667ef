"""The patient's own pages in a real browser, and a proxy's: what they read, take along, and never read."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, expect

from services import teams
from tests.api_data import NOW
from tests.browser.looks import CONTRAST, WIDE
from tests.browser.ward import Ward
from tests.export_readers import from_csv, stored
from tests.fix_api import ServedApi

pytestmark = [pytest.mark.stack, pytest.mark.browser]

PICTURES = os.environ.get("KEEPWELL_MORE_SCREENSHOTS")  # for whoever works on the screens
PHONE, SMALLEST = {"width": 360, "height": 780}, {"width": 320, "height": 700}


@dataclass
class Door:
    """A browser in which one after the other signs in; nothing may go wrong in it unnoticed."""

    context: BrowserContext
    url: str
    ward: Ward
    people: dict[str, int]

    async def as_(self, name: str) -> Page:
        token = self.ward.data.token(self.people[name], kind="session")
        await self.context.add_cookies([{"name": "keepwell_session", "value": token, "url": self.url}])
        return await self.context.new_page()


@pytest.fixture(scope="module")
def people(ward: Ward) -> dict[str, int]:
    """Two patients, a proxy of two people who share different things, and one of nobody."""
    data, found = ward.data, {}
    for key, name, patient in (("yusuf", "Yusuf Demir", "p04"), ("elke", "Elke Engel", "p05")):
        found[key] = data.person(key, "patient", name)
        teams.link_patient(data.connection, found[key], ward.patients[patient])
    for key, name in (("mia", "Mia Albrecht"), ("max", "Max Nobody")):
        found[key] = data.person(key, "proxy", name)
    lets: dict[str, list[teams.What]] = {"p01": ["readings"], "p02": ["alerts"]}
    for patient, what in lets.items():
        whose = ward.patients[patient]
        teams.grant_proxy(data.connection, found["mia"], whose, what, NOW - timedelta(1), NOW + timedelta(1))
    return found


@pytest_asyncio.fixture
async def door(browser: Browser, api: ServedApi, ward: Ward, people: dict[str, int]) -> AsyncIterator[Door]:
    context = await browser.new_context(viewport=WIDE, base_url=api.url, locale="en-GB")  # type: ignore[arg-type]
    faults: list[str] = []
    context.on("weberror", lambda fault: faults.append(str(fault.error)))
    context.on("console", lambda line: faults.append(line.text) if "Content Security" in line.text else None)
    yield Door(context, api.url, ward, people)
    await context.close()
    assert faults == []


async def readable(page: Page, name: str) -> None:
    """At every width and in both schemes nothing sticks out, and everything has contrast."""
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        for size in (SMALLEST, PHONE, WIDE):
            await page.set_viewport_size(size)  # type: ignore[arg-type]
            assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (name, size)
            assert await page.evaluate(CONTRAST) == [], (name, size, scheme)
            if PICTURES:
                await page.wait_for_timeout(400)
                await page.screenshot(path=Path(PICTURES) / f"{name}-{size['width']}-{scheme}.png", full_page=True)
    await page.emulate_media(color_scheme="light")


async def test_a_patient_reads_how_they_are_in_plain_words(door: Door) -> None:
    page = await door.as_("yusuf")
    await page.goto("/")
    await expect(page).to_have_url(re.compile(r"/me$"))
    await expect(page.locator("h1")).to_have_text("Hello, Yusuf Demir")
    await expect(page.locator("#live")).to_have_attribute("data-state", "live")
    await expect(page.locator("figure[data-drawn]")).to_have_count(2)
    heart = page.locator(".values li", has_text="Heart rate")
    await expect(heart).to_contain_text("Unusual for you right now. This is not a diagnosis.")
    oxygen = page.locator(".values li", has_text="Oxygen in the blood")
    await expect(oxygen).to_contain_text("In your usual range for what we received.")
    await expect(oxygen).to_contain_text("Last heard 1 min ago: 96 %")
    await expect(page.locator(".alerts")).to_contain_text("Your heart rate rose to 171 /min")
    await expect(page.locator(".alerts")).to_contain_text("3.5 above your usual 14.9 /min")
    await expect(page.locator(".alerts")).to_contain_text("Nobody has marked it as seen yet")
    await expect(page.locator(".identity")).to_contain_text("call the emergency number")
    await expect(page.get_by_role("region", name="Over weeks")).to_contain_text(
        "Your resting heart rate at night was 3 beats a minute higher in the last four weeks than in your first weeks here."
    )
    await expect(page.get_by_role("region", name="Over weeks")).to_contain_text(
        "Your weight rose by 2.6 kg from 20 Nov"
    )
    for never in ("normal", "this person's"):  # the word, and the sentence for clinicians
        assert never not in (await page.locator("body").inner_text()).lower()
    await readable(page, "me")
    for path in ("/account", "/me"):
        await page.goto(path)
    await page.keyboard.press("Tab")
    link = page.get_by_role("link", name="Tables (CSV)")
    for _ in range(20):
        await page.keyboard.press("Tab")
        if await link.evaluate("e => e === document.activeElement"):
            break
    await expect(link).to_be_focused()


async def test_what_is_not_known_is_said_with_its_cause(door: Door) -> None:
    page = await door.as_("elke")
    await page.goto("/me")
    await expect(page.locator(".overall")).to_contain_text("One thing is not known right now.")
    heart = page.locator(".values li", has_text="Heart rate")
    await expect(heart.locator(".state.unknown")).to_contain_text("the device has not been worn since")
    await expect(page.locator(".values")).not_to_contain_text("usual range")
    await expect(page.locator(".alerts")).to_contain_text("About the device")


async def test_a_patient_takes_their_data_along_and_sees_who_looked(door: Door) -> None:
    data, patient = door.ward.data, door.ward.patients["p04"]
    page = await door.as_("yusuf")
    nurse = data.token(door.ward.nurse)
    await page.request.get("/v1/patients/p04", headers={"Authorization": f"Bearer {nurse}"})
    data.connection.execute(
        """INSERT INTO access_audit (at, organisation_id, person_id, role, action, patient_id, outcome)
           VALUES (%s, %s, %s, 'nurse', 'patient.limits', %s, 'refused')""",
        [NOW, data.organisation, door.ward.nurse, patient],
    )
    await page.goto("/me")
    for name, suffix in (("Tables (CSV)", ".zip"), ("For another clinic (FHIR)", ".fhir.json")):
        async with page.expect_download() as coming:
            await page.get_by_role("link", name=name).click()
        file = await (await coming.value).path()
        assert (await coming.value).suggested_filename == f"keepwell{suffix}"
        if suffix == ".zip":
            assert zipfile.is_zipfile(file)
            assert sorted(from_csv(file.read_bytes())) == sorted(stored(data.connection, patient))
    await page.get_by_role("link", name="See who looked").click()
    day = page.get_by_role("region", name="Sunday 22 November 2026")
    await expect(day).to_contain_text("Ada Nurse (nurse) opened your page, for your care")
    await expect(day).to_contain_text("You took a copy of your data, 2 times.")
    refused = day.locator("li.refused", has_text="changed your own limits")
    await expect(refused).to_contain_text("Refused Ada Nurse (nurse) was refused: it would have been")
    await readable(page, "accesses")
    await page.goto("/me/p04/accesses?to=2026-10-20T00:00:00Z")
    await expect(page.locator(".empty")).to_have_text("Nobody looked in these days.")
    await page.get_by_role("link", name="Back to the newest").click()
    await expect(day).to_be_visible()


async def test_a_proxy_chooses_and_sees_what_is_shared_and_what_is_not(door: Door) -> None:
    page = await door.as_("mia")
    await page.goto("/")
    await expect(page.locator("h1")).to_have_text("Whose data do you want to see?")
    await readable(page, "choose")
    await page.get_by_role("link", name="Ines Albrecht").click()
    await expect(page.locator(".alerts")).to_contain_text("Ines Albrecht does not share this with you")
    await expect(page.locator(".values li", has_text="Heart rate")).to_contain_text("In their usual range for what we")
    await expect(page.locator("figure[data-drawn]")).to_have_count(1)
    await page.goto("/me/p02")
    await expect(page.locator(".values")).to_contain_text("Jonas Brandt does not share this with you")
    await expect(page.locator(".alerts article")).to_have_count(1)
    await expect(page.locator("figure.trend")).to_have_count(0)
    await expect(page.locator("body")).not_to_contain_text("Nothing has come in")
    await readable(page, "proxy")
    await page.goto("/me/p04")
    await expect(page.locator("h1")).to_have_text("There is no such thing, or it is not yours to see")
    page = await door.as_("max")
    await page.goto("/")
    await expect(page.locator("body")).to_contain_text("Nobody shares their data with you right now")


async def test_a_patient_reads_what_they_are_asked_agrees_and_takes_it_back(door: Door) -> None:
    data = door.ward.data
    data.connection.execute(
        """INSERT INTO consent_document (organisation_id, key, version, language, purpose, title, text, digest,
                                         requires_renewal, published_at)
           VALUES (%s, 'research', 1, 'en', 'research', 'Your data in research', %s, 'digest', false, %s)""",
        [data.organisation, "We would like to use your values for research.\nYour name is taken off first.", NOW],
    )
    page = await door.as_("elke")
    await page.goto("/me")
    research = page.get_by_role("region", name="Research", exact=True)
    await expect(research).to_contain_text("You have not decided. Until you agree, your data is not used for this.")
    await research.get_by_text("Read: Your data in research").click()
    await expect(research.locator(".words")).to_contain_text("Your name is taken off first.")
    await readable(page, "consents")
    await research.get_by_role("button", name="I agree").click()
    await expect(page).to_have_url(re.compile("/me/p05#consents$"))
    await expect(research).to_contain_text("You agreed: 20:04 CET.")
    await research.get_by_text("Take it back", exact=True).click()
    await expect(research).to_contain_text("Your data will not be used for research.")
    await research.get_by_role("button", name="Yes, take it back").click()
    await expect(research).to_contain_text("You took it back: 20:04 CET.")
    said = data.connection.execute(
        "SELECT decision, relation, decided_by, form FROM consent WHERE patient_id = %s AND purpose = 'research' ORDER BY id",
        [door.ward.patients["p05"]],
    ).fetchall()
    assert said == [(word, "self", "Elke Engel", "in the patient's own account") for word in ("given", "withdrawn")]
    page = await door.as_("mia")  # a proxy decides nothing and is asked nothing
    await page.goto("/me/p01")
    await expect(page.locator("h1")).to_have_text("Ines Albrecht")
    await expect(page.locator("#consents")).to_have_count(0)
    answer = await page.request.post(
        "/me/p01/consents",
        form={"purpose": "research", "decision": "refused", "once": "x"},
        headers={"Origin": door.url},
    )
    assert answer.status == 403
