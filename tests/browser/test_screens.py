"""The screens in a real browser: sign in, see who needs somebody, acknowledge, and never be left in the dark."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Dialog, Page, expect

from services.settings import Settings
from tests.api_data import NOW
from tests.browser.ward import Ward
from tests.fix_api import ServedApi, serve

pytestmark = [pytest.mark.stack, pytest.mark.browser]

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
CONTRAST = (Path(__file__).parent / "contrast.js").read_text("utf-8")


class Wire:
    """A connection that can be held up without being cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.url = ""
        self._pumps: set[asyncio.Task[None]] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator[Wire]:
        wire = cls(int(url.rsplit(":", 1)[1]))
        server = await asyncio.start_server(wire._carry, "127.0.0.1", 0)
        wire.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield wire
        finally:
            server.close()
            for pump in wire._pumps:
                pump.cancel()
            await asyncio.gather(*wire._pumps, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._pumps |= {
            asyncio.create_task(self._pump(reader, far_writer)),
            asyncio.create_task(self._pump(far_reader, writer)),
        }

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(65536):
                    await self.flowing.wait()
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()


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


async def names(page: Page) -> list[str]:
    return await page.locator(".worklist .c-patient a").all_inner_texts()


async def test_the_worklist_shows_first_who_needs_somebody(page: Page) -> None:
    await page.goto("/")
    assert await names(page) == [
        "Yusuf Demir", "Jonas Brandt", "Rosa Graf", "Margarethe Conrad", "Elke Engel", "Theo Hansen", "Piotr Filipek",
        "Ines Albrecht",
    ]  # fmt: skip
    first = page.locator(".worklist tbody tr").first
    await expect(first).to_contain_text("High")
    await expect(first).to_contain_text("Heart rate was above 130 /min at rest for 10 min, up to 143 /min")
    await expect(first).to_contain_text("provisional")
    await expect(first).to_contain_text("14 min")
    await expect(first).to_contain_text("and 2 more: Breathing at night faster; Battery low (technical)")
    await expect(page.locator("tr", has_text="Rosa Graf")).to_contain_text("late finding")
    await expect(page.locator("tr", has_text="Margarethe")).to_contain_text("now unknown since")
    await expect(page.locator("tr", has_text="Elke Engel")).to_contain_text("not worn")
    await expect(page.locator("tr", has_text="Elke Engel").locator(".c-value")).to_contain_text("5 h ago")
    await expect(page.locator("tr", has_text="Theo Hansen")).to_contain_text("Nothing received yet")
    await expect(page.locator("footer")).to_contain_text("Not a medical device")


async def test_unknown_never_reads_as_usual(page: Page) -> None:
    await page.goto("/")
    for name in ("Elke Engel", "Theo Hansen"):
        data = page.locator("tr", has_text=name).locator(".c-data")
        await expect(data.locator(".state.unknown")).to_be_visible()
        await expect(data).not_to_contain_text("usual")
    await page.goto("/patients/p08")
    await expect(page.locator("#now")).to_contain_text("not everything is known")


async def test_a_change_is_on_the_open_screen_within_two_seconds(page: Page, ward: Ward) -> None:
    await page.goto("/")
    await expect(page.locator("#live")).to_have_attribute("data-state", "live")
    row = page.locator("tr", has_text="Ines Albrecht")
    await expect(row).to_contain_text("No alert")
    alert = ward.data.alert(
        ward.patients["p01"], sentence="Skin temperature rose by 2 °C", started_at=NOW - timedelta(minutes=1)
    )
    try:
        await expect(page.locator(".worklist tbody tr").nth(1)).to_contain_text("Ines Albrecht", timeout=2000)
        await expect(row).to_contain_text("Skin temperature rose by 2 °C")
        await expect(page).to_have_title(re.compile("Worklist"))
    finally:
        ward.data.connection.execute(
            "UPDATE alert SET state = 'resolved', resolved_at = %s WHERE id = %s", [NOW, alert]
        )
        ward.data.event(alert, ward.patients["p01"], "resolved")
    await expect(row).to_contain_text("No alert", timeout=2000)


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


async def test_an_alert_says_by_what_it_was_measured_and_how_exactly(page: Page) -> None:
    await page.goto("/patients/p04")
    card = page.locator("article", has_text="up to 143 /min")
    await card.get_by_text("Based on").click()
    said = "(wrist sensor): may be off by 15 /min, limits of agreement with a chest strap; in dark skin"
    await expect(card.locator(".measured")).to_contain_text(said)
    breathing = page.locator("article", has_text="Respiratory rate asleep was 18.4")
    await breathing.get_by_text("Based on").click()  # told by an earlier version
    await expect(breathing.locator(".measured")).to_have_text("Measured by: not recorded, accuracy not known")
    await expect(page.get_by_text("(Wristband, wrist sensor)")).to_be_visible()


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


async def test_a_new_normal_and_a_pause_are_seen_on_the_patient_page(page: Page, ward: Ward) -> None:
    patient = ward.data.patient("p09", "Nadia Iqbal")
    ward.data.alert(
        patient, rule="resting_heart_rate_rise", priority="medium", sentence="Resting heart rate has risen",
        evidence={"metric": "heart_rate", "value": 63.2, "usual": 54.0, "n_days": 14},
    )  # fmt: skip
    ward.data.alert(patient, rule="spo2_low", sentence="Oxygen is low", evidence={"metric": "spo2"})
    await page.goto("/patients/p09")
    risen, low = (page.locator("article", has_text=text) for text in ("Resting heart rate has risen", "Oxygen is low"))
    await expect(low.get_by_role("button", name="This is the new normal")).to_have_count(0)
    page.once("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
    await risen.get_by_role("button", name="This is the new normal").click()
    await expect(risen).to_contain_text("New normal said by Ada Nurse; takes effect 21:00 CET")
    await expect(risen.get_by_role("button", name="This is the new normal")).to_have_count(0)
    answer = await page.request.put(
        "/v1/patients/p09/monitoring",
        data={"state": "paused", "until": "2026-11-24T07:00:00Z", "reason": "With her daughter"},
        headers={"Origin": page.url.removesuffix("/patients/p09")},
    )
    assert answer.ok, await answer.text()
    await page.reload()
    await expect(page.locator(".identity")).to_contain_text("Paused until 24 Nov, 08:00 CET: With her daughter")
    ward.data.connection.execute(
        "UPDATE alert SET state = 'resolved', resolved_at = %s WHERE patient_id = %s", [NOW, patient]
    )
    ward.data.connection.execute("UPDATE patient SET erased_at = %s WHERE id = %s", [NOW, patient])  # out of the ward
    await page.goto("/patients/p09")
    await expect(page.locator("body")).to_contain_text("There is no such thing")


async def test_a_medicine_is_written_down_shown_and_taken_back(page: Page) -> None:
    await page.goto("/patients/p02")
    panel = page.locator(".happened")
    await expect(panel).to_contain_text("None written down.")
    await panel.get_by_text("Write one down").click()
    await panel.get_by_label("What happened").select_option("medication_stopped")
    await panel.get_by_label("Which medicine").select_option("beta_blocker")
    await panel.get_by_label("On which day").fill("2026-11-20")
    await panel.get_by_label("Note").fill("told on the phone")
    await panel.get_by_role("button", name="Write down").click()
    await expect(page.locator("#outcome")).to_contain_text("Written down: a beta blocker was stopped on 2026-11-20.")
    await expect(panel).to_contain_text("A beta blocker was stopped, 2026-11-20")
    await expect(panel).to_contain_text("a rise of heart rate by up to 10 /min is expected until 2026-12-17")
    await expect(panel).to_contain_text("“told on the phone” · Ada Nurse")
    page.once("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
    await panel.get_by_role("button", name="Withdraw").click()
    await expect(panel).to_contain_text("Withdrawn")
    await expect(panel.get_by_role("button", name="Withdraw")).to_have_count(0)


async def test_the_patient_page_explains_and_draws(page: Page) -> None:
    await page.goto("/patients/p04")
    main = page.locator("main")
    for text in (
        "Limits not individualised",
        "Last heard",
        "Provisional",
        "times in Europe/Berlin",
        "battery is at 12 %",
    ):
        await expect(main).to_contain_text(text)
    chart = page.locator("figure[data-metric=heart_rate]")
    await expect(chart.locator("canvas")).to_be_visible()
    await expect(chart.locator(".said")).to_contain_text(re.compile(r"highest 1[34]\d"))
    await expect(chart.locator(".said")).to_contain_text("gap")
    for hours, name in ((168, "7 d"), (504, "21 d"), (0, "All"), (24, "24 h")):
        await page.get_by_role("button", name=name, exact=True).click()
        await expect(chart).to_have_attribute("data-drawn", str(hours))
    painted = await chart.locator("canvas").evaluate(
        "c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
    )
    assert painted > 10


async def test_a_score_is_partial_and_names_what_is_missing(page: Page) -> None:
    for key, told, why in (
        (
            "p04",
            r"^At least \d+, 2 of 7 parameters known: (at least medium risk|high risk|at least low to medium)",
            "missing: never received",
        ),
        ("p05", r"^Not known: 0 of 7 parameters known$", "too old: counts for 1 h"),
        ("p08", r"^Not known: 0 of 7 parameters known$", "missing: never received"),
    ):
        await page.goto(f"/patients/{key}")
        news2 = page.get_by_role("article", name="NEWS2")
        await expect(news2.locator(".sentence")).to_have_text(re.compile(told))
        await expect(news2).to_contain_text(why)
        await expect(news2.locator(".flag")).to_have_text("Partial" if key == "p04" else "Not known")


async def test_the_patient_page_says_what_weeks_come_to(page: Page) -> None:
    await page.goto("/patients/p04")
    weeks = page.get_by_role("region", name="Over weeks")
    await expect(weeks).to_contain_text("3.0 /min higher than in this person's first weeks (54.0 /min, 14 nights)")
    await expect(weeks).to_contain_text("Weight 2.6 kg up in 2 days (77.9 kg on 20 Nov, 80.5 kg on 22 Nov)")
    await expect(weeks).to_contain_text("Not known, too few days: Heart rate variability asleep (RMSSD)")
    await weeks.get_by_text("Comparisons, one by one").click()
    row = weeks.get_by_role("row", name="Last 4 weeks, with the 4 before").first
    await expect(row).to_contain_text("+3.0, higher")
    await expect(weeks.locator(".state.unknown").first).to_contain_text("not known")
    await page.goto("/patients/p06")
    await expect(page.locator(".weeks")).to_contain_text("Not known, too few days: Resting heart rate asleep")
    await expect(page.locator(".weeks")).not_to_contain_text("No clear change")


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
