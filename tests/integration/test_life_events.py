"""Medicines and other events: written down once, put right, taken back; what is expected of them is not told as unusual."""

from __future__ import annotations

from datetime import date, timedelta
from html import unescape
from random import Random
from typing import Any

import psycopg
import pytest

from services import life_events
from services.store.changes import Wanted
from tests.api_data import ApiData
from tests.cast import Episode, Person, at
from tests.fix_api import ServedApi
from tests.fix_faults import stamped_story
from tests.fix_processor import DAY, T0, Bench, block, stamped
from tests.integration.test_api import got, problem
from tests.integration.test_api_changes import outbox
from tests.integration.test_control import changed, interleaved, outcome, wanted
from tests.sentences.check import check_sentences

pytestmark = pytest.mark.stack

DAYS = 9
FIRST = date(2025, 10, 10)  # of T0
RISEN = Person("risen", tuple(Episode("heart_rate", at(d - 1, 22), at(d, 8), add=12) for d in range(6, DAYS + 1)))
LATER = 13
ADMITTED = Person("risen", tuple(Episode("heart_rate", at(d - 1, 22), at(d, 8), add=8) for d in range(6, LATER + 1)))
STOPPED = {
    "event": "medication_stopped",
    "medication": "beta_blocker",
    "day": "2026-11-20",
    "note": "told on the phone",
}
SURGERY = {"event": "surgery", "medication": None}
ADMISSION = {"event": "admission", "medication": None}
EVENTS = "/v1/patients/p1/life-events"
LIVED = (
    "SELECT rule, state, sentence, patient_sentence, evidence->'events' FROM alert WHERE patient_id = %s ORDER BY rule"
)


def event(patient: int, subject: str, day: int, size: float | None, *, withdrawn: bool = False) -> Wanted:
    """A beta blocker's stop as the API writes it, with a size of our own."""
    when = FIRST + timedelta(days=day)
    payload = life_events.checked("medication_stopped", "beta_blocker", when, when)
    payload["effects"] = {"heart_rate": {"side": "rise"} | ({} if size is None else {"size": size})}
    return wanted(patient, "life_event", T0 + day * DAY, subject, **{**payload, "withdrawn": withdrawn})


async def test_a_rise_up_to_the_size_is_expected_and_beyond_it_told_with_what_happened(bench: Bench) -> None:
    """Stopped on day 5, 12 /min more from then on: up to 15, or only up to 5, are expected; of the third nothing."""
    await bench.feed(changed(bench, event(1, "a", 5, 15), event(2, "a", 5, 5)))
    for patient in (1, 2, 3):
        await bench.frames(stamped_story(patient, RISEN, DAYS))
        await bench.frames([stamped(patient, DAYS * 24, [block("heart_rate", T0 + DAYS * DAY, [150.0] * 60)])])
    first, second, third = [await bench.rows(LIVED, patient) for patient in (1, 2, 3)]
    assert [row[0] for row in first] == ["tachycardia_at_rest"], "a safety limit knows no window"
    assert [row[0] for row in second] == [row[0] for row in third] == ["resting_heart_rate_rise", "tachycardia_at_rest"]
    found = "SELECT rule, started_at, found_at, priority FROM alert WHERE patient_id = %s ORDER BY 1"
    assert await bench.rows(found, 2) == await bench.rows(found, 3), "and what is told is told as soon"
    note = " (a beta blocker was stopped on 15 Oct: a rise of up to 5 /min can come from it)"
    assert second[0][2] == third[0][2] + note
    assert second[0][3] == third[0][3], "the patient is not told that all is explained"
    said = {"day": "2025-10-15", "words": "a beta blocker was stopped", "side": "rise"}
    assert second[0][4] == [said | {"size": 5}]
    assert third[0][4] is None
    used = "SELECT count(*) FROM daily_value WHERE patient_id = %s AND metric_id = 1 AND context = 'asleep' AND used"
    assert (await bench.rows(used, 1))[0][0] > (await bench.rows(used, 3))[0][0], "what is expected is learned"
    with psycopg.connect(bench.settings.postgres.conninfo("admin")) as connection:
        report = check_sentences(connection)
    assert report.problems == []
    assert report.sentences > 8


def admitted(patient: int, side: str, size: float) -> Wanted:
    """A stay in hospital from day 5 on, with what a nurse stated of it."""
    when = FIRST + timedelta(days=5)
    stated = {"heart_rate": {"side": side, "size": size}}
    payload = life_events.checked("admission", None, when, when, stated, "nurse")
    return wanted(patient, "life_event", T0 + 5 * DAY, "a", **payload)


async def test_what_a_nurse_states_holds_back_exactly_what_lies_inside_and_no_safety_limit(bench: Bench) -> None:
    """8 /min more from day 5 on: a rise of up to 10, one of up to 5 and a fall of up to 10 are stated, or nothing."""
    await bench.feed(changed(bench, admitted(1, "rise", 10), admitted(2, "rise", 5), admitted(3, "fall", 10)))
    for patient in (1, 2, 4, 3):
        if patient == 3:  # before whom: the plain loop that recomputes sentences follows no fall that is expected
            with psycopg.connect(bench.settings.postgres.conninfo("admin")) as connection:
                assert check_sentences(connection).problems == []
        await bench.frames(stamped_story(patient, ADMITTED, LATER))
        await bench.frames([stamped(patient, LATER * 24, [block("heart_rate", T0 + LATER * DAY, [150.0] * 60)])])
    inside, beyond, other, without = [await bench.rows(LIVED, patient) for patient in (1, 2, 3, 4)]
    assert [row[0] for row in inside] == ["tachycardia_at_rest"], "a safety limit knows no window"
    told = ["resting_heart_rate_rise", "tachycardia_at_rest"]
    assert [[row[0] for row in rows] for rows in (beyond, other, without)] == [told] * 3
    found = "SELECT rule, started_at, found_at, priority FROM alert WHERE patient_id = %s ORDER BY 1"
    assert await bench.rows(found, 2) == await bench.rows(found, 3) == await bench.rows(found, 4), "as soon as ever"
    note = " (admission to hospital on 15 Oct: a {} of up to {} /min can come from it, as stated by a nurse)"
    for rows, words in ((inside, ("rise", 10)), (beyond, ("rise", 5)), (other, ("fall", 10))):
        assert all(row[2].endswith(note.format(*words)) for row in rows)
        assert all("hospital" not in row[3] for row in rows), "the patient is not told that all is explained"
    said = {"day": "2025-10-15", "words": "admission to hospital", "side": "rise", "size": 5, "by": "nurse"}
    assert beyond[0][4] == [said]


async def test_whenever_and_in_whatever_order_they_are_written_down_the_same_comes_of_it(bench: Bench) -> None:
    """In time; one by one with restarts; after all was seen. One is put right, one withdrawn, one only said."""
    asked = [
        event(0, "a", 7, 15), event(0, "b", 3, 15), event(0, "c", 5, None), event(0, "a", 5, 13),
        event(0, "b", 3, 15, withdrawn=True),
    ]  # fmt: skip
    await bench.feed(changed(bench, *(one._replace(patient_id=1) for one in asked)))
    await bench.frames(stamped_story(1, RISEN, DAYS))
    control = changed(bench, *(one._replace(patient_id=2) for one in asked))
    Random(1).shuffle(control)
    await interleaved(bench, stamped_story(2, RISEN, DAYS), control, 1)
    await bench.frames(stamped_story(3, RISEN, DAYS))
    assert [row[1] for row in await bench.rows(LIVED, 3)] == ["active"]
    await bench.feed(changed(bench, *(one._replace(patient_id=3) for one in asked)))
    await bench.rebuild()
    in_time = await outcome(bench, 1)
    assert in_time["alerts"] == []
    assert await outcome(bench, 2) == in_time
    assert await outcome(bench, 3) == in_time
    assert [row[1] for row in await bench.rows(LIVED, 3)] == ["withdrawn"], "it stays visible"


async def test_an_event_is_written_down_once_put_right_and_taken_back(api: ServedApi, ours: ApiData) -> None:
    patient, nurse = ours.patient("p1"), ours.person()
    async with api.client(ours.token(nurse)) as client:
        answers = [await client.post(EVENTS, json=STOPPED, headers={"Idempotency-Key": "k1"}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
        first = answers[0].json()
        assert answers[1].json() == first
        assert (first["words"], first["until"]) == ("a beta blocker was stopped", "2026-12-17")
        assert first["effects"] == [
            {"metric": "heart_rate", "side": "rise", "size": 10, "unit": "/min", "grows_over_days": None,
             "until": "2026-12-17", "stated_by": None}
        ]  # fmt: skip
        own = f"{EVENTS}/{first['id']}"
        right = await client.put(own, json=STOPPED | {"day": "2026-11-18"}, headers={"If-Match": '"1"'})
        assert (right.status_code, right.headers["etag"]) == (200, '"2"'), right.text
        stale = await client.put(own, json=STOPPED, headers={"If-Match": '"1"'})
        assert problem(stale, 409, "stale_version")["version"] == 2
        back = (await client.post(f"{own}/withdraw", json={"reason": "another patient's"})).json()
        assert (back["withdrawn"], back["version"], back["note"], back["by"]["id"]) == (
            True,
            3,
            "another patient's",
            "ada",
        )
        assert [one["id"] for one in (await got(client, EVENTS))["items"]] == [first["id"]]
        history = (await got(client, "/v1/patients/p1/changes"))["items"]
        assert [(one["kind"], one["version"], one["withdrawn"], one["day"]) for one in history] == [
            ("life_event", 3, True, "2026-11-18"), ("life_event", 2, False, "2026-11-18"),
            ("life_event", 1, False, "2026-11-20"),
        ]  # fmt: skip
        problem(await client.post(f"{EVENTS}/none/withdraw", json={}), 404, "not_found")
    async with api.client(ours.token(ours.person("co", "coordinator"))) as client:
        problem(await client.get(EVENTS), 403, "role_not_allowed")
        kept = (await got(client, "/v1/patients/p1/changes"))["items"]
        assert [one["version"] for one in kept] == [3, 2, 1]
        assert not {"words", "day", "life_event", "withdrawn", "reason", "effects"} & {
            name for one in kept for name in one
        }
    sent = outbox(ours, patient)
    assert [(one.kind, one.version, one.payload["day"]) for one in sent] == [
        ("life_event", 1, "2026-11-20"), ("life_event", 2, "2026-11-18"), ("life_event", 3, "2026-11-18"),
    ]  # fmt: skip
    assert sent[1].effective_ms == sent[0].effective_ms - 2 * DAY, "put right from where either version begins"
    assert {row[:2] for row in ours.audit("patient.life_event")} == {(nurse, patient)}


async def test_what_is_stated_is_shown_to_the_team_with_its_author_and_ends_with_its_days(
    api: ServedApi, ours: ApiData
) -> None:
    """And a pregnancy's window is over where its end was written down, until that is taken back."""
    ours.patient("p1")
    stay = {"event": "admission", "day": "2026-11-20"}
    stated = stay | {"expects": {"heart_rate": {"side": "rise", "size": 6, "days": 10}}}
    async with api.client(ours.token(ours.person("nina", "nurse"))) as client:
        shown = (await client.post(EVENTS, json=stated)).json()
        heart = next(one for one in shown["effects"] if one["metric"] == "heart_rate")
        assert (heart["side"], heart["size"], heart["until"], heart["stated_by"]) == ("rise", 6, "2026-11-29", "nurse")
        assert (shown["until"], shown["by"]["id"]) == ("2026-12-03", "nina")
        plainly = (await client.put(f"{EVENTS}/{shown['id']}", json=stay)).json()
        assert [one["size"] for one in plainly["effects"]] == [None] * 6, "put right without it, nothing is stated"
        kept = (await got(client, "/v1/patients/p1/changes"))["items"]
        hearts = [next(one for one in change["effects"] if one["metric"] == "heart_rate") for change in kept]
        assert [(one["side"], one["size"], one["days"], one["stated_by"]) for one in hearts] == [
            (None, None, None, None), ("rise", 6, 10, "nurse"),
        ], "what was stated can still be looked up"  # fmt: skip
        began = (await client.post(EVENTS, json={"event": "pregnancy_began", "day": "2026-03-01"})).json()
        grows = {one["metric"]: one["grows_over_days"] for one in began["effects"]}
        assert (began["until"], grows) == ("2026-12-26", {"heart_rate": 280, "hrv_rmssd": None})
        ended = (await client.post(EVENTS, json={"event": "pregnancy_ended", "day": "2026-11-12"})).json()

        async def until() -> list[str]:
            listed = (await got(client, EVENTS))["items"]
            one = next(one for one in listed if one["id"] == began["id"])
            return [one["until"], one["effects"][0]["until"]]

        assert await until() == ["2026-11-11", "2026-11-11"]
        lost = {"event": "pregnancy_ended", "day": "2026-03-01"}
        assert (await client.put(f"{EVENTS}/{ended['id']}", json=lost)).status_code == 200
        assert await until() == [None, None], "over as soon as it began"
        page = (await client.get("/patients/p1", headers={"Accept": "text/html"})).text
        assert "over as soon as it began" in page
        assert "expected until 2026-02" not in page
        await client.post(f"{EVENTS}/{ended['id']}/withdraw", json={})
        assert await until() == ["2026-12-26", "2026-12-26"]


@pytest.mark.parametrize(("fields", "told"), [
    ({"size": "5"}, "“It may” is empty"),
    ({"side": "rise"}, "“By up to” is empty"),
    ({"days": "3"}, "“It may” is empty"),
    ({"side": "rise", "size": "1_0"}, "“By up to”: '1_0' is not allowed; allowed: a plain number, e.g. 5.5"),
    ({"side": "rise", "size": "25"}, "“By up to”: 25 is not allowed; allowed: more than 0 and at most 10 /min"),
    ({"side": "rise", "size": "5", "days": "2.5"}, "“For so many days”: '2.5' is not allowed"),
    ({"side": "rise", "size": "5", "days": "15"}, "“For so many days”: 15 is not allowed; allowed: whole days from 1 to 14"),
    ({"event": "surgery", "side": "rise", "size": "5"}, "“What is expected of the heart rate”: none with this event"),
    ({"event": "opioid"}, "“What happened”: 'opioid' is not allowed"),
    ({"event": "medication_started"}, "“Which medicine” is empty"),
    ({"side": "rise", "size": "5,5"}, "by up to 5.5 /min is expected until 2026-12-03, as stated by a nurse"),
])  # fmt: skip
async def test_the_form_takes_numbers_as_people_write_them_and_refuses_in_its_own_words(
    api: ServedApi, ours: ApiData, fields: dict[str, str], told: str
) -> None:
    ours.patient("p1")
    whole = {"event": "admission", "day": "2026-11-20", "key": "k" * 16} | fields
    async with api.client(ours.token(ours.person("nina", "nurse"))) as client:
        headers = {"hx-request": "true", "Accept": "text/html"}
        page = (await client.post("/patients/p1/life-events", data=whole, headers=headers)).text
        page += (await client.get("/patients/p1", headers={"Accept": "text/html"})).text
    assert told in unescape(page)
    assert "expects" not in page


async def test_an_event_that_cant_be_is_refused_with_what_can(api: ServedApi, ours: ApiData) -> None:
    ours.patient("p1")
    refused: list[tuple[str, dict[str, Any]]] = [
        ("event", {"event": "moved house", "medication": None}),
        ("medication", {"medication": None}),
        ("medication", {"medication": "metoprolol 50 mg"}),
        ("medication", {"event": "surgery"}),
        ("day", {"day": "20 November"}),
        ("day", {"day": "2026-02-30"}),
        ("day", {"day": "2024-11-20"}),
        ("day", {"day": "2027-11-20"}),
        ("reason", {"note": "x" * 1001}),
        ("expects.heart_rate", {"expects": {"heart_rate": {"side": "rise", "size": 5}}}),
        ("expects.heart_rate", SURGERY | {"expects": {"heart_rate": {"side": "rise", "size": 5}}}),
        ("expects", {"expects": {"spo2": {"side": "fall", "size": 5}}}),
        *(
            (f"expects.heart_rate.{name}", ADMISSION | {"expects": {"heart_rate": {"side": "rise", "size": 5} | wrong}})
            for name, wrong in (("size", {"size": 11}), ("size", {"size": -1}), ("days", {"days": 29}))
        ),
    ]
    async with api.client(ours.token(ours.person())) as client:
        for field, body in refused:
            assert problem(await client.post(EVENTS, json=STOPPED | body), 422, "invalid")["field"] == field, body
        problem(await client.post(EVENTS, json=STOPPED | {"dose": "50 mg"}), 422, "invalid")
    assert ours.connection.execute("SELECT count(*) FROM outbox WHERE organisation_id = %s", [ours.organisation]).fetchone() == (0,)  # fmt: skip
