"""What the API writes into its audit, who may search it, and what a patient is shown of it."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from services.api import audit_words
from services.api.sealer import EVERY_S
from services.settings import Settings
from services.store import checkpoints
from tests.api_data import NOW, ApiData
from tests.fix_api import ServedApi, serve
from tests.fix_audit import Chain

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[2]


def written(ours: ApiData, action: str) -> list[dict[str, Any]]:
    """Every row of an action, as JSON, the oldest first."""
    query = "SELECT to_jsonb(a) FROM access_audit a WHERE organisation_id = %s AND action = %s ORDER BY id"
    return [row[0] for row in ours.connection.execute(query, [ours.organisation, action])]


async def got(client: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    answer = await client.get(path, params=parameters or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_row_says_who_as_what_why_from_where_and_with_which_request(api: ServedApi, ours: ApiData) -> None:
    ada, patient = ours.person(), ours.patient("p1")
    async with api.client(ours.token(ada)) as client:
        client.headers["User-Agent"] = "ward-tablet/3 " + "x" * 500
        client.headers["X-Request-Id"] = "mine"
        answer = await client.get("/v1/patients/p1")
        ours.connection.execute("UPDATE person SET role = 'clinician' WHERE id = %s", [ada])
        await client.get("/v1/patients/p1")
    first, second = written(ours, "patient.read")
    assert (first["actor"], first["person_id"], first["patient_id"]) == ("person", ada, patient)
    assert (first["role"], second["role"]) == ("nurse", "clinician")
    assert (first["purpose"], first["reason"], first["outcome"]) == ("care", "", "allowed")
    assert (first["address"], first["agent"][:13], len(first["agent"])) == ("127.0.0.1", "ward-tablet/3", 120)
    assert first["request_id"] == answer.headers["x-request-id"]
    assert first["request_id"] not in ("mine", second["request_id"])


async def test_what_was_refused_or_failed_is_written_though_it_was_rolled_back(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    alert = ours.alert(patient)
    async with api.client(ours.token(ours.person(role="administrator"))) as client:
        assert (await client.post(f"/v1/alerts/{alert}/acknowledge")).status_code == 403
        assert (await client.get("/v1/patients/nobody")).status_code == 404
    async with api.client(ours.token(ours.person("nina"))) as client:
        assert (await client.get("/v1/patients/p1/trends?metric=nothing")).status_code == 422
    (refused,) = written(ours, "alert.acknowledge")
    assert (refused["outcome"], refused["detail"]["code"]) == ("refused", "role_not_allowed")
    (unknown,) = written(ours, "patient.read")
    assert (unknown["outcome"], unknown["patient_id"]) == ("refused", None)
    (failed,) = written(ours, "trend.read")
    assert (failed["outcome"], failed["patient_id"]) == ("failed", patient)


async def test_what_cannot_be_audited_is_not_answered(api: ServedApi, ours: ApiData) -> None:
    ours.patient("p1")
    async with api.client(ours.token(ours.person())) as client:
        ours.connection.execute(
            "ALTER TABLE access_audit ADD CONSTRAINT broken CHECK (action <> 'patient.read') NOT VALID"
        )
        try:
            assert (await client.get("/v1/patients/p1")).status_code == 500
        finally:
            ours.connection.execute("ALTER TABLE access_audit DROP CONSTRAINT broken")
        assert (await client.get("/v1/patients/p1")).status_code == 200
    assert len(written(ours, "patient.read")) == 1


async def test_administrators_search_their_own_organisation_only(
    api: ServedApi, ours: ApiData, theirs: ApiData
) -> None:
    patient, other = ours.patient("p1"), ours.patient("p2")
    boss = ours.person("boss", "administrator", "Bo Boss")
    theirs.patient("p1")
    async with api.client(theirs.token(theirs.person())) as client:
        await got(client, "/v1/patients/p1")
    async with api.client(ours.token(ours.person())) as client:
        await got(client, "/v1/patients/p1")
        await got(client, "/v1/worklist")
        refused = await client.get("/v1/audit")
        assert (refused.status_code, refused.json()["code"]) == (403, "role_not_allowed")
    async with api.client(ours.token(boss)) as client:
        page = await got(client, "/v1/audit", limit=2)
        assert [row["action"] for row in page["items"]] == ["audit.read", "worklist.read"]
        assert page["items"][0]["outcome"] == "refused"
        assert page["items"][1]["patients"] == ["p1", "p2"]
        assert page["items"][1]["person"] == {"id": "ada", "name": "Ada Nurse"}
        rest = await got(client, "/v1/audit", limit=2, cursor=page["next"])
        assert [row["action"] for row in rest["items"]] == ["patient.read"]
        assert rest["next"] is None

        async def actions(**wanted: str) -> list[str]:
            return [row["action"] for row in (await got(client, "/v1/audit", **wanted))["items"]]

        assert await actions(patient="p2") == ["worklist.read"]
        assert await actions(patient="p1", action="patient.read") == ["patient.read"]
        assert set(await actions(person="boss")) == {"audit.read"}
        assert await actions(to=(NOW - timedelta(seconds=1)).isoformat()) == []
        assert await actions(person="ada", **{"from": NOW.isoformat()}) == [
            "audit.read",
            "worklist.read",
            "patient.read",
        ]
        assert (await client.get("/v1/audit?person=nobody")).status_code == 404
    assert [row["patient_id"] for row in written(ours, "audit.read") if row["patient_id"]] == [other, patient]


async def test_a_patients_list_says_who_saw_what_in_plain_words(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    ours.connection.execute(
        """INSERT INTO access_audit (at, organisation_id, actor, action, patient_id, purpose)
           VALUES (%s, %s, 'command', 'export.made', %s, 'operations')""",
        [NOW, ours.organisation, patient],
    )
    async with api.client(ours.token(ours.person("bo", "clinician", "Bo"))) as client:
        await client.get("/v1/patients/p1/trends?metric=nothing")
    async with api.client(ours.token(ours.person())) as client:
        for _ in range(3):
            await got(client, "/v1/worklist")
        await got(client, "/v1/patients/p1/trends?metric=heart_rate")
        api.credential_clock.advance(3_600_000 * 5)  # past midnight in Berlin
        try:
            await got(client, "/v1/patients/p1")
            page = await got(client, "/v1/patients/p1/accesses", limit=2)
            rest = await got(client, "/v1/patients/p1/accesses", limit=9, cursor=page["next"])
        finally:
            api.credential_clock.advance(-3_600_000 * 5)
    items = page["items"] + rest["items"]
    assert [(item["day"], item["sentence"]) for item in items] == [
        ("2026-11-23", "Ada Nurse (nurse) opened your page, for your care."),
        ("2026-11-22", "Ada Nurse (nurse) looked at a chart of your readings, for your care."),
        ("2026-11-22", "Ada Nurse (nurse) saw you on the worklist, for your care, 3 times."),
        (
            "2026-11-22",
            "Bo (clinician) tried and did not get through: it would have been “looked at a chart of your readings”.",
        ),
        ("2026-11-22", "The operators of this service used your data (export.made), to run this service."),
    ]
    assert items[2]["times"] == 3


def test_every_action_has_words() -> None:
    """Whatever is audited in the code can be told to a patient."""
    found = set()
    for path in [*(ROOT / "services" / "api").glob("*.py"), *(ROOT / "services" / "web").glob("*.py")]:
        found |= set(re.findall(r'scoped\(request, "([a-z_.]+)"', path.read_text("utf-8")))
    for path in (ROOT / "services" / "cli").glob("*.py"):
        found |= set(re.findall(r'noted_of\(\s*(?:\w+\.)?connection, "([a-z_.]+)"', path.read_text("utf-8")))
    assert len(found) > 20
    assert found <= audit_words.WHAT.keys() | {"person.login_link"}


@pytest.mark.parametrize(("proxies", "address"), [("", "127.0.0.1"), ("127.0.0.1", "203.0.113.7")])
async def test_a_forwarded_address_is_believed_only_of_a_proxy_that_was_named(
    migrated: Settings, ours: ApiData, proxies: str, address: str
) -> None:
    chosen = migrated.api.model_copy(update={"trusted_proxies": proxies})
    ours.patient("p1")
    async with (
        serve(migrated.model_copy(update={"api": chosen})) as served,
        served.client(ours.token(ours.person())) as client,
    ):
        client.headers["X-Forwarded-For"] = "198.51.100.1, 203.0.113.7"
        await got(client, "/v1/patients/p1")
    assert [row["address"] for row in written(ours, "patient.read")] == [address]


# ------------------------------------------------------------------ the sealer in the API's process


async def test_rows_are_sealed_within_seconds_and_a_checkpoint_is_written(chain: Chain) -> None:
    chain.write("one", "two")
    async with serve(chain.settings) as served:
        async with asyncio.timeout(20):
            while chain.verify().waiting or chain.verify().rows < 2:
                await asyncio.sleep(0.1)
            file = checkpoints.beside(chain.settings.stack.home, chain.settings.postgres.database)
            while not file.exists():
                await asyncio.sleep(0.1)
        cut = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND usename = 'keepwell_api'"""
        assert chain.admin.execute(cut).fetchone() != (0,)
        chain.write("after it was cut")
        async with asyncio.timeout(20):
            while chain.verify().rows < 3:
                await asyncio.sleep(EVERY_S / 2)
        assert served.app.state.sealer.lag_s < 15
    (point,) = checkpoints.read(file)
    assert (point.number, point.total) == (1, 2)
    assert chain.verify(point).trouble is None


async def test_the_lag_grows_while_nothing_can_be_sealed(chain: Chain) -> None:
    async with serve(chain.settings) as served:
        with psycopg.connect(chain.settings.postgres.conninfo("admin")) as holds:
            holds.execute("SELECT pg_current_xact_id()")
            chain.write("held back")
            async with asyncio.timeout(20):
                while served.app.state.sealer.lag_s < 2:
                    await asyncio.sleep(0.1)
            holds.rollback()
        async with asyncio.timeout(20):
            while served.app.state.sealer.lag_s > 0:
                await asyncio.sleep(0.1)
    assert chain.verify().rows == 1
