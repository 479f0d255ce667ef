"""Acknowledging in a real browser: from the page and from the row, and never more than was shown."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta

import pytest
from playwright.async_api import Dialog, Page, expect

from tests.api_data import NOW
from tests.browser.ward import Ward

pytestmark = [pytest.mark.stack, pytest.mark.browser]


async def test_acknowledging_from_the_patient_page(page: Page, ward: Ward) -> None:
    alert = ward.data.alert(ward.patients["p06"], priority="medium", sentence="Acknowledge me")
    await page.goto("/")
    await page.get_by_role("link", name="Piotr Filipek").click()
    await expect(page).to_have_url(re.compile("/patients/p06$"))
    await expect(page.locator("#live")).to_have_attribute("data-state", "live")
    card = page.locator("article", has_text="Acknowledge me")
    note = card.get_by_placeholder("Note for the team")
    await note.fill("Called him")
    ward.data.event(alert, ward.patients["p06"], "settled")  # a refresh must not eat the note
    await page.wait_for_timeout(800)
    await expect(note).to_have_value("Called him")
    ward.data.connection.execute("UPDATE alert SET priority = 'high' WHERE id = %s", [alert])
    await card.get_by_role("button", name="Acknowledge").click()
    await expect(page.get_by_role("alert").filter(has_text="Not acknowledged")).to_contain_text("now high priority")
    await card.get_by_role("button", name="Acknowledge").click()
    await expect(card).to_contain_text("Acknowledged by Ada Nurse")
    await expect(card).to_contain_text("Called him")
    await expect(card.get_by_role("button", name="Acknowledge")).to_have_count(0)
    await card.get_by_text("Based on").click()
    await expect(card.locator(".history")).to_contain_text("Raised")
    ward.data.connection.execute("UPDATE alert SET state = 'resolved', resolved_at = %s WHERE id = %s", [NOW, alert])


async def test_what_joins_while_a_note_is_written_is_not_acknowledged_with_it(page: Page, ward: Ward) -> None:
    patient = ward.data.patient("p11", "Lena Jung")
    ward.data.alert(patient, sentence="Her heart was fast")
    ward.data.alert(patient, kind="technical", rule="battery_low", sentence="Battery is low", evidence={})
    await page.goto("/patients/p11")
    await expect(page.locator("#live")).to_have_attribute("data-state", "live")
    fast, battery = (page.locator("article", has_text=text) for text in ("Her heart was fast", "Battery is low"))
    await fast.get_by_placeholder("Note for the team").fill("Called her")
    await battery.get_by_placeholder("Note for the team").fill("Charge it")
    ward.data.alert(patient, rule="fever", sentence="She was hot", started_at=NOW - timedelta(hours=1))
    incident = page.locator("section.incident")
    await expect(incident.locator("article")).to_have_count(2)
    note = incident.get_by_placeholder("Note for the team")
    await expect(note).to_have_value("Called her")
    everything = incident.get_by_role("button", name="Acknowledge all 2")
    await everything.click()
    refused = page.get_by_role("alert").filter(has_text="Not acknowledged")
    await expect(refused).to_contain_text("High body temperature has joined")
    await expect(note).to_have_value("Called her")
    await expect(battery.get_by_placeholder("Note for the team")).to_have_value("Charge it")
    await everything.click()
    await expect(incident.locator("article", has_text="She was hot")).to_contain_text("Called her")
    await battery.get_by_role("button", name="Acknowledge").click()
    await expect(battery).to_contain_text("Charge it")
    query = "UPDATE alert SET state = 'resolved', resolved_at = %s WHERE patient_id = %s AND state = 'active'"
    ward.data.connection.execute(query, [NOW, patient])
    ward.data.connection.execute("UPDATE patient SET erased_at = %s WHERE id = %s", [NOW, patient])  # out of the ward


async def test_an_incident_is_acknowledged_as_one_and_never_more_than_was_shown(page: Page, ward: Ward) -> None:
    patient = ward.data.patient("p10", "Karl Ising")
    fast = ward.data.alert(patient, priority="medium", rule="tachycardia_at_rest", sentence="His heart was fast")
    ward.data.alert(patient, priority="medium", rule="fever", sentence="He was hot", evidence={"metric": "heart_rate"})
    ward.data.alert(
        patient, rule="spo2_low", priority="low", state="resolved", sentence="It was low for a while",
        started_at=NOW - timedelta(minutes=50), resolved_at=NOW - timedelta(minutes=30),
        evidence={"metric": "heart_rate"},
    )  # fmt: skip
    await page.goto("/")
    await expect(page.locator("#live")).to_have_attribute("data-state", "live")
    row = page.locator("tr", has_text="Karl Ising")
    await expect(row).to_contain_text("and 1 more:")
    everything = row.get_by_role("button", name="Acknowledge")
    await expect(everything).to_have_text("Acknowledge all 2")
    ward.data.connection.execute("UPDATE alert SET priority = 'high' WHERE id = %s", [fast])  # and nobody says so
    page.once("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
    await everything.click()
    await expect(page.get_by_role("alert").filter(has_text="Not acknowledged")).to_contain_text("is now high priority")
    await expect(everything).to_have_text("Acknowledge all 2")
    await row.get_by_role("link").click()
    incident = page.locator("section.incident")
    await expect(incident.get_by_role("heading", level=3)).to_have_text("2 open alerts of one time, 1 more that ended")
    await expect(incident.locator("article")).to_have_count(2)
    await incident.get_by_text("Ended (1)").click()
    await expect(incident).to_contain_text("It was low for a while")
    await incident.get_by_placeholder("Note for the team").fill("Called him")
    await incident.get_by_role("button", name="Acknowledge all 2").click()
    said = page.get_by_role("status").filter(has_text="Acknowledged for Karl Ising")
    await expect(said).to_contain_text("High body temperature")
    for sentence in ("His heart was fast", "He was hot"):
        card = incident.locator("article", has_text=sentence)
        await expect(card).to_contain_text("Acknowledged by Ada Nurse")
        await expect(card).to_contain_text("Called him")
    await page.wait_for_timeout(800)  # the refresh that the acknowledgement itself brings
    await expect(said).to_be_visible()
    query = "UPDATE alert SET state = 'resolved', resolved_at = %s WHERE patient_id = %s AND state = 'active'"
    ward.data.connection.execute(query, [NOW, patient])
    ward.data.connection.execute("UPDATE patient SET erased_at = %s WHERE id = %s", [NOW, patient])  # out of the ward


async def test_acknowledging_from_the_row_says_what_it_covered(page: Page, ward: Ward) -> None:
    patient = ward.patients["p01"]
    alert = ward.data.alert(patient, rule="fever", sentence="She is hot", evidence={"metric": "heart_rate"})
    await page.goto("/")
    row = page.locator("tr", has_text="Ines Albrecht")
    button = row.get_by_role("button", name="Acknowledge High body temperature of Ines Albrecht")
    asked: list[str] = []

    async def answer(dialog: Dialog) -> None:  # the first time it is somebody else's row
        asked.append(dialog.message)
        await (dialog.accept() if len(asked) > 1 else dialog.dismiss())

    page.on("dialog", answer)
    await button.click()
    assert asked == ["Acknowledge for Ines Albrecht: High body temperature?"]
    query = "SELECT acknowledged_at FROM alert WHERE id = %s"
    assert ward.data.connection.execute(query, [alert]).fetchone() == (None,)
    await button.click()
    await expect(page.get_by_role("status").filter(has_text="Ines Albrecht")).to_have_text(
        "Acknowledged for Ines Albrecht: High body temperature."
    )
    await expect(row).to_contain_text("acknowledged")
    await expect(row.get_by_role("button", name="Acknowledge")).to_have_count(0)
    await expect(page).to_have_url(re.compile("/$"))
    ward.data.connection.execute("UPDATE alert SET state = 'resolved', resolved_at = %s WHERE id = %s", [NOW, alert])
