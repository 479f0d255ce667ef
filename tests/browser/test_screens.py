"""The screens in a real browser: sign in, see who needs somebody and why, and be told of a change."""

from __future__ import annotations

import asyncio
import os
import re
from datetime import timedelta

import pytest
from playwright.async_api import Page, expect

from tests.api_data import NOW
from tests.browser.looks import CONTRAST, NARROW, WIDE
from tests.browser.ward import Ward

pytestmark = [pytest.mark.stack, pytest.mark.browser]


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
    await expect(first).to_contain_text("Heart rate rose to 171 /min and stayed above 150 /min at rest for 10 min")
    await expect(first).to_contain_text("provisional")
    await expect(first).to_contain_text("14 min")
    await expect(first).to_contain_text(
        "and 3 more: Fast gain of weight; Breathing at night faster; Battery low (technical)"
    )
    await expect(page.locator("tr", has_text="Rosa Graf")).to_contain_text("late finding")
    await expect(page.locator("tr", has_text="Margarethe")).to_contain_text("now unknown since")
    await expect(page.locator("tr", has_text="Elke Engel")).to_contain_text("not worn")
    await expect(page.locator("tr", has_text="Elke Engel").locator(".c-value")).to_contain_text("5 h ago")
    await expect(page.locator("tr", has_text="Theo Hansen")).to_contain_text("Nothing received yet")
    usual = {"Ines Albrecht": "usual 56–76 at rest", "Piotr Filipek": "still learning, 3 of 5 days: 56–76 at rest"}
    for name, told in usual.items():
        await expect(page.locator("tr", has_text=name).locator(".c-value")).to_contain_text(told)
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


async def test_an_alert_says_by_what_it_was_measured_and_how_exactly(page: Page) -> None:
    await page.goto("/patients/p04")
    card = page.locator("article", has_text="rose to 171 /min")
    await card.get_by_text("Based on").click()
    said = "(wrist sensor): may be off by 15 /min, limits of agreement with a chest strap; in dark skin"
    await expect(card.locator(".measured")).to_contain_text(said)
    breathing = page.locator("article", has_text="Respiratory rate while asleep in the night to 22 Nov was 18.4")
    await breathing.get_by_text("Based on").click()  # told by an earlier version
    await expect(breathing.locator(".measured")).to_have_text("Measured by: not recorded, accuracy not known")
    await expect(page.get_by_text("(Wristband, wrist sensor)")).to_be_visible()


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


async def test_what_is_expected_of_a_stay_in_hospital_is_stated_and_too_much_refused(page: Page) -> None:
    await page.goto("/patients/p07")
    panel = page.locator(".happened")

    async def write(size: str) -> None:
        await panel.get_by_text("Write one down").click()
        await panel.get_by_label("What happened").select_option("admission")
        await panel.get_by_label("On which day").fill("2026-11-20")
        await panel.get_by_label("It may").select_option("rise")
        await panel.get_by_label("By up to").fill(size)
        await panel.get_by_label("For so many days").fill("10")
        await panel.get_by_role("button", name="Write down").click()

    await write("25")
    await expect(page.locator("#outcome")).to_contain_text("at most 10 /min")
    await page.reload()
    if extra := os.environ.get("KEEPWELL_MORE_SCREENSHOTS"):
        await panel.get_by_text("Write one down").click()
        await panel.screenshot(path=f"{extra}/stated.png")
        await page.reload()
    await write("6,5")
    told = "a rise of heart rate by up to 6.5 /min is expected until 2026-11-29, as stated by a nurse"
    await expect(panel).to_contain_text(told)
    page.once("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
    await panel.get_by_role("button", name="Withdraw").click()
    await expect(panel).to_contain_text("Withdrawn")


async def test_who_wears_less_is_listed_below_the_worklist_and_on_a_page_of_its_own(page: Page, ward: Ward) -> None:
    """Elke Engel, who wore it every day till a fortnight ago and on half of the days since."""
    connection, elke = ward.data.connection, ward.patients["p05"]
    connection.execute(
        """INSERT INTO rollup SELECT %s, 1, 3600, t, 60, 70, 70, 70, 70, 70
           FROM generate_series(%s::timestamptz, %s::timestamptz, '1 hour') AS t""",
        [elke, "2026-10-10T00:00Z", "2026-11-08T22:00Z"],
    )
    connection.execute(
        "INSERT INTO rollup VALUES (%s, 1, 86400, '2026-10-10T00:00Z', 1440, 70, 70, 70, 70, 70)", [elke]
    )
    try:
        await page.goto("/")
        listed = page.locator("#wearing")
        await expect(listed.get_by_role("link", name="Elke Engel")).to_be_visible()
        await expect(listed).to_contain_text("of 14 days with at least 10 h of data in the last 14 days, 14 of 14")
        await expect(listed).to_contain_text("last heard 5 h ago")
        await expect(listed).not_to_contain_text("Jonas Brandt")
        if extra := os.environ.get("KEEPWELL_MORE_SCREENSHOTS"):
            await page.screenshot(path=f"{extra}/wearing.png", full_page=True)
        await page.goto("/wearing")
        await expect(page.locator("h1")).to_have_text("Wearing less")
        for size in (WIDE, NARROW):
            await page.set_viewport_size(size)  # type: ignore[arg-type]
            assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            assert await page.evaluate(CONTRAST) == []
        if extra:
            await page.screenshot(path=f"{extra}/wearing-narrow.png", full_page=True)
        await listed.get_by_role("link", name="Elke Engel").click()
        await expect(page.locator("main")).to_contain_text("Wear is falling: ")
    finally:
        connection.execute("DELETE FROM rollup WHERE patient_id = %s AND t0 < '2026-11-09T00:00Z'", [elke])


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
    await expect(chart.locator(".said")).to_contain_text(re.compile(r"highest 17\d"))
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
        await expect(page.locator("body")).to_contain_text("Only a NEWS2 of 5 or more that lasts is told as an alert.")
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
