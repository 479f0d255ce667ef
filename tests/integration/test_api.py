"""The REST API on the real database: who gets in, what they may not see, and how every answer is dressed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest

from ingest.clock import to_ms
from services.api.credentials import token_hash
from services.settings import Settings
from tests.api_data import HOUR_MS, NOW, ApiData, minutes
from tests.fix_api import ServedApi

pytestmark = pytest.mark.stack


async def got(client: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    answer = await client.get(path, params=parameters or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["code"] == code
    assert document["status"] == status
    assert document["detail"]
    return document


# ------------------------------------------------------------------ who may


async def test_nobody_without_a_live_credential_gets_in(api: ServedApi, ours: ApiData) -> None:
    ada = ours.person()
    expired = ours.token(ada, expires=NOW - timedelta(seconds=1))
    link = ours.token(ada, kind="login_link")
    revoked = ours.token(ada)
    ours.connection.execute("UPDATE person_token SET revoked_at = %s WHERE person_id = %s AND kind = 'api'", [NOW, ada])
    for token in ("", "wrong", expired, link, revoked, "x" * 5000):
        async with api.client(token) as client:
            for path in ("/v1/patients", "/v1/worklist", "/v1/alerts", "/v1/alerts/stream", "/v1/frames/x"):
                problem(await client.get(path), 401, "unauthenticated")


async def test_another_organisations_things_do_not_exist(api: ServedApi, ours: ApiData, theirs: ApiData) -> None:
    patient = theirs.patient("p1")
    device = theirs.device(f"{theirs.key}-watch", patient)
    alert = theirs.alert(patient)
    theirs.frame(f"{theirs.key}~s~1", patient, device)
    ours.patient("q1")
    async with api.client(ours.token(ours.person())) as client:
        assert [p["id"] for p in (await got(client, "/v1/patients"))["items"]] == ["q1"]
        assert (await got(client, "/v1/alerts"))["items"] == []
        assert len((await got(client, "/v1/worklist"))["items"]) == 1
        for path in (
            "/v1/patients/p1",
            "/v1/patients/p1/trends?metric=heart_rate",
            "/v1/alerts?patient=p1",
            f"/v1/alerts/{alert}",
        ):
            problem(await client.get(path), 404, "not_found")
        problem(await client.get(f"/v1/frames/{theirs.key}~s~1"), 404, "frame_not_processed")
        problem(await client.post(f"/v1/alerts/{alert}/acknowledge"), 404, "not_found")
    assert theirs.audit("patient.read") == []


async def test_the_database_role_is_no_owner_and_sees_nothing_on_its_own(migrated: Settings, ours: ApiData) -> None:
    patient = ours.patient("p1")
    device = ours.device(f"{ours.key}-watch", patient)
    ours.readings(patient, device, "heart_rate", *minutes(NOW - timedelta(hours=3), 180))
    ours.band(patient, "heart_rate", "rest", to_ms(NOW) // HOUR_MS * HOUR_MS - HOUR_MS, 62, 4)
    ours.alert(patient)
    ours.state(patient, "heart_rate", "normal")
    tables = (
        "patient", "device", "device_assignment", "person", "metric_state", "alert", "alert_event", "frame_log",
        "daily_value", "reading_conflict", "quarantined_reading", "request_key",
        "reading_block_view", "rollup_view", "baseline_band_view", "waveform_block_view",
    )  # fmt: skip
    with psycopg.connect(migrated.postgres.conninfo("api"), autocommit=True) as connection:
        for table in tables:
            assert connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (0,), table
        owned = connection.execute("SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole").fetchone()
        assert owned == (0,)
        role = connection.execute("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user").fetchone()
        assert role == (False, False)
        chunks = [
            row[0] for row in connection.execute("SELECT relname FROM pg_class WHERE relname ~ '^_hyper_.*_chunk$'")
        ]
        assert chunks
        refused = [
            "reading_block", "rollup", "baseline_band", "waveform_block", "patient_state", "person_token", "device_token",
            "outbox", *(f"_timescaledb_internal.{chunk}" for chunk in chunks),
        ]  # fmt: skip
        ours.enter(connection, ours.person())
        for table in refused:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT * FROM {table} LIMIT 1".encode())
        assert connection.execute("SELECT count(*) FROM reading_block_view").fetchone() != (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("UPDATE alert SET state = 'resolved'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM access_audit")


async def test_a_connection_returned_to_the_pool_remembers_no_organisation(api: ServedApi, ours: ApiData) -> None:
    ours.patient("p1")
    async with api.client(ours.token(ours.person())) as client:
        for _ in range(8):
            await got(client, "/v1/patients")
    from services.api.app import make_pool

    settings: Settings = api.app.state.settings
    async with make_pool(settings.postgres, size=1) as pool:
        from services.api.access import Access
        from services.api.scope import Origin

        access = Access(pool, api.credential_clock, settings.identity)
        async with access.for_credential(
            token_hash(ours.token(ours.person("bob"))), "patients.list", Origin("", "", "")
        ) as scope:
            row = await (await scope.connection.execute("SELECT count(*) FROM patient")).fetchone()
            assert row == (1,)
        async with pool.connection() as connection:
            row = await (await connection.execute("SELECT count(*) FROM patient")).fetchone()
            assert row == (0,)


async def test_each_read_leaves_an_audit_row_that_names_the_patient(api: ServedApi, ours: ApiData) -> None:
    ada = ours.person()
    patient, other = ours.patient("p1"), ours.patient("p2")
    device = ours.device(f"{ours.key}-watch", patient)
    alert = ours.alert(patient)
    ours.frame(f"{ours.key}~s~1", patient, device)
    async with api.client(ours.token(ada)) as client:
        for path, action in (
            ("/v1/patients/p1", "patient.read"),
            ("/v1/patients/p1/trends?metric=heart_rate", "trend.read"),
            (f"/v1/alerts/{alert}", "alert.read"),
            (f"/v1/frames/{ours.key}~s~1", "frame.read"),
        ):
            await got(client, path)
            assert [row[:2] for row in ours.audit(action)] == [(ada, patient)], action
        await got(client, "/v1/worklist")
        await got(client, "/v1/patients")
        await got(client, "/v1/alerts")
    assert ours.audit("worklist.read")[0][2]["patient_ids"] == [patient, other]
    assert ours.audit("patients.list")[0][2]["patient_ids"] == [patient, other]
    assert ours.audit("alerts.list")[0][2]["patient_ids"] == [patient]


# ------------------------------------------------------------------ signing in, and the edge


async def test_a_login_link_works_once_and_only_when_its_button_is_pressed(api: ServedApi, ours: ApiData) -> None:
    ours.patient("p1")
    link = ours.token(ours.person(), kind="login_link", expires=NOW + timedelta(minutes=15))
    same = {"Sec-Fetch-Site": "same-origin"}
    async with api.client() as client:
        for _ in range(3):  # a mail program looks before the person does
            page = await client.get(f"/login?token={link}")
            assert page.status_code == 200
            assert "set-cookie" not in page.headers
        problem_page = await client.get("/")
        assert problem_page.status_code == 401
        cross = await client.post("/login", data={"token": link}, headers={"Sec-Fetch-Site": "cross-site"})
        assert cross.status_code == 403
        answer = await client.post("/login", data={"token": link}, headers=same)
        assert answer.status_code == 303
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/v1/patients")).status_code == 200
        assert (await client.post("/login", data={"token": link}, headers=same)).status_code == 401
        assert (await client.post("/logout", headers=same)).status_code == 303
    async with api.client() as stolen:
        stolen.cookies.set("keepwell_session", cookie.split("=")[1].split(";")[0])
        assert (await stolen.get("/v1/patients")).status_code == 401


async def test_writes_from_other_sites_are_refused(api: ServedApi, ours: ApiData) -> None:
    alert = ours.alert(ours.patient("p1"))
    session = ours.token(ours.person(), kind="session")
    path = f"/v1/alerts/{alert}/acknowledge"
    async with api.client() as client:
        client.cookies.set("keepwell_session", session)
        for headers in (
            {},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
        ):
            problem(await client.post(path, headers=headers), 403, "cross_site")
        assert (await client.post(path, headers={"Origin": api.url})).status_code == 200


async def test_every_answer_is_dressed_and_bounded(api: ServedApi, ours: ApiData) -> None:
    async with api.client(ours.token(ours.person())) as client:
        for path in ("/", "/login", "/v1/patients", "/v1/none", "/healthz", "/static/app.css", "/patients/nobody"):
            answer = await client.get(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "http" not in policy
        assert (await client.get("/v1/patients")).headers["cache-control"] == "no-store"
        problem(await client.get("/v1/none"), 404, "not_found")
        problem(await client.delete("/v1/patients"), 405, "method_not_allowed")
        problem(await client.post("/v1/alerts/x/acknowledge", content=b"x" * 70_000), 413, "body_too_large")

        async def endless() -> Any:
            for _ in range(80):
                yield b"x" * 1000

        problem(await client.post("/v1/alerts/x/acknowledge", content=endless()), 413, "body_too_large")
        problem(await client.get("/v1/patients/%00"), 422, "invalid")
        assert (await client.get("/readyz")).json()["status"] == "ready", (await client.get("/readyz")).json()
