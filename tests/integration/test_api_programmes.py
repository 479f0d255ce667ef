"""Programmes, enrolments and the organisation's limits through the API."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api_data import NOW, ApiData
from tests.fix_api import ServedApi
from tests.integration.test_api import got, problem
from tests.integration.test_api_changes import outbox

pytestmark = pytest.mark.stack

HEART: dict[str, Any] = {
    "name": "Heart failure at home",
    "hours": {
        "time_zone": "Europe/Vienna",
        "from": "08:00",
        "to": "18:00",
        "days": ["mon", "tue", "wed", "thu", "fri"],
    },
    "cover": "the emergency ward's nurse looks at high alerts",
    "ladder": [
        {"after_min": 0, "role": "nurse"},
        {"after_min": 5, "person": "ada"},
        {"after_min": 30, "role": "clinician"},
    ],
    "alert_budget": 0.5,
    "limits": {"tachycardia_at_rest": {"levels": [120, 140]}},
}
ENROLMENTS = "/v1/patients/p1/enrolments"
CONSENT = {"given_on": "2026-11-20", "form": "home monitoring, version 3"}


async def put(client: httpx.AsyncClient, path: str, expected: int = 200, **body: Any) -> dict[str, Any]:
    answer = await client.put(path, json=body)
    assert answer.status_code == expected, answer.text
    document: dict[str, Any] = answer.json()
    return document


def paired(data: ApiData, patient: int) -> None:
    """A device that the patient has had since yesterday."""
    (device,) = data.connection.execute(
        "INSERT INTO device (organisation_id, key, created_at) VALUES (%s, %s, %s) RETURNING id",
        [data.organisation, f"w-{data.organisation}", NOW],
    ).fetchone() or (0,)
    data.connection.execute(
        "INSERT INTO device_assignment (device_id, patient_id, valid_from) VALUES (%s, %s, '2026-11-01Z')",
        [device, patient],
    )
    data.connection.commit()


async def test_a_programme_whose_ladder_does_not_end_in_a_role_is_not_activated(api: ServedApi, ours: ApiData) -> None:
    lacking: list[tuple[str, dict[str, Any]]] = [
        ("ladder", {"ladder": HEART["ladder"][:2]}), ("ladder", {"ladder": []}), ("cover", {"cover": " "}),
        ("hours", {"hours": None}),
    ]  # fmt: skip
    async with api.client(ours.token(ours.person("ada", "clinician"))) as client:
        for field, other in lacking:
            draft = await put(client, "/v1/programmes/heart", programme=HEART | other)
            assert (draft["state"], draft["missing"]["field"]) == ("draft", field)
            refused = await put(client, "/v1/programmes/heart/state", 422, state="active")
            assert (refused["field"], refused["code"]) == (field, "invalid")
        assert "ends with the person ada" in (await put(client, "/v1/programmes/heart", programme=HEART | lacking[0][1]))["missing"]["needed"]  # fmt: skip
        await put(client, "/v1/programmes/heart", programme=HEART)
        active = await put(client, "/v1/programmes/heart/state", state="active", reason="start of December")
        assert (active["state"], active["missing"], active["version"]) == ("active", None, 7)
        spoilt = await put(client, "/v1/programmes/heart", 422, programme=HEART | lacking[0][1])
        assert spoilt["field"] == "ladder", "an active one stays fit to be used"
        stale = await client.put("/v1/programmes/heart", json={"programme": HEART}, headers={"If-Match": '"3"'})
        assert problem(stale, 409, "stale_version")["version"] == 7
        history = (await got(client, "/v1/programmes/heart"))["history"]
        assert [entry["version"] for entry in history] == [7, 6, 5, 4, 3, 2, 1]
        assert history[0]["by"]["id"] == "ada"
        for field, other in (
            ("ladder[1].after_min", {"ladder": [{"after_min": 5, "role": "nurse"}, {"after_min": 5, "role": "nurse"}]}),
            ("ladder[0].role", {"ladder": [{"after_min": 0, "role": "patient"}]}),
            ("ladder[0]", {"ladder": [{"after_min": 0}]}),
            ("hours.time_zone", {"hours": {"time_zone": "Mars/Crater"}}),
            ("alert_budget", {"alert_budget": 0}),
            ("spo2_low.levels[0]", {"limits": {"spo2_low": {"levels": [20, 10]}}}),
        ):
            assert (await put(client, "/v1/programmes/heart", 422, programme=HEART | other))["field"] == field
    async with api.client(ours.token(ours.person("cora", "administrator"))) as client:
        renamed = await put(client, "/v1/programmes/heart", programme=HEART | {"name": "Heart"})
        assert renamed["programme"]["name"] == "Heart"
        assert (await put(client, "/v1/programmes/heart", 422, programme=HEART | {"limits": {}}))["field"] == "limits"
    async with api.client(ours.token(ours.person("ned", "nurse"))) as client:
        problem(await client.put("/v1/programmes/heart", json={"programme": HEART}), 403, "role_not_allowed")


async def test_a_patient_comes_through_a_programme_step_by_step_and_its_limits_come_along(
    api: ServedApi, ours: ApiData
) -> None:
    patient, doctor, nurse = ours.patient("p1"), ours.person("ada", "clinician"), ours.person("ned", "nurse")
    path = f"{ENROLMENTS}/heart"
    async with api.client(ours.token(doctor)) as ada, api.client(ours.token(nurse)) as ned:
        problem(await ned.put(path, json={"state": "eligible"}), 404, "not_found")
        await put(ada, "/v1/programmes/heart", programme=HEART)
        assert "activate it first" in (await put(ned, path, 422, state="eligible"))["allowed"]
        await put(ada, "/v1/programmes/heart/state", state="active")
        first = await put(ned, path, state="eligible")
        assert first["next"] == ["consented", "discharged"]
        illegal = await put(ned, path, 422, state="active")
        assert illegal["allowed"] == "consented, discharged, after eligible"
        assert (await put(ned, path, 422, state="consented"))["field"] == "facts"
        late = {"given_on": "2027-01-01", "form": "x"}
        assert (await put(ned, path, 422, state="consented", facts=late))["field"] == "facts.given_on"
        await put(ned, path, state="consented", facts=CONSENT)
        assert "for a clinician to say" in (await put(ned, path, 422, state="ordered"))["allowed"]
        await put(ada, path, state="ordered")
        assert "device" in (await put(ned, path, 422, state="device_paired"))["allowed"]
        paired(ours, patient)
        await put(ned, path, state="device_paired")
        assert outbox(ours, patient) == []
        await put(ned, path, state="learning")
        await put(ned, path, state="active")
        stale = await ned.put(path, json={"state": "paused", "reason": "x"}, headers={"If-Match": '"2"'})
        assert problem(stale, 409, "stale_version")["version"] == 6
        rule = {r["rule"]: r for r in (await got(ned, "/v1/patients/p1/limits"))["rules"]}["tachycardia_at_rest"]
        assert ([level["threshold"] for level in rule["levels"]], rule["origin"]) == ([120, 140], "programme")
        assert rule["set"][0]["of"] == "programme/heart"
        await put(ada, "/v1/programmes/heart", programme=HEART | {"limits": {"fever": {"levels": [38, 39]}}})
        assert (await put(ada, "/v1/programmes/heart/state", 422, state="retired"))["field"] == "state"
        assert (await put(ned, path, 422, state="discharged"))["field"] == "reason"
        last = await put(ned, path, state="discharged", reason="well again")
        assert [entry["to"] for entry in last["history"]][::-1] == [
            "eligible", "consented", "ordered", "device_paired", "learning", "active", "discharged"
        ]  # fmt: skip
        assert last["history"][-2]["facts"] == CONSENT
        assert (await got(ned, "/v1/patients/p1"))["limits_individualised"] is False
        (item,) = (await got(ada, "/v1/programmes"))["items"]
        assert item["patients"] == {"discharged": 1}
    told = [(m.subject, m.version, m.payload["rules"]) for m in outbox(ours, patient)]
    assert told == [
        ("programme/heart", 1, HEART["limits"]),
        ("programme/heart", 2, {"fever": {"levels": [38, 39]}}),
        ("programme/heart", 3, {}),
    ]


async def test_the_organisations_limits_reach_every_patient_in_one_transaction(
    api: ServedApi, ours: ApiData, theirs: ApiData
) -> None:
    patients = [ours.patient(f"p{i}") for i in range(5)]
    theirs.patient("p1")
    async with api.client(ours.token(ours.person("ada", "clinician"))) as client:
        answer = await put(client, "/v1/limits", rules={"glucose_low": {"persist_s": 120}}, reason="our protocol")
        assert (answer["version"], answer["patients_told"]) == (1, 5)
        assert (await put(client, "/v1/limits", 422, rules={"glucose_low": {"levels": [20, 10]}}))["field"]
        stale = await client.put("/v1/limits", json={"rules": {}}, headers={"If-Match": '"0"'})
        assert problem(stale, 409, "stale_version")["version"] == 1
        rule = {r["rule"]: r for r in (await got(client, "/v1/patients/p3/limits"))["rules"]}["glucose_low"]
        assert (rule["persist_s"], rule["origin"], rule["set"][0]["by"]["id"]) == (120, "organisation", "ada")
    rows = ours.connection.execute(
        "SELECT patient_id FROM patient_change WHERE kind = 'limits' AND organisation_id = %s ORDER BY 1",
        [ours.organisation],
    ).fetchall()
    assert [row[0] for row in rows] == patients
    async with api.client(theirs.token(theirs.person("eve", "clinician"))) as client:
        assert (await got(client, "/v1/limits"))["version"] == 0
        assert (await got(client, "/v1/programmes"))["items"] == []
    async with api.client(ours.token(ours.person("ned", "nurse"))) as client:
        problem(await client.put("/v1/limits", json={"rules": {}}), 403, "role_not_allowed")
