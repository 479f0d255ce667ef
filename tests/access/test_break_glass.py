"""Break-glass: a reason, a bounded time, everybody concerned told, and a review by somebody else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ingest.clock import to_ms
from tests.api_data import NOW, ApiData
from tests.fix_api import ServedApi
from tests.integration.test_api import got, problem

pytestmark = pytest.mark.stack

WHY = {"reason": "found unconscious at home, needs history"}
PATH = "/v1/patients/p1/break-glass"


async def test_it_opens_one_patient_for_a_while_and_tells_the_team(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1", team=(team := ours.another_team()))
    alert = str(ours.alert(patient))
    ours.patient("p2", team=team)
    outsider, clinician = ours.person("out"), ours.person("cleo", "clinician", "Cleo Clinician", team=team)
    administrator = ours.person("root", "administrator")
    async with api.client(ours.token(outsider)) as client:
        problem(await client.get("/v1/patients/p1"), 404, "not_found")
        opened = await client.post(PATH, json=WHY, headers={"Idempotency-Key": "k"})
        assert opened.status_code == 200, opened.text
        record: dict[str, Any] = opened.json()
        assert (record["by"]["id"], record["open"], record["review"]) == ("out", True, None)
        assert record["until"] == "2026-11-22T23:04:05.000Z"
        assert (await client.post(PATH, json=WHY, headers={"Idempotency-Key": "k"})).json() == record
        problem(await client.post(PATH, json=WHY), 409, "already_visible")
        page = await got(client, "/v1/patients/p1")
        assert [one["id"] for one in page["break_glass"]] == [record["id"]]
        assert (await got(client, f"/v1/alerts/{alert}"))["id"] == alert
        problem(await client.get("/v1/patients/p2"), 404, "not_found")
        api.credential_clock.set(to_ms(NOW + timedelta(hours=4)))
        try:
            problem(await client.get("/v1/patients/p1"), 404, "not_found")
        finally:
            api.credential_clock.set(to_ms(NOW))
    for person in (clinician, administrator):
        async with api.client(ours.token(person)) as client:
            assert [one["id"] for one in (await got(client, "/v1/break-glass"))["items"]] == [record["id"]]
    async with api.client(ours.token(ours.person("far"))) as client:
        assert (await got(client, "/v1/break-glass"))["items"] == []
    assert [(person_id, patient_id) for person_id, patient_id, _ in ours.audit("break_glass.open")][0] == (
        outsider,
        patient,
    )
    query = (
        "SELECT DISTINCT purpose, reason FROM access_audit WHERE organisation_id = %s AND action = 'break_glass.open'"
    )
    assert ("break_glass", WHY["reason"]) in ours.connection.execute(query, [ours.organisation]).fetchall()


@pytest.mark.parametrize("reason", ["", "   ", "emergency", "a b c d", "help help help", "12 34 56", "x" * 1001])
async def test_it_takes_a_reason_in_words(api: ServedApi, ours: ApiData, reason: str) -> None:
    ours.patient("p1", team=ours.another_team())
    async with api.client(ours.token(ours.person())) as client:
        refused = problem(await client.post(PATH, json={"reason": reason}), 422, "invalid")
        assert refused["field"] == "reason"
        problem(await client.get("/v1/patients/p1"), 404, "not_found")


async def test_nobody_reviews_their_own_and_what_was_not_justified_ends(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1", team=(team := ours.another_team()))
    outsider, other = ours.person("out", "clinician"), ours.person("out2", "clinician")
    member = ours.person("cleo", "clinician", "Cleo Clinician", team=team)
    async with api.client(ours.token(outsider)) as client, api.client(ours.token(other)) as second:
        number = (await client.post(PATH, json=WHY)).json()["id"]
        path = f"/v1/break-glass/{number}/review"
        own = problem(await client.post(path, json={"verdict": "justified"}), 403, "not_yours_to_review")
        assert "nobody reviews their own" in own["detail"]
        problem(await second.post(path, json={"verdict": "justified"}), 404, "not_found")
        assert (await second.post(PATH, json=WHY)).status_code == 200
        problem(await second.post(path, json={"verdict": "justified"}), 403, "not_yours_to_review")  # not of the team
        async with api.client(ours.token(member)) as reviewer:
            problem(await reviewer.post(path, json={"verdict": "fine"}), 422, "invalid")
            problem(await reviewer.post(path, json={"verdict": "not_justified"}), 422, "invalid")
            said = {"verdict": "not_justified", "note": "was never on call that day"}
            done = await reviewer.post(path, json=said)
            assert done.status_code == 200, done.text
            assert done.json()["review"]["by"]["id"] == "cleo"
            assert done.json()["open"] is False
            problem(await reviewer.post(path, json={"verdict": "justified"}), 409, "already_reviewed")
            order = [
                (one["id"] == number, one["review"] is None)
                for one in (await got(reviewer, "/v1/break-glass"))["items"]
            ]
            assert order == [(False, True), (True, False)]  # unreviewed first
        problem(await client.get("/v1/patients/p1"), 404, "not_found")
    refused = [(person, detail["code"]) for person, _, detail in ours.audit("break_glass.review", "refused")]
    assert refused[:3] == [(outsider, "not_yours_to_review"), (other, "not_found"), (other, "not_yours_to_review")]
    assert [row[:2] for row in ours.audit("break_glass.review")] == [(member, patient)]


async def test_the_screens_offer_it_where_a_patient_does_not_show(api: ServedApi, ours: ApiData) -> None:
    ours.patient("p1", "Paul One", team=(team := ours.another_team()))
    same = {"Sec-Fetch-Site": "same-origin"}
    async with api.client() as client:
        client.cookies.set("keepwell_session", ours.token(ours.person("out", name="Otto Out"), kind="session"))
        closed, nobody = await client.get("/patients/p1"), await client.get("/patients/p9")
        for page, key in ((closed, "p1"), (nobody, "p9")):  # whether there is such a patient is not said
            assert page.status_code == 404
            assert f'action="/patients/{key}/break-glass"' in page.text
        assert "Paul One" not in closed.text
        form = {"reason": "hm", "key": "k1"}
        vague = await client.post("/patients/p1/break-glass", data=form, headers=same)
        assert vague.status_code == 422
        assert "Not opened" in vague.text
        assert (
            await client.post("/patients/p9/break-glass", data=WHY | {"key": "k0"}, headers=same)
        ).status_code == 404
        opened = await client.post("/patients/p1/break-glass", data=WHY | {"key": "k2"}, headers=same)
        assert opened.status_code == 303
        page = await client.get("/patients/p1")
        assert "Paul One" in page.text
        assert "not reviewed yet" in page.text
        assert "Not justified" not in page.text  # who opened it is not asked to judge it
    async with api.client() as client:
        client.cookies.set("keepwell_session", ours.token(ours.person("co", "coordinator", team=team), kind="session"))
        assert "Otto Out" in (await client.get("/patients/p1")).text
        assert (await client.get("/")).status_code == 200
        assert "break-glass" not in (await client.get("/patients/p9")).text
    async with api.client() as client:
        client.cookies.set("keepwell_session", ours.token(ours.person("cl", "clinician", team=team), kind="session"))
        page = await client.get("/patients/p1")
        number = page.text.split('action="/break-glass/')[1].split("/")[0]
        answer = await client.post(
            f"/break-glass/{number}/review", data={"patient": "p1", "verdict": "justified", "key": "k"}, headers=same
        )
        assert answer.status_code == 303
        assert "justified, says" in (await client.get("/patients/p1")).text


@pytest.mark.parametrize("role", ["data_specialist", "genetic_counsellor", "administrator", "pharmacist", "patient"])
async def test_the_patient_page_shows_a_role_no_more_than_it_may_see(api: ServedApi, ours: ApiData, role: str) -> None:
    patient = ours.patient("p1", "Paul One")
    ours.state(patient, "heart_rate", "normal", value=64.125)
    ours.alert(patient, sentence="sentence for clinicians")
    ours.consent(patient, "genomics")
    person = ours.person("x", role)
    if role == "patient":
        ours.connection.execute("UPDATE person SET patient_id = %s WHERE id = %s", [patient, person])
    async with api.client() as client:
        client.cookies.set("keepwell_session", ours.token(person, kind="session"))
        page = await client.get("/patients/p1")
    assert page.status_code == 200, page.text
    assert ("sentence for clinicians" in page.text) == (role == "pharmacist")
    assert ("Heart rate" in page.text) == (role in ("pharmacist", "data_specialist", "patient"))
    assert ("Paul One" in page.text) == (role != "data_specialist")
    assert ("No open alert" in page.text) is False
