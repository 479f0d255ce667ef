"""Consent: what it covers is seen, what it doesn't is not, by nobody, from the same instant on, in every way there is."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from ingest.catalogue import catalogue
from ingest.clock import to_ms
from services import teams
from services.api import events, stream
from services.api.access import Origin, Person, token_hash
from services.consent import CLASSES, DEFAULT_BASIS, PURPOSE_OF, Decision, minor_until, standing, withheld
from services.roles import ROLES
from services.settings import Settings
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
        for path in ("", "/trends?metric=heart_rate", "/changes", "/profile", "/monitoring", "/suppressed", "/enrolments"):
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
    async with api.client(ours.token(ours.person())) as ada:
        problem(await ada.get("/v1/patients/p1"), 403, "consent_withheld")
        opened = await ada.post("/v1/patients/p1/break-glass", json={"reason": "found unconscious at home"})
        assert opened.status_code == 200, opened.text
        assert await alerts_of(ada) == ["heart_rate", "steps"]
        assert (await got(ada, "/v1/worklist"))["withheld_by_consent"] == 0
    ((_, whose, detail),) = ours.audit("break_glass.open")
    assert (whose, detail["against_consent"]) == (patient, decision)


# ---------------------------------------------------------------------------------------------------------- the stream
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
        began = time.monotonic()
        await said(writer, decision="withdrawn", data_classes=classes)
        ours.alert(patient, evidence={"metric": "heart_rate"})
        await got(ada, "/v1/patients/p2")
        answer = await ada.get("/v1/patients/p1/trends?metric=heart_rate")
        problem(answer, 403, "consent_withheld")
        assert time.monotonic() - began < 1
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
    until = time.monotonic() + 0.9
    while len(watcher.pending) > 1:
        assert time.monotonic() < until, "still waiting to be sent a second after the withdrawal"
        await asyncio.sleep(0.01)
    assert kept.encode() in await asyncio.wait_for(anext(reading), 5)
    await reading.aclose()  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------- who decides, and how
async def test_who_may_decide_and_who_may_write_it_down(api: ServedApi, ours: ApiData) -> None:
    patient, team = watched(ours), ours.another_team()
    ours.document("study", "research")
    account, proxy = ours.person("paul", "patient", "Paul"), ours.person("mia", "proxy")
    teams.link_patient(ours.connection, account, patient)
    teams.grant_proxy(ours.connection, proxy, patient, ["alerts"], ENROLLED, NOW + timedelta(days=9))
    async with api.client(ours.token(proxy)) as mia:
        problem(await mia.post(CONSENTS, json={"purpose": "family", "decision": "given"}), 403, "role_not_allowed")
    async with api.client(ours.token(ours.person("far", team=team))) as far:
        problem(await far.post(CONSENTS, json={"purpose": "care", "decision": "withdrawn", "form": "x"}), 404, "not_found")
        problem(await far.get(CONSENTS), 404, "not_found")
    research: dict[str, Any] = {"purpose": "research", "decision": "given", "document": "study"}
    async with api.client(ours.token(account)) as paul:
        mine = await said(paul, **research, relation="guardian", decided_by="Somebody", form="")
        assert (mine["relation"], mine["decided_by"], mine["form"]) == ("self", "Paul", "in the patient's own account")
        assert (await got(paul, CONSENTS))["history"][0] == mine
        again = await paul.post(CONSENTS, json={"purpose": "research", "decision": "withdrawn"}, headers={"Idempotency-Key": "k"})
        once = await paul.post(CONSENTS, json={"purpose": "research", "decision": "withdrawn"}, headers={"Idempotency-Key": "k"})
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


def profile(data: ApiData, patient: int, **facts: str) -> None:
    data.connection.execute(
        """INSERT INTO patient_change (organisation_id, patient_id, kind, version, effective_at, payload, reason, recorded_at)
           SELECT %s, %s, 'profile', 1 + count(*), %s, %s, '', %s FROM patient_change
           WHERE patient_id = %s AND kind = 'profile'""",
        [data.organisation, patient, NOW, Jsonb(facts), NOW, patient],
    )


async def test_a_document_is_never_changed_and_a_new_one_asks_anew_only_where_it_says_so(
    api: ServedApi, ours: ApiData
) -> None:
    patient = watched(ours)
    words = {"purpose": "research", "language": "en", "title": "Your data", "text": "We ask you …"}
    path = "/v1/consent/documents/study"
    async with api.client(ours.token(ours.person("boss", "administrator"))) as boss, api.client(ours.token(ours.person())) as ada:
        problem(await ada.post(path, json=words), 403, "role_not_allowed")
        first = (await boss.post(path, json=words)).json()
        assert (first["version"], len(first["digest"])) == (1, 64)
        assert (await boss.post(path, json=words | {"language": "de", "version": 1})).status_code == 200
        assert problem(await boss.post(path, json=words | {"version": 1}), 422, "invalid")["field"] == "version"
        assert problem(await boss.post(path, json=words | {"purpose": "care"}), 422, "invalid")["field"] == "purpose"
        await said(ada, purpose="research", decision="given", document="study")
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
    async with api.client(ours.token(ours.person("boss", "administrator"))) as boss, api.client(ours.token(ours.person())) as ada:
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


# ------------------------------------------------------------------------------------------------------ underneath, in SQL
def test_in_sql_each_relation_leaves_out_what_is_withheld(ours: ApiData, migrated: Settings) -> None:
    patient = watched(ours)
    ours.band(patient, "steps", "rest", to_ms(NOW) - 7_200_000, 62, 4)
    ours.connection.execute(
        "INSERT INTO suppressed_finding VALUES (%s, %s, 'device_silent', %s, %s, 'medium', 'paused', 'x', %s)",
        [ours.organisation, patient, NOW, NOW, NOW],
    )
    ours.rests(care="consent")
    ours.consent(patient, "care", at=ENROLLED)
    nurse, steps = ours.person(), catalogue()["steps"].id
    tables = ("reading_block_view", "rollup_view", "metric_state")
    with psycopg.connect(migrated.postgres.conninfo("api"), autocommit=True) as sql:
        ours.enter(sql, nurse)

        def metrics(table: str) -> set[int]:
            return {row[0] for row in sql.execute(f"SELECT DISTINCT metric_id FROM {table}".encode())}

        def counted(table: str) -> int:
            row = sql.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
            assert row is not None
            return int(row[0])

        whole = (*tables, "baseline_band_view", "alert", "alert_event", "suppressed_finding", "patient", "device", "device_assignment")
        assert all(counted(table) for table in whole)
        assert all(steps in metrics(table) for table in tables)
        ours.consent(patient, "care", "withdrawn", ["activity"])
        for table in tables:
            assert metrics(table) == {catalogue()["heart_rate"].id}, table
        assert counted("baseline_band_view") == counted("suppressed_finding") == 0
        assert (counted("alert"), counted("alert_event")) == (1, 1)
        assert sql.execute("SELECT count(*) FROM readings(%s, %s::smallint, '2020-01-01Z', '2030-01-01Z')", [patient, steps]).fetchone() == (0,)
        ours.consent(patient, "care", "withdrawn")
        for table in whole:
            assert counted(table) == 0, table
        for statement in ("SELECT * FROM withheld(1, 'care', '{1}')", "SELECT * FROM withheld_at_the_doors('{1}')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                sql.execute(statement.encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):  # in somebody else's name
            sql.execute(
                """INSERT INTO consent (organisation_id, patient_id, purpose, decision, effective_at, relation, decided_by,
                                        form, reason, recorded_by, recorded_at)
                   VALUES (%s, %s, 'care', 'given', %s, 'self', '', 'x', '', %s, %s)""",
                [ours.organisation, patient, NOW, ours.person("eve"), NOW],
            )
        far = ours.person("far", team=ours.another_team())
        ours.enter(sql, far)
        assert sql.execute("SELECT count(*) FROM consent").fetchone() == (0,)
        assert sql.execute("SELECT count(*) FROM consent_state(%s)", [patient]).fetchone() == (0,)
        sql.execute("RESET keepwell.person")
        assert sql.execute("SELECT count(*) FROM consent_state(%s)", [patient]).fetchone() == (0,)


def test_the_list_of_what_is_withheld_is_made_once_a_query(ours: ApiData, migrated: Settings) -> None:
    patient = watched(ours)
    nurse = ours.person()
    with psycopg.connect(migrated.postgres.conninfo("api"), autocommit=True) as sql:
        ours.enter(sql, nurse)
        for query in (
            "SELECT * FROM reading_block_view WHERE patient_id = %s AND metric_id = 1 AND t0 > '2026-11-01Z'",
            "SELECT * FROM rollup_view WHERE patient_id = %s AND metric_id = 1 AND bucket_s = 3600 AND t0 > '2026-11-01Z'",
        ):
            plan = "\n".join(row[0] for row in sql.execute(f"EXPLAIN {query}".encode(), [patient]))
            assert "Index" in plan, plan
            called = [line for line in plan.splitlines() if "my_withheld_metrics" in line]
            assert all("Filter" not in line for line in called), plan
        plan = "\n".join(row[0] for row in sql.execute("EXPLAIN SELECT * FROM alert WHERE state = 'active'"))
        assert "hashed SubPlan" in plan, plan


def test_the_purposes_of_roles_and_the_defaults_are_the_same_in_sql(ours: ApiData) -> None:
    one = ours.connection.execute
    assert {role: purpose for role in ROLES if (purpose := one("SELECT purpose_of(%s)", [role]).fetchone()[0])} == PURPOSE_OF  # type: ignore[index]
    for purpose, basis in DEFAULT_BASIS.items():
        assert one("SELECT consent_basis(%s, %s)", [ours.organisation, purpose]).fetchone() == (basis,)
    assert one("SELECT consent_classes()").fetchone() == (list(CLASSES),)
    assert dict(one("SELECT key, data_class FROM metric").fetchall()) == {k: m.data_class for k, m in catalogue().items()}


@given(born=st.dates(date(1990, 1, 1), date(2020, 12, 31)), age=st.integers(13, 21), known=st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_birthday_is_the_same_in_sql(ours: ApiData, born: date, age: int, known: bool) -> None:
    facts = {"birth_date": born.isoformat()} if known else {"age_band": "under_16"}
    row = ours.connection.execute(
        "SELECT CASE WHEN isfinite(u) THEN u END, u > '2100-01-01Z' FROM (SELECT minor_until(%s, %s) AS u) AS x", [Jsonb(facts), age]
    ).fetchone()
    assert row is not None
    until = minor_until(facts, age)
    assert (until is not None and until.year == 9999) == row[1]
    if known:
        assert row[0] == until


SAYING = st.tuples(
    st.sampled_from(["given", "refused", "withdrawn"]),
    st.one_of(st.none(), st.frozensets(st.sampled_from(CLASSES), min_size=1)),
    st.integers(-90, 90),
    st.one_of(st.none(), st.integers(1, 90)),
)


@given(st.lists(SAYING, max_size=6), st.sampled_from(["research", "programme", "care"]), st.sampled_from(["consent", "other"]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_stands_is_the_same_in_sql(ours: ApiData, history: list[Any], purpose: str, basis: str) -> None:
    with ours.connection.transaction(force_rollback=True):
        ours.rests(**{purpose: basis})
        patient = ours.patient("same")
        decisions = []
        for said_, about, begins, lasts in history:
            effective = NOW + timedelta(minutes=begins)
            ends = effective + timedelta(minutes=lasts) if lasts and said_ == "given" else None
            number = ours.consent(patient, purpose, said_, sorted(about) if about else None, at=effective, expires=ends)
            decisions.append(Decision(number, about, said_, effective, ends))
        for minute in (-91, -30, 0, 30, 200):
            at = NOW + timedelta(minutes=minute)
            ours.connection.execute("SELECT set_config('keepwell.at', %s, true)", [at.isoformat()])
            rows = ours.connection.execute(
                "SELECT data_class, decision_id, holds, withheld FROM consent_state(%s) WHERE purpose = %s", [patient, purpose]
            ).fetchall()
            for name, number, holds, gone in rows:
                stands = standing(decisions, name, at)
                assert (number, holds) == (stands and stands.id, stands is not None and stands.holds(at))
                assert gone == (name in withheld(decisions, purpose, basis, at))
