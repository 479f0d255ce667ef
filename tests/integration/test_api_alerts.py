"""Alerts over the REST API: listed, filtered, acknowledged once and by who saw them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.api_data import NOW, ApiData
from tests.fix_api import ServedApi
from tests.integration.test_api import got, problem

pytestmark = pytest.mark.stack


async def test_alerts_are_filtered_and_paged(api: ServedApi, ours: ApiData) -> None:
    first, second = ours.patient("p1"), ours.patient("p2")
    made = [
        str(ours.alert(first, started_at=NOW - timedelta(hours=i), priority="low" if i % 2 else "high"))
        for i in range(6)
    ]
    late = str(ours.alert(second, late=True, state="resolved", kind="technical", started_at=NOW - timedelta(days=2)))
    async with api.client(ours.token(ours.person())) as client:
        page = await got(client, "/v1/alerts", limit=4)
        rest = await got(client, "/v1/alerts", limit=4, cursor=page["next"])
        assert [a["id"] for a in page["items"] + rest["items"]] == [*made, late]
        assert rest["next"] is None

        async def ids(**filters: Any) -> list[str]:
            return [a["id"] for a in (await got(client, "/v1/alerts", **filters))["items"]]

        assert await ids(patient="p2") == await ids(late=True) == await ids(kind="technical") == [late]
        assert await ids(state="resolved") == [late]
        assert await ids(patient="p1", priority="low") == made[1::2]
        assert await ids(acknowledged=True) == []
        problem(await client.get("/v1/alerts?state=open"), 422, "invalid")


async def test_acknowledging_is_done_once_however_often_it_is_sent(api: ServedApi, ours: ApiData) -> None:
    patient, ada = ours.patient("p1"), ours.person()
    alert = ours.alert(patient)
    async with api.client(ours.token(ada)) as client:
        seen = await client.get(f"/v1/alerts/{alert}")
        headers = {"Idempotency-Key": "k1", "If-Match": seen.headers["etag"]}
        path = f"/v1/alerts/{alert}/acknowledge"
        first = await client.post(path, json={"note": "called, she is fine"}, headers=headers)
        assert first.status_code == 200
        assert first.json()["acknowledged"]["by"]["id"] == "ada"
        assert first.headers["etag"] != seen.headers["etag"]
        again = await client.post(path, json={"note": "called, she is fine"}, headers=headers)
        assert again.json() == first.json()
        assert (await client.post(path)).json() == first.json()
        problem(await client.post(path, json={"note": "else"}, headers={"Idempotency-Key": "k1"}), 409, "key_reused")
        problem(await client.post(path, json={"not": 1}), 422, "invalid")
    query = "SELECT sentence, person_id FROM alert_event WHERE alert_id = %s AND change = 'acknowledged'"
    rows = ours.connection.execute(query, [alert]).fetchall()
    assert rows == [("Acknowledged by Ada Nurse: called, she is fine", ada)]
    assert [row[:2] for row in ours.audit("alert.acknowledge")] == [(ada, patient)] * 3


async def test_an_alert_that_worsened_is_not_acknowledged_by_who_did_not_see_it(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    alert = ours.alert(patient, priority="medium")
    async with api.client(ours.token(ours.person())) as client:
        etag = (await client.get(f"/v1/alerts/{alert}")).headers["etag"]
        ours.connection.execute("UPDATE alert SET last_evidence_at = now() WHERE id = %s", [alert])
        assert (await client.get(f"/v1/alerts/{alert}")).headers["etag"] == etag
        ours.connection.execute("UPDATE alert SET priority = 'high' WHERE id = %s", [alert])
        path = f"/v1/alerts/{alert}/acknowledge"
        refused = problem(await client.post(path, headers={"If-Match": etag}), 412, "changed_meanwhile")
        assert (await client.post(path, headers={"If-Match": refused["etag"]})).status_code == 200


@pytest.mark.parametrize("state", ["resolved", "withdrawn"])
async def test_a_closed_alert_cannot_be_acknowledged(api: ServedApi, ours: ApiData, state: str) -> None:
    alert = ours.alert(ours.patient("p1"), state=state, resolved_at=NOW)
    async with api.client(ours.token(ours.person())) as client:
        problem(await client.post(f"/v1/alerts/{alert}/acknowledge"), 409, "alert_closed")


async def test_an_administrator_does_not_acknowledge(api: ServedApi, ours: ApiData) -> None:
    alert = ours.alert(ours.patient("p1"))
    async with api.client(ours.token(ours.person("root", "administrator"))) as client:
        problem(await client.post(f"/v1/alerts/{alert}/acknowledge"), 403, "role_not_allowed")
