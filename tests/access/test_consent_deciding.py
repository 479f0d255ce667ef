"""Who decides, from which age on, on which document, and what the organisation relies on."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.types.json import Jsonb

from ingest.clock import to_ms
from services import teams
from services.consent import DEFAULT_BASIS
from tests.access.test_consent import CONSENTS, monitoring, said, watched
from tests.api_data import ENROLLED, NOW, ApiData
from tests.fix_api import ServedApi
from tests.integration.test_api import got, problem

pytestmark = pytest.mark.stack


async def test_who_may_decide_and_who_may_write_it_down(api: ServedApi, ours: ApiData) -> None:
    patient, team = watched(ours), ours.another_team()
    ours.document("study", "research")
    account, proxy = ours.person("paul", "patient", "Paul"), ours.person("mia", "proxy")
    teams.link_patient(ours.connection, account, patient)
    teams.grant_proxy(ours.connection, proxy, patient, ["alerts"], ENROLLED, NOW + timedelta(days=9))
    async with api.client(ours.token(proxy)) as mia:
        problem(await mia.post(CONSENTS, json={"purpose": "family", "decision": "given"}), 403, "role_not_allowed")
    async with api.client(ours.token(ours.person("far", team=team))) as far:
        problem(
            await far.post(CONSENTS, json={"purpose": "care", "decision": "withdrawn", "form": "x"}), 404, "not_found"
        )
        problem(await far.get(CONSENTS), 404, "not_found")
        emergency = {"reason": "found unconscious at home"}
        assert (await far.post("/v1/patients/p1/break-glass", json=emergency)).status_code == 200
        assert (await got(far, CONSENTS))["history"] == []  # opens reading, and nothing that lasts
        problem(
            await far.post(CONSENTS, json={"purpose": "care", "decision": "withdrawn", "form": "x"}),
            403, "role_not_allowed",
        )  # fmt: skip
    research: dict[str, Any] = {"purpose": "research", "decision": "given", "document": "study"}
    async with api.client(ours.token(account)) as paul:
        mine = await said(paul, **research, relation="guardian", decided_by="Somebody", form="")
        assert (mine["relation"], mine["decided_by"], mine["form"]) == ("self", "Paul", "in the patient's own account")
        assert (await got(paul, CONSENTS))["history"][0] == mine
        again = await paul.post(
            CONSENTS, json={"purpose": "research", "decision": "withdrawn"}, headers={"Idempotency-Key": "k"}
        )
        once = await paul.post(
            CONSENTS, json={"purpose": "research", "decision": "withdrawn"}, headers={"Idempotency-Key": "k"}
        )
        assert again.json() == once.json()
        assert len((await got(paul, CONSENTS))["history"]) == 2
    async with api.client(ours.token(ours.person("co", "coordinator"))) as co:
        assert (await said(co, 422, **research, relation="guardian", decided_by="G"))["field"] == "relation"
        assert (await said(co, 422, **research | {"document": "none"}))["field"] == "document"
        assert (await said(co, 422, **research | {"purpose": "genomics"}))["field"] == "document"
        assert (await said(co, 422, **research, effective_at="2026-11-22T18:00:00Z"))["field"] == "effective_at"
        profile(ours, patient, birth_date="2011-03-01")
        assert (await said(co, 422, **research, relation="self"))["field"] == "relation"
        given_by = await said(co, **research, relation="guardian", decided_by="Grete Muster")
        shown = await got(co, CONSENTS)
        assert (shown["decides"], shown["age_known"], shown["consent_age"]) == ("guardian", True, 16)
        states = {one["purpose"]: one for one in shown["standing"]}["research"]["classes"]
        assert {(one["state"], one["ends_at"]) for one in states} == {("given", "2027-03-01T00:00:00.000Z")}
        assert given_by["by"]["id"] == "co"
        api.credential_clock.set(to_ms(datetime(2027, 3, 1, tzinfo=UTC)))
        try:
            after = {one["purpose"]: one for one in (await got(co, CONSENTS))["standing"]}["research"]["classes"]
            assert {(one["state"], one["withheld"]) for one in after} == {("ended", True)}
            assert "old enough" in after[0]["ended_because"]
        finally:
            api.credential_clock.set(to_ms(NOW))


async def test_a_proxy_reads_no_decision_also_not_in_a_copy(api: ServedApi, ours: ApiData) -> None:
    patient, proxy = watched(ours), ours.person("mia", "proxy")
    ours.consent(patient, "research", "refused")
    teams.grant_proxy(ours.connection, proxy, patient, ["alerts"], ENROLLED, NOW + timedelta(days=9))
    async with api.client(ours.token(proxy)) as mia:
        copy = await mia.get("/v1/patients/p1/export?format=csv")
        assert copy.status_code == 200
    with zipfile.ZipFile(io.BytesIO(copy.content)) as files:
        assert files.read("consents.csv").count(b"\n") == 1  # its heading


async def test_who_does_not_see_the_monitoring_can_not_end_or_begin_it(api: ServedApi, ours: ApiData) -> None:
    patient = watched(ours)
    ours.document()
    ours.rests(care="consent")
    ours.consent(patient, "care", at=ENROLLED)
    ours.consent(patient, "programme", "withdrawn", at=ENROLLED)
    async with api.client(ours.token(ours.person("co", "coordinator"))) as co:
        for decision in ({"decision": "withdrawn"}, {"decision": "given", "document": "words"}):
            if decision["decision"] == "given":
                ours.consent(patient, "care", "withdrawn")
            refused = await said(co, 422, **decision)
            assert refused["field"] == "purpose"
            assert "a clinician, a nurse or the patient" in refused["allowed"]


def profile(data: ApiData, patient: int, **facts: str) -> None:
    data.connection.execute(
        """INSERT INTO patient_change (organisation_id, patient_id, kind, version, effective_at, payload, reason, recorded_at)
           SELECT %s, %s, 'profile', 1 + count(*), %s, %s, '', %s FROM patient_change
           WHERE patient_id = %s AND kind = 'profile'""",
        [data.organisation, patient, NOW, Jsonb(facts), NOW, patient],
    )


async def test_a_patient_ends_their_own_care_and_still_sees_all_of_it(api: ServedApi, ours: ApiData) -> None:
    patient = watched(ours)
    ours.document()
    ours.rests(care="consent")
    ours.consent(patient, "care", at=ENROLLED)
    account = ours.person("paul", "patient", "Paul")
    teams.link_patient(ours.connection, account, patient)
    async with api.client(ours.token(account)) as paul, api.client(ours.token(ours.person())) as ada:
        await said(paul, decision="withdrawn", form="")
        assert monitoring(ours, patient)["state"] == "paused"
        assert (await got(paul, "/v1/patients/p1/trends?metric=heart_rate"))["readings"] > 0
        problem(await ada.get("/v1/patients/p1"), 403, "consent_withheld")
        await said(paul, decision="given", document="words", data_classes=["vitals"], form="")
        assert monitoring(ours, patient)["state"] == "active"
        assert (await got(ada, "/v1/patients/p1"))["consent"]["withheld"] == ["activity", "sleep", "waveforms"]
        later = await said(ada, decision="withdrawn", effective_at="2026-11-23T00:00:00Z")
        assert monitoring(ours, patient)["state"] == "paused"  # from tomorrow on
        await got(ada, "/v1/patients/p1")
        assert later["effective_at"] == "2026-11-23T00:00:00.000Z"


async def test_a_document_is_never_changed_and_a_new_one_asks_anew_only_where_it_says_so(
    api: ServedApi, ours: ApiData
) -> None:
    patient = watched(ours)
    words = {"purpose": "research", "language": "en", "title": "Your data", "text": "We ask you …"}
    path = "/v1/consent/documents/study"
    async with (
        api.client(ours.token(ours.person("boss", "administrator"))) as boss,
        api.client(ours.token(ours.person())) as ada,
    ):
        problem(await ada.post(path, json=words), 403, "role_not_allowed")
        first = (await boss.post(path, json=words)).json()
        assert (first["version"], len(first["digest"])) == (1, 64)
        assert (await boss.post(path, json=words | {"language": "de", "version": 1})).status_code == 200
        assert problem(await boss.post(path, json=words | {"version": 1}), 422, "invalid")["field"] == "version"
        assert problem(await boss.post(path, json=words | {"purpose": "care"}), 422, "invalid")["field"] == "purpose"
        unread = await said(ada, 422, purpose="research", decision="given", document="study")
        assert (unread["field"], unread["allowed"]) == ("language", "that of the words that were read: de, en")
        await said(ada, purpose="research", decision="given", document="study", language="en")
        assert (await boss.post(path, json=words)).json()["version"] == 2
        assert {one["state"] for one in await research_of(ada)} == {"given"}
        assert (await boss.post(path, json=words | {"requires_renewal": True})).json()["version"] == 3
        assert {(one["state"], one["withheld"]) for one in await research_of(ada)} == {("ended", True)}
        old = await said(ada, 422, purpose="research", decision="given", document="study", document_version=2)
        assert old["field"] == "document_version"
        listed = (await got(ada, "/v1/consent/documents"))["items"]
        assert [(one["version"], one["language"]) for one in listed] == [(3, "en"), (2, "en"), (1, "de"), (1, "en")]
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        ours.connection.execute("UPDATE consent_document SET text = 'other'")
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        ours.connection.execute("DELETE FROM consent WHERE patient_id = %s", [patient])


async def research_of(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    shown = (await got(client, CONSENTS))["standing"]
    found: list[dict[str, Any]] = next(one["classes"] for one in shown if one["purpose"] == "research")
    return found


async def test_the_basis_is_an_administrators_to_change_and_holds_at_once(api: ServedApi, ours: ApiData) -> None:
    watched(ours)
    change = {"basis": {"care": "consent"}, "reason": "decided by the board"}
    async with (
        api.client(ours.token(ours.person("boss", "administrator"))) as boss,
        api.client(ours.token(ours.person())) as ada,
    ):
        problem(await ada.put("/v1/consent/basis", json=change), 403, "role_not_allowed")
        assert (await got(ada, "/v1/consent/basis"))["basis"] == dict(DEFAULT_BASIS)
        done = await boss.put("/v1/consent/basis", json=change, headers={"If-Match": '"0"'})
        assert (done.json()["version"], done.json()["basis"]["research"]) == (1, "consent")
        problem(await boss.put("/v1/consent/basis", json=change, headers={"If-Match": '"0"'}), 409, "stale_version")
        refused = problem(await ada.get("/v1/patients/p1"), 403, "consent_withheld")
        assert (refused["since"], refused["consent"]) == (None, None)
        wrong = {"basis": {"care": "treatment"}, "reason": "x"}
        assert problem(await boss.put("/v1/consent/basis", json=wrong), 422, "invalid")["field"] == "basis.care"
    ((_, _, detail),) = ours.audit("consent.rules")
    assert detail["basis"] == {"care": "consent"}


async def test_an_enrolment_takes_the_consent_that_is_recorded(api: ServedApi, ours: ApiData) -> None:
    patient = watched(ours)
    ours.connection.execute(
        "INSERT INTO programme (organisation_id, key, state, version, document) VALUES (%s, 'heart', 'active', 1, %s)",
        [ours.organisation, Jsonb({"name": "Heart"})],
    )
    path = "/v1/patients/p1/enrolments/heart"
    async with api.client(ours.token(ours.person())) as ada:
        assert (await ada.put(path, json={"state": "eligible"})).status_code == 200
        assert problem(await ada.put(path, json={"state": "consented"}), 422, "invalid")["field"] == "facts"
        number = ours.consent(patient, "programme")
        other = {"state": "consented", "facts": {"consent": "0"}}
        assert problem(await ada.put(path, json=other), 422, "invalid")["field"] == "facts.consent"
        answer = await ada.put(path, json={"state": "consented"})
        assert answer.json()["history"][0]["facts"] == {"consent": str(number)}
