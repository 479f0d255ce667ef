"""What people change through the API: allowed, refused, written once, audited, and nobody else's to see."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from ingest.clock import to_ms
from services.control import ControlMessage
from services.processor.intake import take_in
from services.processor.records import Record
from services.settings import Settings
from tests.api_data import NOW, ApiData
from tests.fix_api import ServedApi
from tests.integration.test_api import got, problem

pytestmark = pytest.mark.stack

PAUSE = {"state": "paused", "until": "2026-11-25T08:00:00Z", "reason": "holiday without the watch"}


def outbox(data: ApiData, patient: int) -> list[ControlMessage]:
    """The changes of a patient that wait for the relay, as the processor would decode them."""
    rows = data.connection.execute(
        "SELECT id, topic, record_key, record FROM outbox WHERE organisation_id = %s ORDER BY id", [data.organisation]
    ).fetchall()
    assert all((topic, key) == ("control.v1", b"%d" % patient) for _, topic, key, _ in rows)
    taken = take_in([Record(topic, 0, number, key, record) for number, topic, key, record in rows])
    assert taken.dead == []
    return [record.message for record in taken.control]


async def test_a_pause_is_set_shown_and_relayed_once(api: ServedApi, ours: ApiData) -> None:
    ada, patient = ours.person(), ours.patient("p1")
    async with api.client(ours.token(ada)) as client:
        first = await client.get("/v1/patients/p1/monitoring")
        assert first.json()["state"] == "active"
        headers = {"If-Match": first.headers["etag"], "Idempotency-Key": "k1"}
        answers = [await client.put("/v1/patients/p1/monitoring", json=PAUSE, headers=headers) for _ in range(2)]
        assert [a.status_code for a in answers] == [200, 200], answers[0].text
        assert answers[0].json() == answers[1].json()
        assert answers[0].headers["etag"] == '"1"'
        shown = (await got(client, "/v1/patients/p1"))["monitoring"]
        assert (shown["state"], shown["until"], shown["version"]) == ("paused", "2026-11-25T08:00:00.000Z", 1)
        assert shown["by"] == {"id": "ada", "name": "Ada Nurse"}
        api.clock.set(to_ms(NOW + timedelta(days=4)))
        assert (await got(client, "/v1/patients/p1/monitoring"))["state"] == "active", "it ended by itself"
        api.clock.set(to_ms(NOW))
        refused = problem(
            await client.put("/v1/patients/p1/monitoring", json=PAUSE | {"reason": "other"}, headers=headers),
            409, "key_reused",
        )  # fmt: skip
        assert refused
        stale = await client.put("/v1/patients/p1/monitoring", json={"state": "active"}, headers={"If-Match": '"0"'})
        assert problem(stale, 409, "stale_version")["version"] == 1
        changes = (await got(client, "/v1/patients/p1/changes"))["items"]
    assert [(c["kind"], c["state"], c["version"], c["by"]["id"]) for c in changes] == [
        ("monitoring", "paused", 1, "ada")
    ]
    (message,) = outbox(ours, patient)
    assert (message.patient_id, message.kind, message.person_id) == (patient, "monitoring", ada)
    assert message.payload == {"state": "paused", "until_ms": 1_795_593_600_000}
    audited = ours.audit("patient.monitoring")
    assert [row[:2] for row in audited] == [(ada, patient)] * 2
    assert audited[0][2]["state"] == "paused"


async def test_what_is_not_allowed_is_refused_with_what_is(api: ServedApi, ours: ApiData) -> None:
    ours.patient("p1")
    refused: list[tuple[str, str, dict[str, Any]]] = [
        ("until", "monitoring", {"state": "paused", "reason": "x"}),
        ("reason", "monitoring", PAUSE | {"reason": " "}),
        ("state", "monitoring", {"state": "asleep"}),
        ("until", "monitoring", PAUSE | {"state": "deceased"}),
        ("until", "monitoring", PAUSE | {"until": "2020-01-01T00:00:00Z"}),
        ("effective_at", "monitoring", {"state": "active", "effective_at": "2020-01-01T00:00:00Z"}),
        ("metric", "new-normal", {"metric": "steps"}),
        ("If-Match", "new-normal", {"metric": "heart_rate"}),
    ]
    async with api.client(ours.token(ours.person())) as client:
        for field, path, body in refused:
            method = "PUT" if path == "monitoring" else "POST"
            headers = {"If-Match": "W/what"} if field == "If-Match" else {}
            answer = await client.request(method, f"/v1/patients/p1/{path}", json=body, headers=headers)
            assert problem(answer, 422, "invalid")["field"] == field
        problem(await client.put("/v1/patients/nobody/monitoring", json={"state": "active"}), 404, "not_found")
    async with api.client(ours.token(ours.person("eve", "administrator"))) as client:
        answer = await client.post("/v1/patients/p1/new-normal", json={"metric": "heart_rate"})
        problem(answer, 403, "role_not_allowed")
    assert ours.connection.execute("SELECT count(*) FROM outbox WHERE organisation_id = %s", [ours.organisation]).fetchone() == (0,)  # fmt: skip


async def test_of_two_who_write_at_once_one_is_told(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    async with api.client(ours.token(ours.person())) as client:
        answers = await asyncio.gather(
            *(
                client.post("/v1/patients/p1/new-normal", json={"metric": "heart_rate"}, headers={"If-Match": '"0"'})
                for _ in range(5)
            )
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
        again = await client.post("/v1/patients/p1/new-normal", json={"metric": "heart_rate", "reason": "new drug"})
        assert again.headers["etag"] == '"2"'
        assert again.json()["applied_from"] == "2026-11-22T20:00:00.000Z", "the next full hour"
    assert [message.version for message in outbox(ours, patient)] == [1, 2]


async def test_changes_are_nobody_elses_to_see_or_make(
    api: ServedApi, migrated: Settings, ours: ApiData, theirs: ApiData
) -> None:
    patient = theirs.patient("p1")
    async with api.client(theirs.token(theirs.person())) as client:
        assert (await client.put("/v1/patients/p1/monitoring", json=PAUSE)).status_code == 200
    theirs.connection.execute(
        """INSERT INTO suppressed_finding VALUES (%s, %s, 'device_silent', %s, %s, 'medium', 'paused', '…', %s)""",
        [theirs.organisation, patient, NOW, NOW, NOW],
    )
    async with api.client(ours.token(ours.person())) as client:
        for path in ("changes", "suppressed", "monitoring"):
            problem(await client.get(f"/v1/patients/p1/{path}"), 404, "not_found")
    with psycopg.connect(migrated.postgres.conninfo("api"), autocommit=True) as connection:
        for data, visible in ((None, 0), (ours, 0), (theirs, 1)):
            if data is not None:
                data.enter(connection, data.person("sql"))
            for table in ("patient_change", "suppressed_finding"):
                seen = connection.execute(f"SELECT count(*) FROM {table} WHERE patient_id = %s".encode(), [patient])
                assert seen.fetchone() == (visible,), table
        ours.enter(connection, ours.person("other"))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                """INSERT INTO patient_change (organisation_id, patient_id, kind, version, effective_at, payload, reason,
                   recorded_at) VALUES (%s, %s, 'monitoring', 9, %s, '{}', '', %s)""",
                [theirs.organisation, patient, NOW, NOW],
            )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                """INSERT INTO outbox (organisation_id, partition, topic, record_key, record, created_at)
                   VALUES (%s, 0, 'alerts.v1', '', '', %s)""",
                [ours.organisation, NOW],
            )
    async with api.client(theirs.token(theirs.person("bob"))) as client:
        items = (await got(client, "/v1/patients/p1/suppressed"))["items"]
        assert [item["monitoring"] for item in items] == ["paused"]
        assert (await got(client, "/v1/patients/p1"))["monitoring"]["suppressed"] == 1


async def test_whoever_was_discharged_leaves_the_worklist_and_a_pause_is_shown_there(
    api: ServedApi, ours: ApiData
) -> None:
    people = {key: ours.patient(key) for key in ("here", "away", "gone", "gone-open", "back")}
    ours.alert(people["gone-open"])
    gone = {"state": "discharged", "reason": "moved"}
    async with api.client(ours.token(ours.person())) as client:
        for key, body in (("away", PAUSE), ("gone", gone), ("gone-open", gone)):
            assert (await client.put(f"/v1/patients/{key}/monitoring", json=body)).status_code == 200
        before = PAUSE | {"effective_at": "2026-11-20T00:00:00Z", "until": "2026-11-21T00:00:00Z"}
        assert (await client.put("/v1/patients/back/monitoring", json=before)).status_code == 200
        page = await got(client, "/v1/worklist")
    shown = {row["patient"]["id"]: row["monitoring"] for row in page["items"]}
    assert shown == {"here": "active", "away": "paused", "gone-open": "discharged", "back": "active"}
    assert sum(page["summary"].values()) == 4
