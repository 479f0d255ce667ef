"""Consent: what it covers is seen, what it doesn't is not, by nobody, from the same instant on, in every way there is."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import httpx
import pytest

from services import teams
from services.api import events, stream
from services.api.credentials import token_hash
from services.api.scope import Origin, Person
from services.consent import DEFAULT_BASIS, PURPOSE_OF
from services.roles import ROLES
from tests.api_data import ENROLLED, NOW, ApiData, minutes
from tests.fix_api import ServedApi
from tests.integration.test_api import got, problem
from tests.integration.test_api_stream import watching

pytestmark = pytest.mark.stack

CONSENTS = "/v1/patients/p1/consents"


async def said(client: httpx.AsyncClient, status: int = 200, **body: Any) -> dict[str, Any]:
    """Write a decision down and return the answer."""
    answer = await client.post(CONSENTS, json={"purpose": "care", "form": "said on the telephone"} | body)
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.json()
    return document


def watched(data: ApiData, key: str = "p1") -> int:
    """A patient with a heart rate, steps, and an alert about each."""
    patient = data.patient(key)
    device = data.device(f"{data.key}-{key}", patient)
    for metric in ("heart_rate", "steps"):
        data.readings(patient, device, metric, *minutes(NOW - timedelta(hours=3), 120))
        data.state(patient, metric, "normal")
        data.alert(patient, evidence={"metric": metric})
    return patient


async def alerts_of(client: httpx.AsyncClient) -> list[str]:
    return sorted(item["metric"] for item in (await got(client, "/v1/alerts"))["items"])


# ---------------------------------------------------------------------------------------------- at once, in every way
async def test_care_that_rests_on_consent_ends_with_it_in_every_list_and_goes_on_when_it_is_given_again(
    api: ServedApi, ours: ApiData
) -> None:
    patient, other = watched(ours), watched(ours, "p2")
    for number in (patient, other):
        ours.consent(number, "care", at=ENROLLED, document=ours.document(f"words-{number}"))
    ours.document()
    ours.rests(care="consent")
    async with api.client(ours.token(nurse := ours.person())) as ada:
        before = await got(ada, "/v1/patients")
        assert ([one["id"] for one in before["items"]], before["withheld_by_consent"]) == (["p1", "p2"], 0)
        alert = (await got(ada, "/v1/alerts?patient=p1"))["items"][0]["id"]
        decision = await said(ada, decision="withdrawn", decided_by="Paul", reason="moved away")
        for path in ("/v1/patients", "/v1/worklist", "/v1/alerts"):
            page = await got(ada, path)
            shown = {one.get("patient", one)["id"] for one in page["items"]}
            assert (shown, page["withheld_by_consent"]) == ({"p2"}, 1), path
        for path in (
            "",
            "/trends?metric=heart_rate",
            "/changes",
            "/profile",
            "/monitoring",
            "/suppressed",
            "/enrolments",
        ):
            refused = problem(await ada.get(f"/v1/patients/p1{path}"), 403, "consent_withheld")
            assert (refused["purpose"], refused["since"]) == ("care", "2026-11-22T19:04:05.000Z"), path
            assert refused["consent"] == decision["id"]
        problem(await ada.get(f"/v1/alerts/{alert}"), 403, "consent_withheld")
        problem(await ada.post(f"/v1/alerts/{alert}/acknowledge"), 403, "consent_withheld")
        shown = await got(ada, CONSENTS)  # what else could be given again?
        assert {one["state"] for one in shown["standing"][0]["classes"]} == {"withdrawn"}
        state = monitoring(ours, patient)
        assert (state["state"], state["consent"]) == ("paused", True)

        await said(ada, decision="given", document="words", document_version=1)
        page = await got(ada, "/v1/patients/p1")
        assert page["monitoring"]["state"] == "active"
        assert page["consent"] == {"withheld": [], "note": "Consent to care: given on 22 Nov 2026."}
    refusals = [row for row in ours.audit("patient.read", "refused") if row[0] == nurse]
    assert [(row[1], row[2]["code"], row[2]["consent"]) for row in refusals] == [
        (patient, "consent_withheld", int(decision["id"]))
    ]
    async with api.client(ours.token(ours.person("boss", "administrator"))) as boss:
        told = [one["sentence"] for one in (await got(boss, "/v1/patients/p1/accesses"))["items"]]
    assert (
        "Ada Nurse (nurse) was refused, because you did not agree to it for your care: "
        "it would have been “opened your page”." in told
    )


def monitoring(data: ApiData, patient: int) -> dict[str, Any]:
    row = data.connection.execute(
        """SELECT payload FROM patient_change WHERE patient_id = %s AND kind = 'monitoring'
           ORDER BY effective_at DESC, id DESC LIMIT 1""",
        [patient],
    ).fetchone()
    return row[0] if row else {"state": "active"}


async def test_care_that_rests_on_something_else_goes_on_and_the_team_is_told(api: ServedApi, ours: ApiData) -> None:
    patient = watched(ours)
    async with api.client(ours.token(ours.person())) as ada:
        assert (await got(ada, "/v1/patients/p1"))["consent"] == {"withheld": [], "note": None}
        await said(ada, decision="withdrawn", decided_by="Paul")
        page = await got(ada, "/v1/patients/p1")
        note = "Consent to care: withdrawn on 22 Nov 2026; care goes on, because it rests on another basis."
        assert (page["consent"], page["monitoring"]["state"]) == ({"withheld": [], "note": note}, "active")
        assert await alerts_of(ada) == ["heart_rate", "steps"]
    async with api.client() as browser:
        browser.cookies.set("keepwell_session", ours.token(ours.person("eve"), kind="session"))
        assert note in (await browser.get("/patients/p1")).text
    assert monitoring(ours, patient) == {"state": "active"}


async def test_what_only_some_classes_withhold_is_missing_alone(api: ServedApi, ours: ApiData) -> None:
    patient = watched(ours)
    technical = ours.alert(patient, kind="technical", rule="device_silent", evidence={})
    unclear = ours.alert(patient, rule="something", evidence={})
    ours.rests(care="consent")
    ours.consent(patient, "care", at=ENROLLED)
    async with api.client(ours.token(ours.person())) as ada:
        await said(ada, decision="withdrawn", data_classes=["activity", "sleep"])
        page = await got(ada, "/v1/patients/p1")
        assert [one["metric"]["key"] for one in page["metrics"]] == ["heart_rate"]
        assert page["consent"]["note"].endswith("Withheld from you (care): activity, sleep.")
        assert (await got(ada, "/v1/patients/p1/trends?metric=heart_rate"))["readings"] > 0
        refused = problem(await ada.get("/v1/patients/p1/trends?metric=steps"), 403, "consent_withheld")
        assert refused["data_classes"] == ["activity", "sleep"]
        listed = {item["id"] for item in (await got(ada, "/v1/alerts"))["items"]}
        assert str(technical) in listed  # that a device is silent is no measurement of any class
        assert str(unclear) not in listed  # whatever it is about: closed
        assert len(listed) == 2
        assert monitoring(ours, patient) == {"state": "active"}


@pytest.mark.parametrize("role", [role for role in ROLES if role in PURPOSE_OF and role != "researcher"])
async def test_each_role_sees_a_patient_for_its_own_purpose_and_is_stopped_by_that_alone(
    api: ServedApi, ours: ApiData, role: str
) -> None:
    patient = watched(ours)
    ours.consent(patient, "genomics", at=ENROLLED)
    ours.rests(care="consent")
    ours.consent(patient, "care", at=ENROLLED)
    person = ours.person("x", role)
    if role == "proxy":
        teams.grant_proxy(ours.connection, person, patient, ["alerts"], ENROLLED, NOW + timedelta(days=9))
    async with api.client(ours.token(person)) as client:
        for purpose in DEFAULT_BASIS:
            if purpose != PURPOSE_OF[role]:
                ours.consent(patient, purpose, "refused")
        await got(client, "/v1/patients/p1")
        ours.consent(patient, PURPOSE_OF[role], "withdrawn")
        refused = problem(await client.get("/v1/patients/p1"), 403, "consent_withheld")
        assert refused["purpose"] == PURPOSE_OF[role]
    async with api.client(ours.token(ours.person("far", team=None))) as client:
        problem(await client.get("/v1/patients/p1"), 404, "not_found")
    account = ours.person("paul", "patient")
    teams.link_patient(ours.connection, account, patient)
    async with api.client(ours.token(account)) as client:  # one's own is always there
        assert (await got(client, "/v1/patients"))["items"][0]["id"] == "p1"
        assert await alerts_of(client) == ["heart_rate", "steps"]


async def test_an_emergency_goes_before_a_consent_to_care_and_says_so(api: ServedApi, ours: ApiData) -> None:
    patient = watched(ours)
    ours.rests(care="consent")
    decision = ours.consent(patient, "care", "withdrawn")
    async with api.client() as browser:
        browser.cookies.set("keepwell_session", ours.token(ours.person("eve"), kind="session"))
        closed = await browser.get("/patients/p1")
        assert closed.status_code == 403
        assert "If it is an emergency" in closed.text
        assert 'action="/patients/p1/break-glass"' in closed.text
        assert "Patient p1" not in closed.text
        assert "1 patient is not shown" in (await browser.get("/")).text
    async with api.client(ours.token(ours.person())) as ada:
        problem(await ada.get("/v1/patients/p1"), 403, "consent_withheld")
        opened = await ada.post("/v1/patients/p1/break-glass", json={"reason": "found unconscious at home"})
        assert opened.status_code == 200, opened.text
        assert await alerts_of(ada) == ["heart_rate", "steps"]
        assert (await got(ada, "/v1/worklist"))["withheld_by_consent"] == 0
    ((_, whose, detail),) = ours.audit("break_glass.open")
    assert (whose, detail["against_consent"]) == (patient, decision)


@pytest.mark.parametrize("classes", [None, ["vitals"]])
async def test_a_withdrawal_reaches_an_open_stream_and_the_next_query_within_a_second(
    api: ServedApi, ours: ApiData, classes: list[str] | None
) -> None:
    patient, other = watched(ours), watched(ours, "p2")
    ours.rests(care="consent")
    for number in (patient, other):
        ours.consent(number, "care", at=ENROLLED)
    async with (
        api.client(ours.token(ours.person("writer", "coordinator"))) as writer,
        api.client(token := ours.token(ours.person())) as ada,
        watching(api, token) as watch,
    ):
        await asyncio.sleep(0.2)
        first = str(ours.alert(patient, evidence={"metric": "heart_rate"}))
        await watch.wait_for(1)
        await said(writer, decision="withdrawn", data_classes=classes)
        ours.alert(patient, evidence={"metric": "heart_rate"})
        await got(ada, "/v1/patients/p2")
        answer = await ada.get("/v1/patients/p1/trends?metric=heart_rate")
        problem(answer, 403, "consent_withheld")  # the very next query: no need to look at a watch
        last = str(ours.alert(other, evidence={"metric": "heart_rate"}))
        await watch.wait_for(2)
        assert watch.alerts == [first, last]
        await asyncio.sleep(1.0)
        assert watch.alerts == [first, last]


async def test_what_already_waited_for_a_reader_is_not_sent_after_a_withdrawal(api: ServedApi, ours: ApiData) -> None:
    hub: stream.AlertHub = api.app.state.hub
    patient, other = watched(ours), watched(ours, "p2")
    ours.rests(care="consent")
    for number in (patient, other):
        ours.consent(number, "care", at=ENROLLED)
    nurse = ours.person()
    person, token = Person(nurse, ours.organisation, "ada", "Ada", "nurse"), ours.token(nurse)
    start = events.Cursor(int(ours.event(ours.alert(other), other, "worsened").split("-")[0]), 2**62)
    reading = await hub.watch(person, token_hash(token), Origin("", "", ""), start)
    assert (await anext(reading)).startswith(b":")
    ours.alert(patient, evidence={"metric": "heart_rate"})
    assert b"event: raised" in await asyncio.wait_for(anext(reading), 5)
    (watcher,) = hub._watchers[ours.organisation]
    ours.alert(patient, evidence={"metric": "heart_rate"})
    kept = str(ours.alert(other, evidence={"metric": "heart_rate"}))
    while len(watcher.pending) < 2:  # the reader takes nothing meanwhile
        await asyncio.sleep(0.01)
    ours.consent(patient, "care", "withdrawn")
    ours.connection.execute("SELECT pg_notify('keepwell_alert', '')")
    until = time.monotonic() + 3  # it takes half a second, and what a busy machine adds
    while len(watcher.pending) > 1:
        assert time.monotonic() < until, "still waiting to be sent after the withdrawal"
        await asyncio.sleep(0.01)
    assert kept.encode() in await asyncio.wait_for(anext(reading), 5)
    await reading.aclose()  # type: ignore[attr-defined]
